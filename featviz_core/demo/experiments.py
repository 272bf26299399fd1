"""The demo experiments: three healthy ones, and cases that each carry one famous mistake.

The pictures are 32 × 32 cut-outs of Shapes, so that a checklist takes seconds. Importing this needs no torch; what is
wrong with a case is told by `featviz_core.demo.faults` only.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from featviz_core.errors import ExperimentError

if TYPE_CHECKING:
    from featviz_core.experiment import Factory


@dataclass(frozen=True, slots=True)
class DemoExperiment:
    """What is known about a demo experiment before it is made.

    `setup` names the healthy set-up it starts from, `fault` the mistake in it, empty for none; `description` tells
    what its owner noticed.
    """

    name: str
    title: str
    description: str
    setup: str
    fault: str = ""


def _case(number: int, title: str, description: str, setup: str, fault: str) -> DemoExperiment:
    return DemoExperiment(f"case_{number}", f"Case {number}: {title}", description, setup, fault)


DEMO_EXPERIMENTS: dict[str, DemoExperiment] = {
    card.name: card
    for card in (
        DemoExperiment("healthy_cnn", "A healthy CNN", "Three convolutions with BatchNorm, trained by AdamW.", "cnn"),
        DemoExperiment("healthy_vit", "A healthy ViT", "A small vision transformer with a cosine schedule.", "vit"),
        DemoExperiment(
            "fine_tuning", "Healthy fine-tuning", "The bundled Shapes CNN with a new head for small pictures.", "tuning"
        ),
        _case(1, "stuck from the start", "The loss never leaves its first value.", "plain", "dead_relus"),
        _case(2, "wild, then flat", "The first loss is in the thousands; then nothing moves.", "plain", "raw_pixels"),
        _case(3, "never better than chance", "Every curve is flat, whatever is tried.", "cnn", "shuffled_labels"),
        _case(4, "the loss jumps", "After a few steps the numbers get wild.", "plain", "learning_rate_too_high"),
        _case(5, "worse with every step", "It starts well and then loses its way.", "plain", "no_zero_grad"),
        _case(6, "too good to be true", "Great scores in the lab, then a poor product.", "cnn", "validation_leak"),
        _case(7, "learns at half speed", "The loss falls, but never below a strange floor.", "plain", "softmax_first"),
        _case(
            8, "only a little better than chance", "Half of the network seems asleep.", "cnn", "only_head_in_optimizer"
        ),
        _case(
            9, "validation is a lottery", "The same model gets another accuracy each time.", "cnn", "never_eval_mode"
        ),
    )
}


_DRILL = "drill:"


def drill(setup: str, fault: str) -> str:
    """The name of a fire drill, as `demo_experiment` takes it: a mistake of the catalogue in a healthy set-up."""
    return f"{_DRILL}{setup}+{fault}"


def demo_experiment(name: str) -> Factory:
    """The factory of a demo experiment, or of a fire drill. Raises `ExperimentError` for an unknown name."""
    if name.startswith(_DRILL):
        setup, _, fault = name.removeprefix(_DRILL).partition("+")
    elif name in DEMO_EXPERIMENTS:
        setup, fault = DEMO_EXPERIMENTS[name].setup, DEMO_EXPERIMENTS[name].fault
    else:
        raise ExperimentError(
            f"There is no demo experiment {name!r}.",
            do=f"Choose one of {', '.join(DEMO_EXPERIMENTS)}, or {drill('SETUP', 'FAULT')}.",
        )
    factory: Factory = import_module("featviz_core.demo.faults").with_fault(setup, fault)
    return factory
