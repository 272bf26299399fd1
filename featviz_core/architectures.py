"""Architectures without trained weights: how each is built, and how its pictures are prepared."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

from featviz_core import zoo
from featviz_core.demo import models as demo
from featviz_core.preprocessing import Preprocessing

T = TypeVar("T")

DEMO_PREFIX = "demo/"


def build(name: str, **options: object) -> nn.Module:
    """A demo model or torchvision classification model with weights drawn from torch's global random state.

    `options` go to torchvision's builder. Raises `ModelError` for a name that is neither.
    """
    import torchvision

    if name.startswith(DEMO_PREFIX):
        return demo.build(name.removeprefix(DEMO_PREFIX))
    zoo.zoo_model(name)
    if name in ("googlenet", "inception_v3"):
        # Their own start-up draws from a truncated normal distribution, which takes half a minute.
        options = {"init_weights": False, **options}
    module: nn.Module = torchvision.models.get_model(name, weights=None, **options)
    return module


_seeding = threading.Lock()


def seeded(make: Callable[[], T]) -> T:
    """What `make()` builds from seed 0; torch's global random state is the process's, so it is put back."""
    with _seeding, torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make()


def preprocessing_for(entry: zoo.ZooWeights | demo.DemoModel) -> Preprocessing:
    """How pictures are prepared for published weights, or for a demo model."""
    if isinstance(entry, demo.DemoModel):
        return Preprocessing(resize_size=entry.input_size, crop_size=entry.input_size, mean=entry.mean, std=entry.std)
    return Preprocessing(
        resize_size=entry.resize_size,
        crop_size=entry.crop_size,
        mean=entry.mean,
        std=entry.std,
        interpolation=entry.interpolation,
    )


def class_names_for(count: int) -> tuple[str, ...]:
    """ImageNet's names for 1000 classes, else numbers."""
    from torchvision.models._meta import _IMAGENET_CATEGORIES

    if count == len(_IMAGENET_CATEGORIES):
        return tuple(_IMAGENET_CATEGORIES)
    return tuple(f"class {index}" for index in range(count))
