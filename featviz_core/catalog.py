"""The techniques that are there: whoever adds a folder to `techniques/` is in the menu, on the home page and tested."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module
from types import ModuleType

import featviz_core.techniques as techniques
from featviz_core.about import About


@cache
def packages() -> tuple[ModuleType, ...]:
    """The techniques' packages, in alphabetical order. Imports no torch."""
    names = sorted(module.name for module in pkgutil.iter_modules(techniques.__path__))
    return tuple(import_module(f"{techniques.__name__}.{name}") for name in names)


@cache
def abouts() -> dict[str, About]:
    """The techniques' cards by slug. Imports no torch."""
    return {package.ABOUT.slug: package.ABOUT for package in packages()}
