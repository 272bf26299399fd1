"""What the app was started with: `streamlit run app.py -- --checkpoint FILE`, or the environment where a host passes
no arguments. Paths come from here only, never from the browser."""

from __future__ import annotations

import argparse
import os
import sys
from functools import cache
from pathlib import Path

from featviz_core.errors import CheckpointError


@cache
def options() -> argparse.Namespace:
    """The options: `checkpoint`, a file or None. Raises `CheckpointError` where there is no such file."""
    parser = argparse.ArgumentParser(prog="streamlit run app.py --", description="FeatViz")
    parser.add_argument(
        "--checkpoint",
        default=os.environ.get("FEATVIZ_CHECKPOINT"),
        metavar="FILE",
        help="a checkpoint of any size to offer in the model picker (or the variable FEATVIZ_CHECKPOINT)",
    )
    found = parser.parse_known_args(sys.argv[1:])[0]
    if found.checkpoint is not None:
        found.checkpoint = Path(found.checkpoint).expanduser()
        if not found.checkpoint.is_file():
            raise CheckpointError(
                f"There is no checkpoint {found.checkpoint.name}.",
                why="The app was started with a path that leads to no file.",
                do="Start it again with `-- --checkpoint FILE`.",
            )
    return found
