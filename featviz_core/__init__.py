"""FeatViz: see what a PyTorch vision model learned, and find out why one does not train.

The public names are imported when first used, so `import featviz_core` costs nothing and needs no torch. Those of
a technique are found in its own package: a new technique is a public name as soon as its folder is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from featviz_core.lazy import lazily

if TYPE_CHECKING:
    from featviz_core.checklist import ChecklistReport as ChecklistReport
    from featviz_core.checklist import run_checklist as run_checklist
    from featviz_core.errors import FeatVizError as FeatVizError
    from featviz_core.experiment import Experiment as Experiment
    from featviz_core.models import LoadedModel as LoadedModel
    from featviz_core.models import load_model as load_model
    from featviz_core.models import top_classes as top_classes
    from featviz_core.runs import Role as Role
    from featviz_core.runs import Run as Run
    from featviz_core.runs import follow_run as follow_run
    from featviz_core.runs import read_run as read_run
    from featviz_core.runs import read_runs as read_runs
    from featviz_core.seen import model_input as model_input

__version__ = "0.1.0"

_PLACES = {
    "ChecklistReport": "checklist",
    "Experiment": "experiment",
    "FeatVizError": "errors",
    "LoadedModel": "models",
    "Role": "runs",
    "Run": "runs",
    "follow_run": "runs",
    "load_model": "models",
    "model_input": "seen",
    "read_run": "runs",
    "read_runs": "runs",
    "run_checklist": "checklist",
    "top_classes": "models",
}
_own = lazily(__name__, _PLACES)


def __getattr__(name: str) -> Any:
    from featviz_core.catalog import packages

    for package in packages() if name not in _PLACES and not name.startswith("_") else ():
        if name in package.__all__:
            return getattr(package, name)
    return _own(name)


def __dir__() -> list[str]:
    from featviz_core.catalog import packages

    return sorted([*globals(), *_PLACES, *(name for package in packages() for name in package.__all__)])
