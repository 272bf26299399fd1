"""What the app was started with: `streamlit run app.py -- --experiment FILE`, or the environment where a host passes
no arguments. Code and paths come from here only, never from the browser."""

from __future__ import annotations

import argparse
import os
import sys
from functools import cache
from pathlib import Path

from featviz_core.errors import CheckpointError, ExperimentError, RunError

_DEMO = "demo/"


@cache
def options() -> argparse.Namespace:
    """`checkpoint` (a file), `experiment` (`FILE[:FUNCTION]`), `data` (a folder or zip) and `runs` (a folder), or None
    for each.

    Paths in them are absolute: an experiment's file changes the working folder while it runs.
    Raises `CheckpointError`, `ExperimentError` or `RunError` where a path leads nowhere.
    """
    found = _parser().parse_known_args(sys.argv[1:])[0]
    if found.checkpoint is not None:
        found.checkpoint = _absolute(found.checkpoint)
        if not found.checkpoint.is_file():
            raise CheckpointError(
                f"There is no checkpoint {found.checkpoint.name}.",
                why="The app was started with a path that leads to no file.",
                do="Start it again with `-- --checkpoint FILE`.",
            )
    if found.data is not None:
        found.data = _absolute(found.data)
        if not found.data.exists():
            raise ExperimentError(
                f"There is no folder {found.data.name}.",
                why="The app was started with a path that leads to no folder and no zip.",
                do="Start it again with `-- --data FOLDER`.",
            )
    if found.runs is not None:
        found.runs = _absolute(found.runs)
        if not found.runs.exists():
            raise RunError(
                f"There is no folder {found.runs.name}.",
                why="The app was started with a path that leads to no runs.",
                do="Start it again with `-- --runs FOLDER`.",
            )
    if found.experiment is not None and not found.experiment.startswith(_DEMO):
        found.experiment = str(_absolute(found.experiment))
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="streamlit run app.py --", description="FeatViz")
    for name, metavar, text in (
        ("checkpoint", "FILE", "a checkpoint of any size to offer in the model picker"),
        ("experiment", "FILE[:FUNCTION]", "your model, data, loss and optimiser: every page opens on them"),
        ("data", "FOLDER", "pictures in class folders, for the data check"),
        ("runs", "FOLDER", "logs of training runs, for the training monitor"),
    ):
        variable = f"FEATVIZ_{name.upper()}"
        parser.add_argument(
            f"--{name}",
            default=os.environ.get(variable) or None,
            metavar=metavar,
            help=f"{text} (or the variable {variable})",
        )
    return parser


def _absolute(path: str) -> Path:
    return Path(path).expanduser().resolve()
