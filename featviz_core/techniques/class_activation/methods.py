"""The list of methods. Each stands as its formula in one of the `by_…` modules."""

from __future__ import annotations

import difflib

from featviz_core.errors import ModelError
from featviz_core.techniques.class_activation import by_activation, by_gradient, by_score, fullgrad
from featviz_core.techniques.class_activation.evidence import METHODS, Method

__all__ = ["Method", "cam_methods", "find_method"]

# Imported for what they put on the list, in the order in which people should see it.
_SOURCES = (by_gradient, by_score, by_activation, fullgrad)
_ORDER = (
    *("gradcam", "gradcam++", "xgradcam", "hirescam", "gradcam_elementwise", "layercam", "smooth_gradcam++"),
    *("scorecam", "sscam", "iscam", "ablationcam", "eigencam", "eigengradcam", "fullgrad", "fem", "cam", "random"),
)


def cam_methods() -> dict[str, Method]:
    """Which ways of making a class activation map are there? By name, the usual first choice first."""
    known = [name for name in _ORDER if name in METHODS]
    return {name: METHODS[name] for name in (*known, *(name for name in METHODS if name not in known))}


def find_method(name: str) -> Method:
    """The method called `name`. Raises `ModelError` naming the nearest where there is none."""
    methods = cam_methods()
    if name not in methods:
        near = difflib.get_close_matches(name, methods, n=3, cutoff=0.4)
        raise ModelError(
            f"There is no method '{name}'.",
            why=f"The nearest names are {', '.join(near)}." if near else f"There are {', '.join(methods)}.",
        )
    return methods[name]
