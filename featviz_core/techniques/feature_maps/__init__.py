"""Feature maps: what every channel of a layer sees in a picture."""

from featviz_core.about import About
from featviz_core.lazy import lazily

ABOUT = About(
    slug="feature_maps",
    title="Feature maps",
    question="What does each channel of a layer see in my picture?",
    icon=":material/grid_view:",
    symptoms=(
        "you want to see what the model looks for, from edges to whole objects,",
        "many channels seem to do nothing, or all seem to do the same.",
    ),
    how_to_read=(
        "**Each tile is one channel** of the layer, laid out on the picture: bright where the channel responds. "
        "Early layers follow edges and colours in full detail; later ones answer to parts and objects on a coarse one.",
        "**Healthy:** channels differ from each other, each lights up somewhere, and the object can be made out in "
        "at least some of them.",
        "**Unhealthy:** many crossed-out tiles (the channel gives one value everywhere: dead for this picture), many "
        "twins, or noise without any relation to the picture: often a learning rate that is too high, missing "
        "normalisation of the input, or weights that were never loaded.",
        "One picture can leave a healthy channel silent. Call a channel dead only when it is silent on many pictures.",
    ),
    references=(
        (
            "Zeiler and Fergus: Visualizing and Understanding Convolutional Networks (ECCV 2014)",
            "https://arxiv.org/abs/1311.2901",
        ),
    ),
)

__all__ = ["ChannelKernels", "DepthMap", "FeatureMaps", "depth_overview", "feature_maps", "kernels"]
__getattr__ = lazily(
    __name__,
    {
        "ORDERS": "compute",
        "FeatureMaps": "compute",
        "feature_maps": "compute",
        "DepthMap": "depth",
        "depth_overview": "depth",
        "ChannelKernels": "filters",
        "kernels": "filters",
        "example_maps": "examples",
        "preview": "examples",
    },
)
