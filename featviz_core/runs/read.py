"""Reading the log of a finished training run."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from featviz_core.runs.follow import Follower, all_runs, as_far_as_readable, at_least_one, only_run
from featviz_core.runs.layout import RunFiles
from featviz_core.runs.roles import Wanted
from featviz_core.runs.run import Run
from featviz_core.runs.sources import Files


def read_run(files: Files, *, names: Mapping[str, Wanted] | None = None) -> Run:
    """How did a training go? Everything its log holds; nothing is sampled away.

    `files`: the path of a file or folder, or uploads as `{name: bytes}`, zips included. Read are TensorBoard's event
    files, CSV (Lightning's and Keras' loggers', W&B's and TensorBoard's exports), JSON lines, and W&B's offline files
    where `wandb` is installed. `names` says what a tag is where its name does not: `{"nll": "loss/validation"}`, or
    None for a tag that is none of these; see `Role`.

    What is damaged is passed over and listed in `.damage`. Raises `RunError` where there is no log, or several.
    """
    found = only_run(files)
    return Follower(partial(_same, found), names).update(finished=True)


def read_runs(files: Files, *, names: Mapping[str, Wanted] | None = None) -> list[Run]:
    """How did all trainings in a folder go? One `Run` for each folder with event files and each other log, by name.

    One that cannot be read, such as W&B's without `wandb`, has no values and says why in its `findings`. Arguments and
    errors as for `read_run`.
    """
    return at_least_one(
        as_far_as_readable(found.name, partial(Follower(partial(_same, found), names).update, finished=True))
        for found in all_runs(files)
    )


def _same(found: RunFiles) -> RunFiles:
    return found
