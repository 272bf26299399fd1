"""Right and wrong calls of the diagnosis: `python -m tests.diagnosis.calls [--seeds N] [--trainings]`.

Made-up curves of every kind, each with several seeds; with `--trainings`, also real trainings of the demo experiments.
A call is right where the expected finding is there and no other alarm; for a healthy run, where there is no alarm.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable, Iterator

from featviz_core.demo.experiments import DEMO_EXPERIMENTS
from featviz_core.diagnosis import diagnose
from featviz_core.findings import Finding
from tests.curve_kinds import HEALTHY, KINDS, ROLES

# What the curves of a real training can show. A leak, labels at random that are learned by heart, and the like cannot
# be seen in each of them, so that more than one call is right.
TRAININGS: dict[str, set[str]] = {
    "": {HEALTHY},
    "dead_relus": {"nothing_learned"},
    "raw_pixels": {"nothing_learned", "diverged"},
    "shuffled_labels": {"nothing_learned", "overfitting", "underfitting"},
    "learning_rate_too_high": {"nothing_learned", "diverged", "not_finite", "oscillates", "spikes"},
    "no_zero_grad": {"diverged", "nothing_learned", "oscillates", "not_finite"},
    "validation_leak": {HEALTHY},
    "softmax_first": {"loss_floor", "underfitting"},
    "only_head_in_optimizer": {"underfitting", "nothing_learned", "stopped_early"},
    "never_eval_mode": {"validation_unsteady", "modes_differ", HEALTHY},
}

Row = tuple[str, str, str, bool]


def alarms(findings: Iterable[Finding]) -> set[str]:
    """The codes of warnings and failures."""
    return {finding.code.removeprefix("curve.") for finding in findings if finding.severity in ("warn", "fail")}


def of_kinds(seeds: int) -> Iterator[Row]:
    """A row for each kind and seed."""
    for kind in KINDS:
        for seed in range(seeds):
            found = diagnose(kind.frame(seed), ROLES)
            codes = {finding.code for finding in found}
            wrong = alarms(found) - {code.removeprefix("curve.") for code in (kind.expected, *kind.also)}
            right = not wrong and (kind.expected == HEALTHY or kind.expected in codes)
            yield kind.name, kind.expected.removeprefix("curve."), ", ".join(sorted(alarms(found))) or "no alarm", right


def of_trainings(epochs: int = 10) -> Iterator[Row]:
    """A row for each demo experiment, trained by its own loop."""
    from featviz_core.runs import read_run
    from featviz_core.techniques.training_monitor.training import train

    for card in DEMO_EXPERIMENTS.values():
        with tempfile.TemporaryDirectory() as folder:
            run = read_run({"run.zip": train(f"demo/{card.name}", folder=folder, epochs=epochs).data})
        said, expected = alarms(diagnose(run.frame(), run.roles)), TRAININGS[card.fault]
        right = bool(said & expected) or (HEALTHY in expected and not said)
        name = f"{card.name} ({card.fault or 'healthy'})"
        yield name, " or ".join(sorted(expected)), ", ".join(sorted(said)) or "no alarm", right


def main() -> None:
    """Print the table and the sums."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trainings", action="store_true")
    options = parser.parse_args()
    for title, rows in (
        ("Made-up curves", list(of_kinds(options.seeds))),
        ("Real trainings", list(of_trainings()) if options.trainings else []),
    ):
        print(f"\n{title}: {sum(row[3] for row in rows)} of {len(rows)} calls are right")
        for name, expected, said, right in dict.fromkeys(rows):
            print(f"  {'right' if right else 'WRONG'}  {name:44} expected {expected:32} said {said}")


if __name__ == "__main__":
    main()
