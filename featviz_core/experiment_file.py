"""Experiments from a Python file: `FILE[:FUNCTION]`, loaded as its owner would run it.

The file runs in this process, under its own name and in its own folder, so that its relative imports of neighbours,
relative paths and spawned loader workers work. It comes from the command line only, never from a browser.
"""

from __future__ import annotations

import importlib.util
import linecache
import os
import sys
import sysconfig
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from featviz_core.errors import ExperimentError, FeatVizError
from featviz_core.experiment import Experiment, Factory, own_randomness

FUNCTION = "experiment"
EXAMPLE = """import torch
from torch import nn

import featviz_core as fv


def experiment() -> fv.Experiment:
    model = Net()
    return fv.Experiment(model=model, train_loader=..., val_loader=..., loss_fn=nn.CrossEntropyLoss(),
                         optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
"""
_DEMO_PREFIX = "demo/"
# The working folder belongs to the process.
_one_at_a_time = threading.RLock()


def open_experiment(spec: str) -> Factory:
    """The factory of `FILE[:FUNCTION]` (by default the function `experiment`), or of a demo: `demo/healthy_cnn`.

    Calling it gives fresh, equal experiments. Raises `ExperimentError` for a file that is not there or fails, with
    the user's own lines in `trace`; so does the factory when it is called.
    """
    if spec.startswith(_DEMO_PREFIX):
        from featviz_core.demo.experiments import demo_experiment

        return demo_experiment(spec.removeprefix(_DEMO_PREFIX))
    path, function = _parts(spec)
    module = _load(path)
    found = getattr(module, function, None)
    if not callable(found):
        others = [name for name, value in vars(module).items() if _is_own_function(value, module)]
        also = f"; it has {', '.join(others)}" if others else ""
        raise ExperimentError(
            f"{path.name} has no function {function!r}.",
            why=f"Expected a function that gives an experiment{also}.",
            do=f"Name it with `{path.name}:FUNCTION`, or write one like this:\n\n```python\n{EXAMPLE}```",
        )
    return FileFactory(path, found)


@dataclass(frozen=True, slots=True)
class FileFactory:
    """Calls the user's function in the file's folder; what it raises becomes an `ExperimentError`."""

    path: Path
    function: Factory

    def __call__(self) -> Experiment:
        """A fresh experiment."""
        with working_in(self.path.parent), _as_experiment_error(self.path):
            return self.function()


@contextmanager
def at_home(make_experiment: Factory | str) -> Iterator[Factory]:
    """The factory, opened where a text says where it is. Inside, relative paths mean what they mean to the experiment's
    own file, where it comes from one, and whatever is drawn or seeded leaves the process's random numbers alone.

    Raises `ExperimentError` as `open_experiment` does.
    """
    factory = open_experiment(make_experiment) if isinstance(make_experiment, str) else make_experiment
    folder = working_in(factory.path.parent) if isinstance(factory, FileFactory) else nullcontext()
    with folder, own_randomness():
        yield factory


def _parts(spec: str) -> tuple[Path, str]:
    name, colon, function = spec.rpartition(":")
    # A colon may be a drive's: C:\\experiment.py.
    if not colon or not function.isidentifier():
        name, function = spec, FUNCTION
    path = Path(name).expanduser()
    if not path.is_file():
        raise ExperimentError(
            f"There is no experiment file {name}.",
            why=f"Expected a Python file; looked in {Path.cwd().name or '/'}.",
            do="Check the path, and name a function after a colon where it is not `experiment`.",
        )
    return path.resolve(), function


def _load(path: Path) -> ModuleType:
    """Run the file as a module of its own name. It is run again each time, so that changes are seen."""
    known = sys.modules.get(path.stem)
    if known is not None and getattr(known, "__file__", None) != str(path):
        raise ExperimentError(
            f"The file's name {path.name} is taken.",
            why=f"A module {path.stem!r} is already loaded, and loader workers would import that one.",
            do="Rename the file.",
        )
    if not path.stem.isidentifier():
        raise ExperimentError(
            f"{path.name} cannot be imported.",
            why=f"Loader workers import it as a module, and {path.stem!r} is no name for one.",
            do=f"Rename it to {''.join(c if c.isalnum() else '_' for c in path.stem)}.py.",
        )
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ExperimentError(f"{path.name} is no Python file.", do="Its name has to end in .py.")
    module = importlib.util.module_from_spec(spec)
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    linecache.checkcache(str(path))
    with working_in(path.parent), _as_experiment_error(path):
        sys.modules[path.stem] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[path.stem]
            raise
    return module


def _is_own_function(value: object, module: ModuleType) -> bool:
    known = callable(value) and not isinstance(value, type) and getattr(value, "__module__", None) == module.__name__
    return known and not getattr(value, "__name__", "").startswith("_")


@contextmanager
def working_in(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Inside, relative paths mean files in `folder`; one thread at a time."""
    with _one_at_a_time:
        before = Path.cwd()
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


@contextmanager
def _as_experiment_error(path: Path) -> Iterator[None]:
    try:
        yield
    except FeatVizError:
        raise
    except (Exception, SystemExit) as error:
        where = _last_place(error)
        raise ExperimentError(
            f"{path.name} failed: {short(error)}{where}.",
            do="Mend it and start again; the file has to run on its own, as `python " + path.name + "` would.",
            trace=own_lines(error),
        ) from error


def short(error: BaseException) -> str:
    """An exception in one line: its type and the first line of what it says."""
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0].rstrip('.')}" if said else type(error).__name__


def own_lines(error: BaseException) -> str:
    """The traceback of `error`, trimmed to the user's own code: no installed packages, and nothing of FeatViz."""
    found = traceback.TracebackException.from_exception(error, capture_locals=False)
    kept = [frame for frame in found.stack if _is_own(frame.filename)]
    lines = traceback.StackSummary.from_list(kept).format() if kept else []
    return "".join([*lines, *found.format_exception_only()]).rstrip()


def _last_place(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return f" (line {error.lineno})"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_own(frame.filename)]
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""


# Only where packages lie: a system's Python calls all of /usr its own, /usr/src/app included.
_INSTALLED = ("stdlib", "platstdlib", "purelib", "platlib")
_NOT_OWN = (*(Path(sysconfig.get_path(name)) for name in _INSTALLED), Path(__file__).parent)


def _is_own(filename: str) -> bool:
    path = Path(filename)
    return path.is_absolute() and not any(path.is_relative_to(place) for place in _NOT_OWN)
