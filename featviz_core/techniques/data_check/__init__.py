"""Data check: is what the loaders give what the model should learn from?"""

from featviz_core.about import About
from featviz_core.lazy import lazily

ABOUT = About(
    slug="data_check",
    title="Data check",
    question="Is what my loaders give what I think they give?",
    icon=":material/fact_check:",
    symptoms=(
        "the loss stays at ln C, or falls and the pictures you try by hand are still told wrong,",
        "validation is far better or far worse than it should be,",
        "you changed the data set, its folders or its transforms and want to know that nothing broke.",
    ),
    how_to_read=(
        "**Start with the table of batches**: shape (N, C, H, W), a floating-point type, a range that fits your "
        "normalisation, and labels from 0 to C − 1. Most broken set-ups show there.",
        "**Healthy:** channel means near 0 and standard deviations near 1 after normalisation (0 to 1 is fine too), "
        "every class present, a training order without long runs of one class, no picture in both training and "
        "validation.",
        "**Unhealthy:** values up to 255, values far outside of what the stated normalisation can give, a class that "
        "never comes, labels that start at 1, the same picture under two labels, or in both sets.",
        "**Look at the pictures, too.** Blurred, dark or odd ones are listed to be looked at, not to be thrown away: "
        "the camera may be like that. A label that the model's features disagree with is wrong in some cases and "
        "merely hard in others.",
    ),
    references=(
        ("Karpathy: A Recipe for Training Neural Networks (2019)", "https://karpathy.github.io/2019/04/25/recipe/"),
        (
            "Barz and Denzler: Do We Train on Test Data? Purging CIFAR of Near-Duplicates (2020)",
            "https://arxiv.org/abs/1902.00423",
        ),
        (
            "Northcutt, Jiang and Chuang: Confident Learning: Estimating Uncertainty in Dataset Labels (JAIR 2021)",
            "https://arxiv.org/abs/1911.00068",
        ),
        (
            "Chan, Golub and LeVeque: Algorithms for Computing the Sample Variance (1983)",
            "https://doi.org/10.1080/00031305.1983.10483115",
        ),
    ),
)

__all__ = [
    "DataCheck",
    "check_augmentation",
    "check_dataloader",
    "check_experiment_data",
    "check_loader_speed",
    "check_picture_folders",
]
__getattr__ = lazily(
    __name__,
    {
        "DataCheck": "result",
        "SUSPECT_KINDS": "result",
        "check_augmentation": "augmentation",
        "check_dataloader": "compute",
        "check_experiment_data": "compute",
        "check_loader_speed": "speed",
        "check_picture_folders": "from_folders",
        "preview": "examples",
    },
)
