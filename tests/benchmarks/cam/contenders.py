"""Who makes the maps that are timed: FeatViz, grad-cam, torchcam, captum, and a bare forward pass to compare with.

All take a loaded model, one picture `(1, C, H, W)`, a method's name in FeatViz and a layer's address.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import torch

import featviz_core as fv
from featviz_core.models import LoadedModel
from featviz_core.techniques.class_activation import by_score

TARGET = 1
STAGES = ("layer1", "layer2", "layer3", "layer4")

GRAD_CAM = {
    "gradcam": "GradCAM",
    "gradcam++": "GradCAMPlusPlus",
    "xgradcam": "XGradCAM",
    "hirescam": "HiResCAM",
    "gradcam_elementwise": "GradCAMElementWise",
    "layercam": "LayerCAM",
    "eigencam": "EigenCAM",
    "eigengradcam": "EigenGradCAM",
    "fem": "FEM",
    "fullgrad": "FullGrad",
    "scorecam": "ScoreCAM",
    "ablationcam": "AblationCAM",
}
# torchcam averages 35 noisy copies a channel by default; with as many as FeatViz both do the same work.
TORCHCAM = {
    "gradcam": ("GradCAM", {}),
    "gradcam++": ("GradCAMpp", {}),
    "xgradcam": ("XGradCAM", {}),
    "layercam": ("LayerCAM", {}),
    "smooth_gradcam++": ("SmoothGradCAMpp", {"num_samples": 8}),
    "scorecam": ("ScoreCAM", {}),
    "sscam": ("SSCAM", {"num_samples": by_score._SMOOTH_STEPS}),
    "iscam": ("ISCAM", {"num_samples": by_score._INTEGRATION_STEPS}),
    "cam": ("CAM", {}),
}
WITHOUT_GRADIENTS = ("scorecam", "sscam", "iscam", "cam")


def bare(model: LoadedModel, image: torch.Tensor, method: str, layer: str) -> None:
    """A forward pass without gradients."""
    with torch.no_grad():
        model.module(image)


def featviz(model: LoadedModel, image: torch.Tensor, method: str, layer: str) -> None:
    fv.class_activation(model, image, target=TARGET, method=method, layer=layer)


def grid(model: LoadedModel, image: torch.Tensor, method: str, layer: str) -> None:
    """Maps for all stages and five classes."""
    fv.class_activations(model, image, layers=STAGES, targets=[1, 2, 3, 4, 5], methods=[method])


def grad_cam(model: LoadedModel, image: torch.Tensor, method: str, layer: str) -> None:
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    with getattr(pytorch_grad_cam, GRAD_CAM[method])(model.module, [model.module.get_submodule(layer)]) as cam:
        cam(image, [ClassifierOutputTarget(TARGET)])


def torchcam(model: LoadedModel, image: torch.Tensor, method: str, layer: str) -> None:
    from torchcam import methods

    name, options = TORCHCAM[method]
    without = torch.no_grad() if method in WITHOUT_GRADIENTS else contextlib.nullcontext()
    with getattr(methods, name)(model.module, layer, **options) as extract, without:
        extract(TARGET, model.module(image))


def captum(model: LoadedModel, image: torch.Tensor, method: str, layer: str) -> None:
    from captum.attr import LayerGradCam

    LayerGradCam(model.module, model.module.get_submodule(layer)).attribute(image, TARGET)


CONTENDERS: dict[str, Callable[[LoadedModel, torch.Tensor, str, str], None]] = {
    run.__name__: run for run in (bare, featviz, grid, grad_cam, torchcam, captum)
}


def contenders_of(method: str) -> list[str]:
    """FeatViz, and everybody else who has the method."""
    others = {"grad_cam": method in GRAD_CAM, "torchcam": method in TORCHCAM, "captum": method == "gradcam"}
    return ["featviz", *(name for name, has_it in others.items() if has_it)]
