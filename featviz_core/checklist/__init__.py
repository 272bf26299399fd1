"""The debug checklist: fifteen items in the order in which a mistake is best looked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featviz_core.lazy import lazily

if TYPE_CHECKING:
    from featviz_core.checklist.report import ChecklistReport as ChecklistReport
    from featviz_core.checklist.runner import run_checklist as run_checklist

PLACES = {"ChecklistReport": "report", "run_checklist": "runner"}
__all__ = ["ChecklistReport", "run_checklist"]
__getattr__ = lazily(__name__, PLACES)
