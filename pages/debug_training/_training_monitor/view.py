"""Runs looked at: what they say, and the three charts of loss, accuracy and learning rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from featviz_core import run_charts
from featviz_core.findings import Finding
from featviz_core.runs import Run
from featviz_core.techniques.training_monitor import lines
from featviz_core.techniques.training_monitor.lines import Best, View
from pages._ui import show

_METRICS = {"loss": "Loss", "accuracy": "Accuracy", "lr": "Learning rate"}
_WIDTHS = (4, 4, 3)
_AXES = {"step": "Step", "epoch": "Epoch", "time": "Time"}
_UNITS = {"step": "step", "epoch": "epoch", "time": "seconds"}
_ONE = "training", "validation", "training, evaluated", "test"  # in the colours of a single run's curves
_MOST_BANDS = 3


@dataclass(frozen=True, slots=True)
class Opened:
    """A run, and what its curves say."""

    run: Run
    findings: tuple[Finding, ...]


def verdicts(opened: Sequence[Opened]) -> None:
    """What each run's curves say, the worst first; what is merely good to know, folded away."""
    for one in opened:
        if len(opened) > 1:
            st.markdown(f"**{one.run.name}**")
        said = [*one.run.findings, *one.findings]
        show.verdict(said)
        loud = [finding for finding in said if finding.severity in ("fail", "warn")]
        show.findings(loud)
        if quiet := [finding for finding in said if finding not in loud]:
            with st.expander(show.count(len(quiet), "more remark") + " on this run", expanded=not loud):
                show.findings(quiet)


def charts(opened: Sequence[Opened]) -> None:
    """The three charts with their controls."""
    runs = [one.run for one in opened]
    view = controls(runs)
    # In the order in which the session met them, so that a run keeps its colour whatever is shown beside it.
    known: list[str] = st.session_state.setdefault("runs by colour", [])
    known += [run.name for run in runs if run.name not in known]
    by, colors = colors_for(runs, known)
    legend(by, colors, runs)
    for place, metric in zip(st.columns(_WIDTHS, gap="medium"), _METRICS, strict=True):
        with place:
            st.markdown(f"**{_METRICS[metric]}** {_best_in_words(opened, metric)}")
            chart(opened, metric, view, by, colors)
    if view.window is None:
        st.caption("Drag over a chart to see a part of it in full detail.")


def live(run: Run) -> None:
    """The three charts of a run that still grows, without controls."""
    by, colors = colors_for([run], [run.name])
    legend(by, colors, [run])
    for place, metric in zip(st.columns(_WIDTHS, gap="medium"), _METRICS, strict=True):
        with place:
            st.markdown(f"**{_METRICS[metric]}**")
            chart([Opened(run, ())], metric, View(smoothing=0.9), by, colors, zoom=False)


def controls(runs: Sequence[Run]) -> View:
    """How the curves are looked at."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        smoothing = st.slider(
            "Smoothing",
            0.0,
            0.99,
            0.6,
            0.01,
            key="smoothing",
            bind="query-params",
            width=220,
            help="How much of the past is in each point, as in TensorBoard; the faint line is what was logged.",
        )
        axes = lines.axes_of(runs)
        axis = st.segmented_control(
            "Over",
            axes,
            default="step",
            required=True,
            format_func=_AXES.__getitem__,
            key="over",
            bind="query-params",
            help="What the curves go over: optimiser steps, epochs, or seconds since the run's first value.",
        )
        log_y = st.toggle(
            "Log values",
            key="log_values",
            bind="query-params",
            help="Loss and learning rate on a logarithmic scale; what is not above zero is left out.",
        )
        log_x = st.toggle(
            "Log axis", key="log_axis", bind="query-params", help="The start of the training in more detail."
        )
        window: tuple[float, float] | None = st.session_state.get("span")
        if window is not None and st.session_state.get("span axis") != axis:
            window = None
        if window is not None:
            st.button(
                f"Whole run (now {window[0]:,.4g} to {window[1]:,.4g})",
                icon=":material/zoom_out_map:",
                on_click=_forget_span,
                help="Shows all of the curves again.",
            )
    return View(axis, smoothing, window, log_x, log_y)


def _forget_span() -> None:
    st.session_state.pop("span", None)


def colors_for(runs: Sequence[Run], known: Sequence[str]) -> tuple[str, dict[str, str]]:
    """What colours stand for: the splits of a single run, else the runs, each in the colour it always has."""
    if len(runs) == 1:
        return "split", run_charts.colors_of(_ONE) | {"rate": run_charts.colors_of(_ONE)["training"]}
    return "run", run_charts.colors_of(known)


def legend(by: str, colors: Mapping[str, str], runs: Sequence[Run]) -> None:
    """Which colour and which dash is what."""
    if by == "split":
        splits = {split for run in runs for metric in ("loss", "accuracy") for _, split in lines.tags_of(run, metric)}
        names, more = [name for name in colors if name in splits], ""
    else:
        names, more = [run.name for run in runs], " :gray[· training: solid, validation: dashed]"
    dots = " ".join(f'<span style="color:{colors[name]}">●</span> {_plain(name)}&emsp;' for name in names)
    st.markdown(dots + more, unsafe_allow_html=True)


def _plain(name: str) -> str:
    """A run's name, which is the visitor's, as text that is neither HTML nor Markdown."""
    return "".join(letter if letter.isalnum() or letter in " ,.-:" else f"&#{ord(letter)};" for letter in name)


def chart(
    opened: Sequence[Opened], metric: str, view: View, by: str, colors: Mapping[str, str], *, zoom: bool = True
) -> None:
    """One quantity of all runs, with the best point and what the findings rest on."""
    frame = lines.lines([one.run for one in opened], metric, view)
    if frame.empty:
        st.caption(f"Nothing to draw: no tag is known as {_METRICS[metric].lower()}" + (" here." if zoom else " yet."))
        return
    percent = metric == "accuracy" and float(frame["value"].max()) <= 1
    if by == "split" and metric == "lr":
        frame = frame.assign(split=frame["split"].where(frame["split"].isin(list(colors)), "rate"))
    drawn = run_charts.curves(
        frame,
        title=_METRICS[metric].lower(),
        by=by,
        colors=colors,
        axis=_UNITS[view.axis],
        log_x=view.log_x,
        log_y=view.log_y and metric != "accuracy",
        percent=percent,
        bests=_bests(opened, metric, view),
        bands=_bands(opened, metric, view),
    )
    if not zoom:
        st.altair_chart(drawn, width="stretch", alt=f"{_METRICS[metric]} of the run so far")
        return
    key = f"{metric} over {view.axis} {view.window}"

    def chosen() -> None:
        span = st.session_state[key]["selection"].get(run_charts.SPAN, {}).get("x")
        if span and span[1] > span[0]:
            st.session_state["span"], st.session_state["span axis"] = (float(span[0]), float(span[1])), view.axis

    st.altair_chart(
        drawn, width="stretch", key=key, on_select=chosen, selection_mode=[run_charts.SPAN], alt=_METRICS[metric]
    )


def _best_in_words(opened: Sequence[Opened], metric: str) -> str:
    best = lines.best_of(opened[0].run, metric) if len(opened) == 1 else None
    return f":gray[· {_label(best)}]" if best is not None else ""


def _label(best: Best) -> str:
    value = f"{best.value:.1%}" if "acc" in best.tag.lower() and 0 <= best.value <= 1 else f"{best.value:.3g}"
    return f"best {value} at step {best.step:,}, {best.split}"


def _inside(x: float, view: View) -> bool:
    return (view.window is None or view.window[0] <= x <= view.window[1]) and (x > 0 or not view.log_x)


def _bests(opened: Sequence[Opened], metric: str, view: View) -> pd.DataFrame:
    found = [lines.best_of(one.run, metric, view.axis) for one in opened]
    rows = [
        {"x": best.x, "value": best.value, "label": _label(best)}
        for best in found
        if best is not None and _inside(best.x, view) and (best.value > 0 or not view.log_y)
    ]
    return pd.DataFrame(rows, columns=["x", "value", "label"])


def _bands(opened: Sequence[Opened], metric: str, view: View) -> pd.DataFrame:
    rows = []
    for one in opened:
        tags = [tag for tag, _ in lines.tags_of(one.run, metric)]
        told = [f for f in one.findings if f.where in tags and "steps" in f.evidence]
        for finding in told[:_MOST_BANDS]:
            place = lines.at_steps(one.run, finding.where, finding.evidence["steps"], view.axis)
            if place is None:
                continue
            low, high = view.window or place
            first, last = max(place[0], low), min(place[1], high)
            if first <= last and (first > 0 or not view.log_x):
                rows.append({"from": first, "to": last, "severity": finding.severity, "title": finding.title})
    return pd.DataFrame(rows, columns=["from", "to", "severity", "title"])
