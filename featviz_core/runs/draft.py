"""What was read of a run so far: grows value by value, and can be looked at between."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from featviz_core.findings import Finding
from featviz_core.runs.roles import Role, Wanted, roles_of
from featviz_core.runs.run import Damage, LoggedHistogram, LoggedImage, Run, Scalars


class _Series:
    """The values of one tag, in columns that grow cheaply."""

    __slots__ = ("steps", "values", "wall_times")

    def __init__(self) -> None:
        self.steps, self.wall_times, self.values = array("q"), array("d"), array("d")

    def scalars(self) -> Scalars:
        return Scalars(np.array(self.steps), np.array(self.wall_times), np.array(self.values))

    def forget_from(self, step: int) -> int:
        """Drop what was written for `step` and later ones; how many values that were."""
        before = len(self.steps)
        kept = np.frombuffer(self.steps, np.int64) < step if before else np.zeros(0, bool)
        if kept.all():
            return 0
        for name in self.__slots__:
            column = getattr(self, name)
            setattr(self, name, array(column.typecode, np.frombuffer(column, column.typecode)[kept].tobytes()))
        return before - len(self.steps)


@dataclass(slots=True)
class Draft:
    """Collects one run. `restarts`: (step, values dropped) of every time it was taken up again."""

    name: str
    series: dict[str, _Series] = field(default_factory=dict)
    images: list[LoggedImage] = field(default_factory=list)
    histograms: list[LoggedHistogram] = field(default_factory=list)
    graph: bool = False
    restarts: list[tuple[int, int]] = field(default_factory=list)

    def scalar(self, tag: str, step: int, wall_time: float, value: float) -> None:
        """One more value."""
        series = self.series.get(tag)
        if series is None:
            series = self.series[tag] = _Series()
        series.steps.append(step)
        series.wall_times.append(wall_time)
        series.values.append(value)

    def restart(self, step: int) -> None:
        """The run was taken up again at `step`: what was written for it and later steps is out of date."""
        dropped = sum(series.forget_from(step) for series in self.series.values())
        self.images = [image for image in self.images if image.step < step]
        self.histograms = [histogram for histogram in self.histograms if histogram.step < step]
        self.restarts.append((step, dropped))

    def run(self, damage: list[Damage], names: Mapping[str, Wanted] | None) -> Run:
        """The run as far as it was read."""
        scalars = {tag: series.scalars() for tag, series in self.series.items() if len(series.steps)}
        roles = roles_of(scalars, names)
        return Run(
            name=self.name,
            scalars=scalars,
            roles=roles,
            images=tuple(self.images),
            logged_histograms=tuple(self.histograms),
            graph=self.graph,
            damage=tuple(damage),
            findings=(*_about_damage(damage), *_about_roles(scalars, roles), *_about_restarts(self.restarts)),
        )


def _about_damage(damage: list[Damage]) -> list[Finding]:
    findings = []
    for file in dict.fromkeys(one.file for one in damage):
        own = [one for one in damage if one.file == file]
        first, lost = own[0], sum(one.length for one in own)
        more = f" So are {len(own) - 1:,} more places." if len(own) > 1 else ""
        detail = (
            f"{first.length:,} bytes from byte {first.place:,} on are passed over: {first.reason}. Read in front of "
            f"it: {first.before:,} records; behind it: {first.after:,}.{more}"
        )
        findings.append(
            Finding(
                "run.damaged",
                "warn",
                "Part of the log cannot be read",
                detail,
                where=file,
                evidence={"place": first.place, "bytes": lost, "places": len(own), "read": first.before + first.after},
                remedy="The curves may have a gap there. Copy the log again where there is another copy of it.",
            )
        )
    return findings


def _about_roles(scalars: Mapping[str, Scalars], roles: Mapping[str, Role]) -> list[Finding]:
    if not scalars or any(role.metric in ("loss", "accuracy") for role in roles.values()):
        return []
    return [
        Finding(
            "run.no_loss",
            "note",
            "No name says loss or accuracy",
            f"The log has {', '.join(list(scalars)[:8])}{' and more' if len(scalars) > 8 else ''}.",
            remedy='Say which is which: `names={"…": "loss/train"}`.',
        )
    ]


def _about_restarts(restarts: list[tuple[int, int]]) -> list[Finding]:
    return [
        Finding(
            "run.resumed",
            "note",
            f"Taken up again at step {step:,}",
            f"{dropped:,} values that were written for this and later steps are left out, as TensorBoard does.",
            evidence={"step": step, "dropped": dropped},
        )
        for step, dropped in restarts
        if dropped
    ]
