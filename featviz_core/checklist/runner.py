"""Walks the fifteen items, each on fresh copies of the experiment: first those that take no training."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from featviz_core.checklist import data, loss, model, optimizer, training
from featviz_core.checklist.items import EXPLAINS, ITEMS
from featviz_core.checklist.probe import SIZES, Broken, Budget, Check, Probe
from featviz_core.checklist.report import NOT_ASKED, NOT_JUDGED, ChecklistReport, Verdict, explained
from featviz_core.devices import check_device
from featviz_core.errors import ExperimentError
from featviz_core.experiment import Factory
from featviz_core.experiment_file import at_home, open_experiment, short

CHECKS: Mapping[str, Check] = {**data.CHECKS, **model.CHECKS, **loss.CHECKS, **optimizer.CHECKS, **training.CHECKS}

# These train for a while. They come last, and not at all where an exact check has found what would explain them.
_TRAINED = (
    "model.init",
    "data.augmentation",
    "optimizer.learning_rate",
    "loss.decreases",
    "training.convergence",
)
_EXACT = tuple(item for item in ITEMS if item not in _TRAINED)

Progress = Callable[[float, str], None]


def run_checklist(
    make_experiment: Factory,
    *,
    device: str = "cpu",
    budget: Budget = "quick",
    items: Collection[str] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    part: Callable[[Verdict], None] | None = None,
) -> ChecklistReport:
    """Why doesn't it train? Fifteen items from data to convergence, each on fresh copies from the factory.

    `make_experiment()` gives fresh, equal experiments; it is called several times, with Python's, NumPy's and torch's
    random numbers started from `seed` (the caller's go on undisturbed). `items` names the ids to run, by default all.
    An exception in the model, the loss or the loop is evidence on an item; `progress(fraction, text)` may raise.
    `part(verdict)` is told each verdict as it comes, before it is known which explains which.

    Raises `ExperimentError` for an unknown item or budget or a factory that gives no experiment, `DeviceError` for an
    unknown device; what the factory itself raises is passed on.
    """
    _check_names(items, budget)
    check_device(device)
    wanted = [item for item in (*_EXACT, *_TRAINED) if items is None or item in items]
    verdicts = {item: Verdict(item, "not_run", NOT_ASKED) for item in ITEMS}
    started = time.perf_counter()
    with at_home(make_experiment):
        probe = Probe(make_experiment, device=device, budget=budget, seed=seed)
        _ = probe.experiment  # a factory that fails is no evidence on an item
        for number, item in enumerate(wanted):
            if progress is not None:
                progress(number / len(wanted), ITEMS[item].title)
            before = dict(verdicts)
            _judge(item, probe, verdicts)
            if part is not None:
                # A check may have found evidence on an earlier item, too.
                for verdict in [v for v in verdicts.values() if v is not before[v.id]]:
                    part(verdict)
    return ChecklistReport(explained(list(verdicts.values())), time.perf_counter() - started)


def check_file(
    spec: str,
    *,
    progress: Progress | None = None,
    part: Callable[[Verdict], None] | None = None,
    **options: object,
) -> ChecklistReport:
    """`run_checklist` on `FILE[:FUNCTION]` or a demo's name."""
    return run_checklist(open_experiment(spec), progress=progress, part=part, **options)  # type: ignore[arg-type]


def _judge(item: str, probe: Probe, verdicts: dict[str, Verdict]) -> None:
    """Put the item's verdict into `verdicts`, and evidence that came up on an earlier item into that one's."""
    causes = [cause for cause, v in verdicts.items() if v.status == "fail" and item in EXPLAINS.get(cause, ())]
    if item in _TRAINED and causes:
        what = f"Not judged yet: {ITEMS[causes[0]].title} comes first."
        verdicts[item] = Verdict(item, "not_run", what, explained_by=causes[0])
        return
    try:
        verdict = CHECKS[item](probe)
        missing = {"not looked at": probe.unseen[item]} if item in probe.unseen else {}
        verdicts[item] = replace(verdict, evidence={**verdict.evidence, **missing})
    except Broken as broken:
        if broken.item != item:
            what = f"Could not run: {ITEMS[broken.item].title} comes first."
            verdicts[item] = Verdict(item, "not_run", what, explained_by=broken.item)
        # A later item's own check will come upon it again.
        if broken.item in verdicts and verdicts[broken.item].status != "fail":
            verdicts[broken.item] = broken.verdict
    except Exception as error:  # noqa: BLE001 - a check that met what nobody thought of must not take the others along
        trace = "".join(traceback.format_exception(error))[-2000:]
        what = f"{NOT_JUDGED}: the check itself raised {short(error)}. The other items do not depend on it."
        do = "If your experiment trains, this is a mistake of FeatViz: please report it with the trace."
        verdicts[item] = Verdict(item, "not_run", what, evidence={"trace": trace}, remedy=do)


def _check_names(items: Collection[str] | None, budget: str) -> None:
    unknown = [item for item in items or () if item not in ITEMS]
    if unknown:
        raise ExperimentError(f"There is no item {unknown[0]!r}.", do=f"Choose among {', '.join(ITEMS)}.")
    if budget not in SIZES:
        raise ExperimentError(f"There is no budget {budget!r}.", do=f"Choose one of {', '.join(SIZES)}.")
