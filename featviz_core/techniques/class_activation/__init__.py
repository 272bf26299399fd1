"""Class activation maps: where in a picture the evidence for a class lies."""

from featviz_core.about import About
from featviz_core.lazy import lazily

ABOUT = About(
    slug="class_activation",
    title="Class activation maps",
    question="Where in my picture does the model find its evidence for a class?",
    icon=":material/center_focus_strong:",
    symptoms=(
        "the answer is right and you doubt the reason,",
        "the model is excellent on your data and poor on everybody else's,",
        "two classes are mixed up and you want to see which parts speak for each.",
    ),
    how_to_read=(
        "**Bright places raise the class's score**, in the method's opinion. The map is as coarse as the layer it "
        "comes from: deep layers know the class but not the outline, early ones the other way round. Do not read it "
        "finer than a cell: networks that halve their maps with odd kernels draw it up to half a cell too far down "
        "and to the right.",
        "**Healthy:** the bright part lies on the object, and moves when you ask for another class that is there too.",
        "**Unhealthy:** the brightest part is a corner, a border, a caption or the background. The model may have "
        "found a shortcut: cover that place and see whether the answer changes.",
        "**A blank map** is an answer too: nothing in this layer speaks for the class. The note says why. Methods "
        "disagree; trust what several of them show and what the hiding test confirms.",
    ),
    references=(
        (
            "Selvaraju et al.: Grad-CAM: Visual Explanations from Deep Networks (ICCV 2017)",
            "https://arxiv.org/abs/1610.02391",
        ),
        (
            "Adebayo et al.: Sanity Checks for Saliency Maps (NeurIPS 2018)",
            "https://arxiv.org/abs/1810.03292",
        ),
    ),
)

__all__ = [
    "ClassActivation",
    "Faithfulness",
    "HiddenRegion",
    "Localization",
    "Method",
    "RandomizationCheck",
    "Target",
    "agreement",
    "cam_methods",
    "class_activation",
    "class_activations",
    "default_layer",
    "deletion_insertion",
    "hidden_region_score",
    "localization",
    "randomization_check",
]
__getattr__ = lazily(
    __name__,
    {
        "ClassActivation": "result",
        "class_activation": "compute",
        "class_activations": "compute",
        "preview": "examples",
        "Method": "methods",
        "cam_methods": "methods",
        "Target": "targets",
        "default_layer": "layers",
        "Faithfulness": "trust",
        "HiddenRegion": "trust",
        "deletion_insertion": "trust",
        "hidden_region_score": "trust",
        "RandomizationCheck": "sanity",
        "agreement": "sanity",
        "randomization_check": "sanity",
        "BADGE": "truth",
        "Localization": "truth",
        "localization": "truth",
        "sample_masks": "truth",
    },
)
