"""Logs of training runs: whatever wrote them, read into one tidy frame; and written so that others can read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featviz_core.lazy import lazily

if TYPE_CHECKING:
    from featviz_core.runs.follow import FolderFollower as FolderFollower
    from featviz_core.runs.follow import Follower as Follower
    from featviz_core.runs.follow import follow_run as follow_run
    from featviz_core.runs.graph import model_graph as model_graph
    from featviz_core.runs.read import read_run as read_run
    from featviz_core.runs.read import read_runs as read_runs
    from featviz_core.runs.roles import Role as Role
    from featviz_core.runs.roles import roles_of as roles_of
    from featviz_core.runs.run import Damage as Damage
    from featviz_core.runs.run import LoggedImage as LoggedImage
    from featviz_core.runs.run import Run as Run
    from featviz_core.runs.run import Scalars as Scalars

__getattr__ = lazily(
    __name__,
    {
        "Damage": "run",
        "FolderFollower": "follow",
        "Follower": "follow",
        "LoggedImage": "run",
        "Role": "roles",
        "Run": "run",
        "Scalars": "run",
        "follow_run": "follow",
        "model_graph": "graph",
        "read_run": "read",
        "read_runs": "read",
        "roles_of": "roles",
    },
)
