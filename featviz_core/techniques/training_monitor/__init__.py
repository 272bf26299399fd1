"""Training monitor: what a training writes down while it runs, and what its curves say."""

from featviz_core.about import About
from featviz_core.lazy import lazily

ABOUT = About(
    slug="training_monitor",
    title="Training monitor",
    question="How does my training go: does it learn, overfit, diverge, or stand still?",
    icon=":material/monitoring:",
    symptoms=(
        "the loss falls, but validation does not follow,",
        "the curves jump, stand still or end in NaN, and nobody knows since when,",
        "two runs differ, and you want to see where they part.",
    ),
    how_to_read=(
        "**Healthy:** training and validation loss fall together, fast at first, then slower; accuracy rises with "
        "them. Training a little better than validation is normal.",
        "**Overfitting:** training goes on falling while validation turns and rises. The best moment was at the turn. "
        "**Underfitting:** both stand still early, close together and high.",
        "**Learning rate:** too high, and the loss jumps or rises from the start; too low, and it falls as a straight, "
        "flat line that is still falling when the run ends.",
        "**Validation better than training** is often fine: dropout and augmentation make training harder, and the "
        "training value is an average over an epoch during which the model still got better.",
    ),
    references=(
        ("Karpathy: A Recipe for Training Neural Networks (2019)", "https://karpathy.github.io/2019/04/25/recipe/"),
        (
            "Smith: Cyclical Learning Rates for Training Neural Networks (WACV 2017)",
            "https://arxiv.org/abs/1506.01186",
        ),
        (
            "Prechelt: Early Stopping — But When? (1998)",
            "https://doi.org/10.1007/3-540-49430-8_3",
        ),
    ),
)

__all__ = ["TrainingMonitor"]
__getattr__ = lazily(__name__, {"TrainingMonitor": "monitor", "preview": "examples"})
