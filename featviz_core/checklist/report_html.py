"""A checklist's report as one HTML page that needs nothing else: what to mend first, then every item with its proof."""

from __future__ import annotations

import html
import re

from featviz_core.checklist.drawings import drawn
from featviz_core.checklist.exhibits import Trial
from featviz_core.checklist.guide import GUIDES
from featviz_core.checklist.items import ITEMS, STAGES
from featviz_core.checklist.report import GRADES, SIGNS, ChecklistReport, Verdict, evidence_rows
from featviz_core.checklist.report_style import STYLE

_WORDS = {"pass": "passed", "warn": "warning", "fail": "failed", "not_run": "not run"}


def written(report: ChecklistReport) -> str:
    """The whole page."""
    kind = "fail" if report.failed else "pass"
    board = "".join(_column(report, stage, title) for stage, title in STAGES.items())
    stages = "".join(
        f"<h2>{html.escape(title)}</h2>" + "".join(_item(report, v) for v in report.stage(stage))
        for stage, title in STAGES.items()
    )
    subject = f'<p class="subject">{html.escape(report.subject)}</p>' if report.subject else ""
    how = f"Worked out in {report.seconds:.1f} s by FeatViz, on fresh copies of the experiment."
    foot = f"<footer>{how}</footer>" if report.seconds else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Debug checklist</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{STYLE}</style></head><body>\n<h1>Debug checklist</h1>{subject}\n"
        f'<p class="headline {kind}">{html.escape(report.headline())}</p>\n'
        f'<div class="board">{board}</div>\n{stages}\n{foot}\n</body></html>\n'
    )


def _column(report: ChecklistReport, stage: str, title: str) -> str:
    rows = "".join(
        f'<li class="{v.status}"><b>{SIGNS[v.status]}</b> <a href="#{v.id}">{html.escape(v.title)}</a></li>'
        for v in report.stage(stage)
    )
    return f"<div><strong>{html.escape(title)}</strong><ul>{rows}</ul></div>"


def _item(report: ChecklistReport, v: Verdict) -> str:
    """One item: open where there is something to mend."""
    wrong = v.status in ("warn", "fail")
    opened = " open" if v.status == "fail" and not v.explained_by else ""
    marks = [_WORDS[v.status], *([v.grade] if v.grade else []), *(["harmless here"] if v.harmless else [])]
    if v.explained_by:
        marks.append(f"explained by {ITEMS[v.explained_by].title}")
    judgement = report.judgements.get(v.id)
    parts = [
        f'<p class="question">{html.escape(ITEMS[v.id].question)}</p>',
        f"<p>Certainty: <b>{v.grade}</b>, {GRADES[v.grade]}.</p>" if v.grade and wrong else "",
        _evidence(v),
        _trials(v.trials),
        "".join(map(drawn, v.exhibits)),
        f"<h4>What it means</h4><p>{html.escape(GUIDES[v.id].means)}</p>" if wrong else "",
        f"<h4>What to do</h4>{_prose(v.remedy)}" if wrong and v.remedy else "",
        f"<pre>{html.escape(v.fix)}</pre>" if wrong and v.fix else "",
    ]
    by_hand = f'<p class="judged"><b>By hand:</b> {html.escape(str(judgement))}</p>' if judgement else ""
    return (
        f'<details id="{v.id}" class="{v.status}"{opened}><summary><b class="sign">{SIGNS[v.status]}</b>'
        f"<span><strong>{html.escape(v.title)}</strong> <small>{html.escape(', '.join(marks))}</small><br>"
        f"{_prose(v.summary, tag='span')}</span></summary>{by_hand}{''.join(parts)}</details>"
    )


def _evidence(v: Verdict) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{_value(value)}</td><td>{html.escape(healthy)}</td></tr>"
        for name, value, healthy in evidence_rows(v)
    )
    head = "<thead><tr><th></th><th>measured</th><th>healthy</th></tr></thead>"
    return f'<div class="wide"><table class="data">{head}<tbody>{rows}</tbody></table></div>' if rows else ""


def _value(text: str) -> str:
    """A trace of several lines keeps them."""
    return f"<pre>{html.escape(text)}</pre>" if "\n" in text else html.escape(text)


def _trials(trials: tuple[Trial, ...]) -> str:
    """What was tried on a copy, before and after."""
    rows = "".join(
        f"<tr{' class=marked' if trial.helped else ''}>"
        f"<td>{html.escape(trial.name)}<br><code>{html.escape(trial.changed)}</code></td>"
        f"<td>{html.escape(trial.figure)}</td><td>{trial.before:.4g}</td><td>{trial.after:.4g}</td>"
        f"<td>{'yes' if trial.helped else 'no'}</td></tr>"
        for trial in trials
    )
    head = "<thead><tr><th>tried on a copy</th><th></th><th>before</th><th>after</th><th>made the difference</th></tr>"
    return f'<div class="wide"><table class="data">{head}</thead><tbody>{rows}</tbody></table></div>' if rows else ""


def _prose(text: str, *, tag: str = "p") -> str:
    """Text with `code` in it."""
    return f"<{tag}>" + re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text)) + f"</{tag}>"
