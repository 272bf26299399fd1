"""Output check: whether what the model gives can be trained on and trusted, before anybody looks at a loss curve."""

from featviz_core.about import About
from featviz_core.lazy import lazily

ABOUT = About(
    slug="output_check",
    title="Output check",
    question="Is what my model gives right: shape, range, one answer for one picture?",
    icon=":material/rule:",
    symptoms=(
        "the loss starts at a strange value, does not move, or turns into NaN,",
        "validation differs from training, or from one run to the next,",
        "the model gives the same answer to every picture.",
    ),
    how_to_read=(
        "**Healthy logits** are one row of raw scores for each picture, one score for each class: finite, of any sign, "
        "and different from picture to picture. In eval mode the same picture gets the same scores, in whatever "
        "company it comes.",
        "**Unhealthy:** rows that sum to 1 (a softmax before a loss that has its own), NaN (the table by layer says "
        "where it begins), the same row for every picture (dead units, or weights that do not arrive), scores that "
        "change from pass to pass (dropout left on), or that depend on the neighbours in the batch.",
        "**Against labels:** a model that knows nothing pays ln C of cross-entropy for C classes. More than that means "
        "it is sure and wrong: labels in another order, another preprocessing, or too large a start. In the "
        "reliability curve, a line below the diagonal is overconfidence.",
        "**Training against eval mode:** dropout and BatchNorm make a difference that is meant. Answers that fall "
        "apart in eval mode alone mean that BatchNorm's running statistics do not describe this data.",
    ),
    references=(
        (
            "Guo et al.: On Calibration of Modern Neural Networks (ICML 2017)",
            "https://arxiv.org/abs/1706.04599",
        ),
        (
            "Ioffe and Szegedy: Batch Normalization (ICML 2015)",
            "https://arxiv.org/abs/1502.03167",
        ),
        (
            "Karpathy: A Recipe for Training Neural Networks (2019)",
            "https://karpathy.github.io/2019/04/25/recipe/",
        ),
    ),
)

__all__ = ["ExperimentOutput", "ModelOutput", "check_experiment_output", "check_model_output"]
__getattr__ = lazily(
    __name__,
    {
        "ModelOutput": "result",
        "Behaviour": "result",
        "Labelled": "result",
        "Step": "result",
        "check_model_output": "compute",
        "ExperimentOutput": "of_experiment",
        "check_experiment_output": "of_experiment",
        "preview": "examples",
    },
)
