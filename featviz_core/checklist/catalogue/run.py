"""One case: the checklist's report on it, and the harm that was measured."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from multiprocessing import get_context

from featviz_core.checklist.catalogue.cases import Case
from featviz_core.checklist.catalogue.harm import HARM, harm
from featviz_core.checklist.report import NOT_JUDGED
from featviz_core.demo.faults import FAULTS, with_fault


@dataclass(frozen=True, slots=True)
class Row:
    """What came of a case: its parts by name, the item that should name the fault and the one that does, the items
    that fail or warn (explained ones aside), the harm done, and the seconds that the checklist took."""

    case: str
    setup: str
    fault: str
    item: str
    root_cause: str
    fails: tuple[str, ...]
    warns: tuple[str, ...]
    harm: float
    seconds: float
    summary: str = ""

    @property
    def harmful(self) -> bool:
        """Whether the fault did measurable harm."""
        return self.harm >= HARM

    @property
    def reported(self) -> bool:
        """Whether anything failed or warned."""
        return bool(self.fails or self.warns)

    @property
    def named(self) -> str:
        """The item to mend first: the root cause, else the first warning."""
        return self.root_cause or (self.warns[0] if self.warns else "")


def run(case: Case) -> Row:
    """Run the checklist on a case, and measure the harm of its fault."""
    from featviz_core.checklist.runner import run_checklist

    report = run_checklist(with_fault(case.setup.name, case.fault), seed=case.seed)
    broken = [v for v in report.items if v.summary.startswith(NOT_JUDGED)]
    assert not broken, (case.name, broken)
    fault = FAULTS.get(case.fault)
    told = [v for v in report.items if not v.explained_by]
    fails, warns = (tuple(v.id for v in told if v.status == status) for status in ("fail", "warn"))
    first = report.root_cause or next(iter(warns), "")
    return Row(
        case.name,
        case.setup.name,
        case.fault,
        fault.item if fault else "",
        report.root_cause or "",
        fails,
        warns,
        round(harm(case.setup, fault, case.seed), 3) if fault else 0.0,
        round(report.seconds, 1),
        report[first].summary if first else "",
    )


def run_all(cases: Iterable[Case], workers: int) -> Iterator[Row]:
    """The rows of all cases as they come, worked out in so many processes of one thread each."""
    with get_context("spawn").Pool(workers, _one_thread, maxtasksperchild=20) as pool:
        yield from pool.imap_unordered(run, cases)


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def as_dict(row: Row) -> dict[str, object]:
    """For a line of JSON."""
    return asdict(row)
