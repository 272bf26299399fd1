"""The techniques that are there: whoever adds a folder to `techniques/` is in the menu, on the home page and tested."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

import featviz_core.techniques as techniques
from featviz_core.about import About

if TYPE_CHECKING:
    from PIL import Image


@cache
def packages() -> tuple[ModuleType, ...]:
    """The techniques' packages, in alphabetical order. Imports no torch."""
    names = sorted(module.name for module in pkgutil.iter_modules(techniques.__path__))
    return tuple(import_module(f"{techniques.__name__}.{name}") for name in names)


def preview(slug: str) -> Image.Image | None:
    """A small live result of a technique: a demo model on the first sample picture. Imports torch.

    A technique may name the model in `PREVIEW_MODEL`; None where that model's weights are missing. A technique without
    a `preview(model, images)` of its own raises `AttributeError`.
    """
    from featviz_core.demo.models import weights_path
    from featviz_core.demo.samples import SAMPLES
    from featviz_core.images import read_picture
    from featviz_core.models import load_model

    package = next(package for package in packages() if package.ABOUT.slug == slug)
    name: str = getattr(package, "PREVIEW_MODEL", "demo/shapes_cnn")
    if not weights_path(name.removeprefix("demo/")).is_file():
        return None
    model = load_model(name)
    picture: Image.Image = package.preview(model, model.preprocess(read_picture(SAMPLES[0].path.read_bytes()).image))
    return picture


@cache
def abouts() -> dict[str, About]:
    """The techniques' cards by slug. Imports no torch."""
    return {package.ABOUT.slug: package.ABOUT for package in packages()}
