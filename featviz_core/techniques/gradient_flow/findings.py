"""What one backward pass says of a network's health.

Limits are those of healthy networks of several families, fresh and trained, with slack. Behind a normalisation the
scale of a weight does not matter, and fresh deep networks with BatchNorm pass on gradients that grow backwards without
harm, so networks with normalisation have wider limits.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence

from featviz_core.findings import Finding, Severity
from featviz_core.techniques.gradient_flow.result import GradientFlow, ParameterGradient

_VANISHED = 1e-3  # ‖g_first‖/‖g_last‖; healthy fresh networks have .0125 and more
_EXPLODED = {False: 70.0, True: 1e4}  # the same, without and with normalisation; a fresh ResNet-50 has 90
_LARGE = {False: 30.0, True: 1e5}  # ‖g‖/‖w‖; fresh plain networks have up to 3, ResNet-50 1300
_SMALL = 1e-4  # the largest ‖g‖/‖w‖ for a gradient of 1 at the logits; healthy networks have .03 and more
_SETTLED = 1e-4  # ‖∂loss/∂logits‖
_MANY_DEAD = 0.5  # of a layer's units
_BATCH = 16  # pictures from which on a unit that none of them reaches is more than chance
_SEVERITIES: tuple[Severity, ...] = ("fail", "warn", "note", "ok")
_NAMED = 8


def about_flow(flow: GradientFlow) -> tuple[Finding, ...]:
    """What to look at, the worst first; a single "ok" where there is nothing."""
    found = [*_not_finite(flow), *_disconnected(flow), *_without(flow)]
    if not any(finding.severity == "fail" for finding in found):
        found += _sizes(flow)
    return worst_first(found) or (_healthy(flow),)


def worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Findings sorted by severity."""
    return tuple(sorted(findings, key=lambda finding: _SEVERITIES.index(finding.severity)))


def some(parameters: Iterable[str]) -> str:
    """A few of many names, for a sentence."""
    names = [f"`{name}`" for name in parameters]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def layers_of(parameters: Iterable[ParameterGradient]) -> list[str]:
    """The names of their first layers, without repetition."""
    return list(dict.fromkeys(parameter.layer for parameter in parameters))[:_NAMED]


# Numbers that are none, and gradients that are not there


def _not_finite(flow: GradientFlow) -> Iterator[Finding]:
    odd = [p for p in flow.parameters if p.state == "reached" and not p.finite]
    broken = [p for p in flow.parameters if not math.isfinite(p.weight_norm)]
    if broken:
        yield Finding(
            "gradient.not_finite",
            "fail",
            "A weight is not a number",
            f"{some(p.parameter for p in broken)} hold NaN or infinity, so nothing behind can be computed.",
            where=broken[0].parameter,
            evidence={"parameters": len(broken), "healthy": "0", "layers": layers_of(broken)},
            remedy="Start again from a checkpoint from before; then look for the step that did it: a learning rate too "
            "high, or a division by zero in the loss.",
        )
    elif not math.isfinite(flow.loss):
        yield Finding(
            "gradient.not_finite",
            "fail",
            f"The loss is {flow.loss}",
            "Every gradient comes from it, so none can be trusted.",
            where="loss",
            evidence={"loss": flow.loss, "parameters with NaN or Inf": len(odd)},
            remedy="Look for NaN in the pictures, then for the first layer that gives one: the output check names it.",
        )
    elif odd:
        # Backward runs from the end: what is nearest to the loss came first.
        last = odd[-1]
        yield Finding(
            "gradient.not_finite",
            "fail",
            "Gradients are not numbers",
            f"The loss is {flow.loss:.4g}, yet the gradients of {some(p.parameter for p in odd)} hold NaN or infinity. "
            f"On the way back it begins at or behind `{last.parameter}`.",
            where=last.layer,
            evidence={"parameters": len(odd), "healthy": "0", "layers": layers_of(reversed(odd))},
            remedy="Functions without a slope do this: `sqrt(0)`, `log(0)`, `norm` of a zero vector, `x / x`. Add a "
            "small epsilon inside of them.",
        )


def _disconnected(flow: GradientFlow) -> Iterator[Finding]:
    wanting = [p for p in flow.parameters if p.state != "frozen"]
    cut = [p for p in wanting if p.state == "detached"]
    if not cut:
        return
    if not any(p.state == "reached" for p in wanting):
        at_loss = math.isnan(flow.output_norm)
        place = "between the logits and the loss" if at_loss else "between the model's parameters and its logits"
        yield Finding(
            "gradient.disconnected",
            "fail",
            "The loss is cut off from the network" if at_loss else "The logits are cut off from the parameters",
            f"No parameter gets a gradient: the graph is cut {place}.",
            where="loss" if at_loss else "model",
            evidence={"parameters without gradient": len(cut), "healthy": "0"},
            remedy="Look there for `.detach()`, `.data`, `.item()`, `no_grad`, `.numpy()` or `torch.tensor(...)`.",
        )
        return
    # What runs before a cut is without gradient from the first layer on; a side branch is not.
    yield Finding(
        "gradient.disconnected",
        "fail" if cut[0] is wanting[0] else "warn",
        "Layers that run, and learn nothing",
        f"{some(p.parameter for p in cut)} want a gradient and their layers run, but the loss does not reach them.",
        where=cut[-1].layer or "the model itself",
        evidence={"parameters without gradient": len(cut), "healthy": "0", "layers": layers_of(reversed(cut))},
        remedy="Look behind the last of them for `.detach()`, `.data`, `no_grad` or an answer that is thrown away; "
        "freeze them by `requires_grad_(False)` if that is meant.",
    )


def _without(flow: GradientFlow) -> Iterator[Finding]:
    unused = [p for p in flow.parameters if p.state == "unused"]
    frozen = [p for p in flow.parameters if p.state == "frozen"]
    if unused:
        yield Finding(
            "gradient.unused",
            "note",
            "Layers that never run",
            f"{some(p.parameter for p in unused)} want a gradient, but nothing calls their layers in this mode.",
            where=unused[0].layer,
            evidence={"parameters": len(unused), "layers": layers_of(unused)},
            remedy="Auxiliary heads that only run in training are fine. Else call it in `forward`, or remove it.",
        )
    if frozen:
        everything = len(frozen) == len(flow.parameters)
        yield Finding(
            "gradient.frozen",
            "fail" if everything else "note",
            "Everything is frozen" if everything else "Frozen layers",
            f"{some(p.parameter for p in frozen)} have `requires_grad=False`.",
            where=frozen[0].layer,
            evidence={"frozen": len(frozen), "of": len(flow.parameters), "layers": layers_of(frozen)},
            remedy="Set `requires_grad_(True)` on what is meant to learn." if everything else "",
        )


# Sizes


def _sizes(flow: GradientFlow) -> Iterator[Finding]:
    matrices = [p for p in flow.parameters if p.is_matrix and p.finite]
    if not matrices:
        return
    if flow.output_norm <= _SETTLED:
        yield _settled(flow)
        if flow.output_norm == 0:
            return
    dead = [p for p in matrices if p.max_abs == 0]
    if dead:
        yield _dead(flow, matrices, dead)
    living = [p for p in matrices if p.max_abs > 0]
    if living:
        yield from _absolute(flow, living)
    if len(living) > 1 and not dead:
        yield from _relative(flow, living)
    yield from _dead_units(flow, living)


def _settled(flow: GradientFlow) -> Finding:
    flat = flow.loss > 0.1
    return Finding(
        "gradient.settled",
        "warn" if flat else "note",
        "The loss asks for almost nothing",
        "The gradient at the logits is almost zero though the loss is not: it is flat here."
        if flat
        else "The model is sure of this answer already, so every gradient below is tiny.",
        where="loss",
        evidence={"loss": flow.loss, "gradient at the logits": flow.output_norm},
        remedy="Look for clamped or saturated scores on the way to the loss." if flat else "Ask for another class.",
    )


def _dead(flow: GradientFlow, matrices: Sequence[ParameterGradient], dead: Sequence[ParameterGradient]) -> Finding:
    zero = [
        p for p in flow.parameters if p.finite and p.parameter.endswith("weight") and not p.weight_norm and p.max_abs
    ]
    evidence = {"parameters with zero gradient": len(dead), "healthy": "0", "layers": layers_of(reversed(dead))}
    if zero:
        return Finding(
            "gradient.zero_start",
            "note",
            "A weight that starts at zero holds gradients back",
            f"{some(p.parameter for p in zero)} are all zero, so nothing passes. They get a gradient themselves, so "
            "the first step ends that; freshly initialised heads and residual branches do this on purpose.",
            where=zero[-1].layer,
            evidence=evidence,
        )
    # Nothing comes to the first layer: that is no layer of its own that happens to be silent.
    blocked = dead[0] is matrices[0]
    # A layer whose bias gets a gradient is not cut off itself: what it is given is zero.
    living = {p.layer for p in flow.parameters if p.finite and p.max_abs}
    silent = [p for p in dead if p.layer not in living] or dead
    return Finding(
        "gradient.dead",
        "fail" if blocked or flow.pictures >= _BATCH else "warn",
        "Nothing comes back to the first layers" if blocked else "Layers that get a gradient of zero",
        f"Every value in the gradient of {some(p.parameter for p in dead)} is exactly zero.",
        where=silent[-1].layer,
        evidence=evidence,
        remedy="Something behind these layers passes nothing back: units that are always off (dead ReLUs: a bias far "
        "below zero, a learning rate that was too high), a saturated gate, or a score that the loss ignores. "
        "Activation statistics show where.",
    )


def _absolute(flow: GradientFlow, living: Sequence[ParameterGradient]) -> Iterator[Finding]:
    """Gradients against the weights that they are to change."""
    sizes = {p.parameter: p.norm / max(p.weight_norm, p.usual_norm) for p in living}
    largest = max(living, key=lambda p: sizes[p.parameter])
    size, limit = sizes[largest.parameter], _LARGE[_normalized(flow)]
    if size > limit:
        high = [p for p in living if sizes[p.parameter] > limit]
        yield Finding(
            "gradient.exploding",
            "warn",
            "Gradients are huge for such weights",
            f"Plain SGD with learning rate 1 would change `{largest.parameter}` by {size:.3g} times a usual size.",
            where=largest.layer,
            evidence={"‖g‖ against a usual ‖w‖": size, "healthy": f"below {limit:.3g}", "layers": layers_of(high)},
            remedy="Check the range of the pictures (0–255 instead of about ±2?) and the initialisation; then clip the "
            "gradient's norm, or lower the learning rate.",
        )
    most = max((p.ratio for p in living if p.weight_norm), default=math.nan)
    if flow.output_norm > _SETTLED and most < _SMALL * flow.output_norm:
        yield Finding(
            "gradient.vanishing",
            "fail",
            "Hardly any gradient arrives anywhere",
            "The loss asks for a change, but compared with its weights no layer gets one.",
            where=living[-1].layer,
            evidence={
                "largest ‖g‖/‖w‖ per gradient at the logits": most / flow.output_norm,
                "healthy": "above 0.01",
                "layers": layers_of(reversed(living)),
            },
            remedy="The features before the last layer are almost zero, or the scores are scaled down: look at the "
            "activation statistics, and at constants that are multiplied in.",
        )


def _relative(flow: GradientFlow, living: Sequence[ParameterGradient]) -> Iterator[Finding]:
    """The first layer's gradient against the last's."""
    first, last = living[0], living[-1]
    ratio, limit = first.norm / last.norm, _EXPLODED[_normalized(flow)]
    if _VANISHED <= ratio <= limit:
        return
    vanishing = ratio < 1
    before, after = _steepest(living, vanishing=vanishing)
    bound = _VANISHED * last.norm if vanishing else limit * last.norm
    touched = [p for p in living if (p.norm < bound if vanishing else p.norm > bound)]
    yield Finding(
        "gradient.vanishing" if vanishing else "gradient.exploding",
        "fail",
        "Gradients vanish on their way back" if vanishing else "Gradients explode on their way back",
        f"‖g‖ is {last.norm:.3g} in the last layer, `{last.layer}`, and {first.norm:.3g} in the first, "
        f"`{first.layer}`. "
        f"The largest {'loss' if vanishing else 'growth'} is between `{after.layer}` and `{before.layer}`.",
        where=first.layer,
        evidence={
            "‖g_first‖/‖g_last‖": ratio,
            "alarm": f"outside {_VANISHED:g} to {limit:g}",
            "largest change from layer to layer": before.norm / after.norm,
            "layers": layers_of(touched),
        },
        remedy="Use ReLU-like activations with He initialisation, a normalisation after each layer, or residual "
        "connections; sigmoid and tanh pass back little where they saturate."
        if vanishing
        else "Scale the initialisation down, add a normalisation, or clip the gradient's norm.",
    )


def _steepest(living: Sequence[ParameterGradient], *, vanishing: bool) -> tuple[ParameterGradient, ParameterGradient]:
    """The neighbours between which the gradient changes most, the one nearer to the input first."""
    pairs = itertools.pairwise(living)
    sign = 1 if vanishing else -1
    return min(pairs, key=lambda pair: sign * math.log(pair[0].norm / pair[1].norm))


def _dead_units(flow: GradientFlow, living: Sequence[ParameterGradient]) -> Iterator[Finding]:
    dead = [p for p in living if p.dead_fraction > _MANY_DEAD and ("Conv" in p.type or "Linear" in p.type)]
    if not dead or flow.pictures < _BATCH:
        return
    worst = max(dead, key=lambda p: p.dead_fraction)
    yield Finding(
        "gradient.dead",
        "warn",
        "Layers most of whose units learn nothing",
        f"In {some(p.parameter for p in dead)}, the gradient of more than half of the units is exactly zero for all "
        f"{flow.pictures} pictures.",
        where=worst.layer,
        evidence={"dead units": worst.dead_fraction, "healthy": "at most 0.47", "layers": layers_of(dead)},
        remedy="These units never fire: lower the learning rate, or use a leaky activation.",
    )


def _normalized(flow: GradientFlow) -> bool:
    return any("Norm" in p.type for p in flow.parameters)


def _healthy(flow: GradientFlow) -> Finding:
    matrices = [p for p in flow.parameters if p.is_matrix and p.finite]
    evidence = {}
    if matrices:
        evidence["‖g_first‖/‖g_last‖"] = f"{matrices[0].norm / matrices[-1].norm:.3g}"
        evidence["alarm"] = f"outside {_VANISHED:g} to {_EXPLODED[_normalized(flow)]:g}"
    return Finding(
        "gradient.healthy",
        "ok",
        "The gradient reaches every layer",
        f"{len(flow.parameters)} parameters, none of them dead, cut off or not finite.",
        evidence=evidence,
    )
