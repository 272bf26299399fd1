"""Activation statistics: the health of every layer, in one pass."""

from featviz_core.about import About
from featviz_core.lazy import lazily

ABOUT = About(
    slug="activation_stats",
    title="Activation statistics",
    question="Which layers vanish, explode, die or saturate on the way through my model?",
    icon=":material/equalizer:",
    symptoms=(
        "the loss does not move, or turns into NaN after some steps,",
        "a deep model trains worse than a shallow one,",
        "two models, or two modes of one, answer differently and you want to know from which layer on.",
    ),
    how_to_read=(
        "**Each layer is one column, from the picture to the answer.** The band reaches one standard deviation to both "
        "sides of the mean, the thin line from the smallest to the largest value. In the heat map each layer is one "
        "column of its histogram, on bins that all layers share.",
        "**Healthy:** the spread stays within a few powers of ten through the whole model, without a trend; at most "
        "about half of the channels behind a ReLU are silent for all pictures; channels differ from picture to "
        "picture.",
        "**Unhealthy:** a spread that shrinks or grows layer by layer (weights too small or too large at the start, no "
        "normalisation), layers whose channels are dead, sigmoids or tanhs that stay at their ends, and any NaN: the "
        "layer where the first one appears is named.",
        "The level of the spread says little: healthy networks have layers far from 1. Its trend does. One picture can "
        "leave a healthy channel silent, so call it dead only after many pictures.",
    ),
    references=(
        (
            "Glorot and Bengio: Understanding the Difficulty of Training Deep Feedforward Networks (AISTATS 2010)",
            "https://proceedings.mlr.press/v9/glorot10a.html",
        ),
        (
            "He et al.: Delving Deep into Rectifiers (ICCV 2015)",
            "https://arxiv.org/abs/1502.01852",
        ),
        (
            "Chan, Golub and LeVeque: Updating Formulae and a Pairwise Algorithm for Computing Sample Variances (1979)",
            "https://doi.org/10.1007/978-3-642-51461-6_3",
        ),
    ),
)

__all__ = [
    "ActivationComparison",
    "ActivationStats",
    "TopPictures",
    "activation_stats",
    "compare_activations",
    "experiment_activations",
    "experiment_top_pictures",
    "fresh_activation_stats",
    "top_pictures",
]
__getattr__ = lazily(
    __name__,
    {
        "ActivationComparison": "compare",
        "ActivationStats": "result",
        "LayerStats": "result",
        "TopPictures": "strongest",
        "activation_stats": "compute",
        "compare_activations": "compare",
        "experiment_activations": "of_experiment",
        "experiment_top_pictures": "of_experiment",
        "fresh_activation_stats": "fresh",
        "preview": "examples",
        "top_pictures": "strongest",
    },
)
