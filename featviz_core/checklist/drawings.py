"""Exhibits as HTML with inline SVG: they need no network, and take their colours from the page around them.

Colours are CSS variables: `--ink`, `--faint`, `--band` for what is healthy, and `--c0` to `--c5` for the series.
"""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from featviz_core.checklist.exhibits import Bars, Curves, Exhibit, Histogram, Matrix, Pictures, Range, Table
from featviz_core.checklist.scales import Scale, scale

_WIDTH, _HEIGHT = 560, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 10, 30
_ROW, _LABEL, _NUMBER = 18, 190, 64
_MOST_ROWS, _LONGEST_NAME = 40, 30
_COLORS = 6
_CELL = 34
_MOST_IN_CELLS = 14  # columns of a matrix that still have room for numbers


def drawn(exhibit: Exhibit) -> str:
    """The exhibit as an HTML figure with its title."""
    inside = _DRAW[type(exhibit)](exhibit)
    return f"<figure><figcaption>{html.escape(exhibit.title)}</figcaption>{inside}</figure>"


def curves(exhibit: Curves) -> str:
    """Lines over steps, each broken where it is not finite, on the healthy band."""
    longest = max((len(values) for values in exhibit.curves.values()), default=0)
    x = Scale(0, max(longest - 1, 1), _LEFT, _WIDTH - _RIGHT)
    every = [value for values in exhibit.curves.values() for value in values]
    y = scale(every, exhibit.healthy, start=_HEIGHT - _BOTTOM, end=_TOP, log=exhibit.log)
    parts = [*_band(exhibit.healthy, y, upright=True), *_axes(x, y, exhibit.x)]
    for number, (name, values) in enumerate(exhibit.curves.items()):
        color = f"var(--c{number % _COLORS})"
        for run in _finite_runs(values):
            points = " ".join(f"{x(step)},{y(value)}" for step, value in run)
            parts.append(
                f'<circle cx="{x(run[0][0])}" cy="{y(run[0][1])}" r="2.5" fill="{color}"/>'
                if len(run) == 1
                else f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"/>'
            )
        bad = next((step for step, value in enumerate(values) if not math.isfinite(value)), None)
        if bad is not None:
            parts.append(f'<line x1="{x(bad)}" x2="{x(bad)}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}" class="bad"/>')
            parts.append(_text(x(bad), _TOP + 12, f"{name}: not finite from here on", anchor=_side(x(bad))))
    return _legend(exhibit.curves) + _svg(parts, _HEIGHT, exhibit.title)


def bars(exhibit: Bars) -> str:
    """A row for each name, its bar from zero (or from the left on a logarithmic scale), on the healthy band."""
    shown = list(exhibit.values.items())[:_MOST_ROWS]
    height = len(shown) * _ROW + _BOTTOM
    values = [value for _, value in shown]
    x = scale(values, exhibit.healthy, start=_LABEL, end=_WIDTH - _NUMBER, log=exhibit.log, zero=True)
    zero = x(0.0) if x.low <= 0 <= x.high else x.start
    parts = [*_band(exhibit.healthy, x, upright=False, height=height), *_below(x, height)]
    for row, (name, value) in enumerate(shown):
        middle = row * _ROW + _ROW / 2
        parts.append(_text(_LABEL - 6, middle + 4, _short(name), anchor="end", hint=name))
        end = x(value) if not math.isnan(value) else zero
        color = "--c0" if _within(value, exhibit.healthy) else "--alarm"
        width = max(abs(end - zero), 0.8)
        parts.append(
            f'<rect x="{min(zero, end):.1f}" y="{middle - 5}" width="{width:.1f}" height="10" rx="1.5" '
            f'fill="var({color})"><title>{html.escape(name)}: {_number(value)}</title></rect>'
        )
        parts.append(_text(max(end, zero) + 5, middle + 4, _number(value)))
    left_out = len(exhibit.values) - len(shown)
    more = f"<small>and {left_out} more</small>" if left_out else ""
    return _svg(parts, height, exhibit.title) + more


def histogram(exhibit: Histogram) -> str:
    """How often values come, a colour for each name, on the healthy band."""
    x = scale(exhibit.edges, exhibit.healthy, start=_LEFT, end=_WIDTH - _RIGHT)
    every = [count for counts in exhibit.counts.values() for count in counts]
    y = scale(every, None, start=_HEIGHT - _BOTTOM, end=_TOP, zero=True)
    parts = [*_band(exhibit.healthy, x, upright=False, height=_HEIGHT), *_axes(x, y, "")]
    for number, counts in enumerate(exhibit.counts.values()):
        for low, high, count in zip(exhibit.edges[:-1], exhibit.edges[1:], counts, strict=True):
            width, tall = max(x(high) - x(low), 0.5), y(0) - y(count)
            parts.append(
                f'<rect x="{x(low)}" y="{y(count)}" width="{width:.1f}" height="{tall:.1f}" '
                f'fill="var(--c{number % _COLORS})" fill-opacity=".6"/>'
            )
    return _legend(exhibit.counts) + _svg(parts, _HEIGHT, exhibit.title)


def matrix(exhibit: Matrix) -> str:
    """A cell for each value: the larger, the stronger its colour; with its number where there is room."""
    columns = len(exhibit.columns)
    cell = min(_CELL, (_WIDTH - _LABEL) / max(columns, 1))
    largest = max((abs(v) for row in exhibit.values for v in row if math.isfinite(v)), default=0.0) or 1.0
    height = len(exhibit.rows) * _ROW + _LABEL / 2
    parts: list[str] = []
    for row, (name, values) in enumerate(zip(exhibit.rows, exhibit.values, strict=True)):
        parts.append(_text(_LABEL - 6, row * _ROW + 13, _short(name), anchor="end", hint=name))
        for column, value in enumerate(values):
            left, share = _LABEL + column * cell, abs(value) / largest if math.isfinite(value) else 0.0
            hint = f"{name}, {exhibit.columns[column]}: {_number(value)}"
            parts.append(
                f'<rect x="{left:.1f}" y="{row * _ROW}" width="{cell - 1:.1f}" height="{_ROW - 1}" fill="var(--c0)" '
                f'fill-opacity="{0.06 + 0.74 * share:.2f}"><title>{html.escape(hint)}</title></rect>'
            )
            if columns <= _MOST_IN_CELLS and value:
                parts.append(_text(left + cell / 2, row * _ROW + 13, _number(value), anchor="middle"))
    bottom = len(exhibit.rows) * _ROW
    for column, name in enumerate(exhibit.columns):
        at = _LABEL + (column + 0.5) * cell
        turned = f'transform="rotate(-45 {at:.1f} {bottom + 12})"'
        parts.append(_text(at + 3, bottom + 12, _short(name), anchor="end", more=turned))
    return _svg(parts, height, exhibit.title)


def table(exhibit: Table) -> str:
    """A table, the marked rows set off."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in exhibit.columns)
    rows = "".join(
        f"<tr{' class=marked' if number in exhibit.marked else ''}>"
        + "".join(f"<td>{html.escape(_cell(value))}</td>" for value in row)
        + "</tr>"
        for number, row in enumerate(exhibit.rows)
    )
    return f'<div class="wide"><table class="data"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def pictures(exhibit: Pictures) -> str:
    """The pictures side by side, each over its caption."""
    return (
        '<div class="pictures">'
        + "".join(
            f'<span><img alt="{html.escape(caption)}" src="data:image/png;base64,{base64.b64encode(file).decode()}">'
            f"<small>{html.escape(caption)}</small></span>"
            for file, caption in zip(exhibit.files, exhibit.captions, strict=True)
        )
        + "</div>"
    )


_DRAW: dict[type, Callable[[Any], str]] = {
    Bars: bars,
    Curves: curves,
    Histogram: histogram,
    Matrix: matrix,
    Pictures: pictures,
    Table: table,
}


def _svg(parts: Sequence[str], height: float, title: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" role="img" aria-label="{html.escape(title)}">{"".join(parts)}</svg>'
    )


def _text(x: float, y: float, text: str, *, anchor: str = "start", hint: str = "", more: str = "") -> str:
    title = f"<title>{html.escape(hint)}</title>" if hint and hint != text else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{title}{html.escape(text)}</text>'


def _axes(x: Scale, y: Scale, title: str) -> Iterator[str]:
    for tick in y.ticks():
        yield f'<line x1="{x.start}" x2="{x.end}" y1="{y(tick)}" y2="{y(tick)}" class="grid"/>'
        yield _text(x.start - 6, y(tick) + 4, _number(tick), anchor="end")
    for tick in x.ticks(6):
        yield _text(x(tick), _HEIGHT - _BOTTOM + 16, _number(tick), anchor="middle")
    yield _text(x.end, _HEIGHT - 2, title, anchor="end")


def _below(x: Scale, height: float) -> Iterator[str]:
    """A horizontal scale below rows."""
    for tick in x.ticks():
        yield f'<line x1="{x(tick)}" x2="{x(tick)}" y1="0" y2="{height - _BOTTOM}" class="grid"/>'
        yield _text(x(tick), height - _BOTTOM + 16, _number(tick), anchor="middle")


def _band(healthy: Range | None, along: Scale, *, upright: bool, height: float = _HEIGHT) -> Iterator[str]:
    """What is healthy, as a band over the whole drawing."""
    if healthy is None:
        return
    edges = [along(limit) if limit is not None else open_ for limit, open_ in _open(healthy, along)]
    first, size = min(edges), max(abs(edges[1] - edges[0]), 1.5)
    box = (
        f'x="{_LEFT}" width="{_WIDTH - _LEFT - _RIGHT}" y="{first:.1f}" height="{size:.1f}"'
        if upright
        else f'x="{first:.1f}" width="{size:.1f}" y="0" height="{height - _BOTTOM}"'
    )
    yield f'<rect {box} fill="var(--band)"><title>healthy</title></rect>'


def _open(healthy: Range, along: Scale) -> list[tuple[float | None, float]]:
    return list(zip(healthy, (along.start, along.end), strict=True))


def _within(value: float, healthy: Range | None) -> bool:
    low, high = healthy or (None, None)
    return math.isfinite(value) and (low is None or value >= low) and (high is None or value <= high)


def _legend(series: Mapping[str, Any]) -> str:
    if len(series) < 2:
        return ""
    keys = (
        f'<span><i style="background:var(--c{number % _COLORS})"></i>{html.escape(name)}</span>'
        for number, name in enumerate(series)
    )
    return f'<div class="legend">{"".join(keys)}</div>'


def _finite_runs(values: Sequence[float]) -> list[list[tuple[int, float]]]:
    runs: list[list[tuple[int, float]]] = [[]]
    for step, value in enumerate(values):
        if math.isfinite(value):
            runs[-1].append((step, value))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _side(x: float) -> str:
    return "start" if x < _WIDTH / 2 else "end"


def _short(name: str) -> str:
    """The end of a long name: that is where the names of layers differ."""
    return name if len(name) <= _LONGEST_NAME else "…" + name[1 - _LONGEST_NAME :]


def _number(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "NaN" if math.isnan(value) else "∞" if value > 0 else "−∞"


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return _number(value) if isinstance(value, float) else str(value)
