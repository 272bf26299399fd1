"""Healthy training set-ups on small Shapes, which `faults` puts mistakes into.

Each function gives fresh, equal objects whenever it is called from the same random state.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from featviz_core.demo.models import build as build_demo
from featviz_core.demo.models import weights_path
from featviz_core.demo.shapes import CLASS_NAMES
from featviz_core.demo.small_shapes import SIDE, SmallShapes
from featviz_core.experiment import Experiment

NORMALIZATION = ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
_TRAIN, _VALIDATION, _BATCH = 1024, 256, 32


def loaders() -> tuple[DataLoader[tuple[Tensor, int]], DataLoader[tuple[Tensor, int]], Dataset[tuple[Tensor, int]]]:
    """Loaders of augmented training and plain validation pictures, and the training pictures without augmentation."""
    normalize = v2.Normalize(*map(list, NORMALIZATION))
    augmented = v2.Compose([v2.RandomHorizontalFlip(), normalize])
    train, clean = SmallShapes("train", _TRAIN, augmented), SmallShapes("train", _TRAIN, normalize)
    validation = SmallShapes("validation", _VALIDATION, normalize)
    return (
        DataLoader(train, batch_size=_BATCH, shuffle=True, drop_last=True),
        DataLoader(validation, batch_size=2 * _BATCH),
        clean,
    )


def _experiment(model: nn.Module, optimizer: torch.optim.Optimizer, **parts: object) -> Experiment:
    train, validation, clean = loaders()
    given: dict[str, object] = {
        "model": model,
        "optimizer": optimizer,
        "train_loader": train,
        "val_loader": validation,
        "clean_train": clean,
        "loss_fn": nn.CrossEntropyLoss(),
        "class_names": CLASS_NAMES,
        "normalization": NORMALIZATION,
    }
    return Experiment(**(given | parts))  # type: ignore[arg-type]


def _convolutions(*, norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    width = 3
    for wider in (24, 48, 96):
        layers += [nn.Conv2d(width, wider, 3, padding=1, bias=not norm), *([nn.BatchNorm2d(wider)] if norm else [])]
        layers += [nn.ReLU(), nn.MaxPool2d(2)]
        width = wider
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, len(CLASS_NAMES)))


def cnn() -> Experiment:
    """Three convolutions with BatchNorm, AdamW."""
    model = _convolutions(norm=True)
    return _experiment(model, torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2))


def plain() -> Experiment:
    """Three convolutions without normalisation, SGD with momentum."""
    model = _convolutions(norm=False)
    for layer in model:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return _experiment(model, torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9))


def vit() -> Experiment:
    """A vision transformer behind two convolutions that make 8 × 8 patches, AdamW, cosine schedule."""
    from torchvision.models.vision_transformer import ConvStemConfig, VisionTransformer

    model = VisionTransformer(
        SIDE,
        4,
        num_layers=3,
        num_heads=4,
        hidden_dim=64,
        mlp_dim=128,
        num_classes=len(CLASS_NAMES),
        conv_stem_configs=[ConvStemConfig(width, kernel_size=3, stride=2) for width in (24, 48)],
    )
    nn.init.normal_(model.heads.head.weight, std=0.02)  # torchvision starts it at zero
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    return _experiment(model, optimizer, scheduler=torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10))


def tuning() -> Experiment:
    """The bundled Shapes CNN with a new head, which learns faster than the rest."""
    from safetensors.torch import load_file

    model = build_demo("shapes_cnn")
    model.load_state_dict(load_file(weights_path("shapes_cnn")))
    old = model.get_submodule("fc")
    assert isinstance(old, nn.Linear)
    model.fc = head = nn.Linear(old.in_features, len(CLASS_NAMES))
    trunk = [parameter for name, parameter in model.named_parameters() if not name.startswith("fc.")]
    groups = [{"params": trunk, "lr": 3e-4}, {"params": head.parameters(), "lr": 3e-3}]
    return _experiment(model, torch.optim.AdamW(groups, weight_decay=1e-2), pretrained=True)


SETUPS: dict[str, Callable[[], Experiment]] = {"cnn": cnn, "plain": plain, "vit": vit, "tuning": tuning}
