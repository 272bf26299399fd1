"""The report's three forms and the command line, on real files, with its exit codes."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import featviz_core as fv
from featviz_core.__main__ import main
from featviz_core.checklist.exhibits import Bars, Trial, measured, pictures
from featviz_core.checklist.items import EXPLAINS, ITEMS
from featviz_core.checklist.report import ChecklistReport, Verdict, evidence_rows, explained
from tests.toy_experiments import experiment

ROOT = Path(__file__).resolve().parents[2]


def report(**failed: str | None) -> ChecklistReport:
    verdicts = [
        Verdict(
            item,
            "fail",
            f"{item} <went> wrong | badly",
            "proven",
            {"number_of_things": 3, "names": ["a", "b"]},
            "Mend.",
        )
        if item.replace(".", "_") in failed
        else Verdict(item, "pass", "Fine.", "proven")
        for item in ITEMS
    ]
    return ChecklistReport(explained(verdicts), 1.5)


def test_a_fail_is_traced_to_the_first_that_explains_it():
    found = report(data_labels=None, loss_value=None, loss_decreases=None, training_fit=None)
    assert found.root_cause == "data.labels"
    assert {v.id: v.explained_by for v in found.items if v.status == "fail"} == {
        "data.labels": None,
        "loss.value": "data.labels",
        "loss.decreases": "data.labels",
        "training.fit": "data.labels",
    }


def test_a_cause_further_down_the_list_is_still_the_root():
    found = report(loss_decreases=None, optimizer_updates=None)
    assert found.root_cause == "optimizer.updates"
    assert found["loss.decreases"].explained_by == "optimizer.updates"


def test_nothing_explains_itself():
    def reaches(item: str, seen: frozenset[str]) -> bool:
        return any(
            item in others and (cause in seen or reaches(cause, seen | {cause})) for cause, others in EXPLAINS.items()
        )

    assert set(EXPLAINS) <= set(ITEMS)
    assert not [item for item in ITEMS if reaches(item, frozenset({item}))]


def test_json():
    content = json.loads(report(model_finite=None).to_json())
    assert content["schema"] == 1
    assert content["root_cause"] == "model.finite"
    assert [item["id"] for item in content["items"]] == list(ITEMS)
    assert set(content["items"][0]) == {
        "id", "title", "status", "grade", "harmless", "summary", "evidence", "remedy", "explained_by",
    }  # fmt: skip


def test_what_is_to_be_looked_at_stays_out_of_the_json_and_what_was_tried_is_evidence():
    trial = Trial("a tenth of the learning rate", "lr=0.01", "loss after 40 steps", 9.5, 0.1, True)
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    found = replace(
        report(),
        items=(
            Verdict(
                "loss.value",
                "warn",
                "Odd.",
                "heuristic",
                {"loss": measured(3.0, (0.5, 2.0)), "least": measured(1.0, (2.0, None)), "left": measured(0.1, 0)},
                remedy="Divide.",
                fix="loss = loss / 2",
                exhibits=(Bars("b", {"a": 1.0}), pictures("p", [pixels], ["one"])),
                trials=(trial,),
            ),
        ),
    )
    (item,) = json.loads(found.to_json())["items"]
    assert list(item) == [
        "id", "title", "status", "grade", "harmless", "summary", "evidence", "remedy", "explained_by",
    ]  # fmt: skip
    assert item["evidence"]["loss"] == {"value": 3.0, "healthy": [0.5, 2.0]}
    assert item["evidence"]["tried"] == [asdict(trial)]
    assert item["remedy"] == "Divide.\n\nloss = loss / 2"
    assert evidence_rows(found["loss.value"]) == [
        ("loss", "3", "0.5 to 2"),
        ("least", "1", "at least 2"),
        ("left", "0.1", "0"),
    ]
    (picture,) = found["loss.value"].exhibits[1].files
    opened = np.asarray(Image.open(io.BytesIO(picture)))
    assert (opened[::48, ::48] == pixels).all()
    assert opened.shape == (96, 96, 3)


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.outside: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.outside += [v for name, v in attrs if name in ("src", "href") and not v.startswith(("data:", "#"))]
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_html_is_one_well_formed_page_that_needs_nothing_else():
    page = Page()
    page.feed(report(model_finite=None).to_html())
    assert not page.open
    assert not page.outside
    text = " ".join(page.words)
    assert "model.finite <went> wrong | badly" in text
    assert all(item.title in text for item in ITEMS.values())


def test_markdown_tables_hold_together():
    text = report(model_finite=None).to_markdown()
    rows = [line.replace("\\|", "") for line in text.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {5}
    assert len(rows) == 15 + 2 * 5
    assert "- number of things: 3" in text


def test_each_verdict_is_told_as_it_comes():
    told: list[Verdict] = []
    asked = ["data.labels", "loss.value"]
    found = fv.run_checklist(lambda: experiment(loss_fn=lambda *_: 1 / 0), items=asked, part=told.append)
    assert [verdict.id for verdict in told] == asked
    assert told[1].summary == found["loss.value"].summary
    assert [verdict.id for verdict in found.items if verdict.summary != "Not asked for."] == asked


# The command line

HEAD = """
import torch
from torch import nn
import featviz_core as fv
torch.set_num_threads(1)

def experiment():
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))
    batches = [(torch.rand(6, 3, 4, 4), torch.arange(6) % 3) for _ in range(5)]
    return fv.Experiment(model=model, train_loader=batches[:3], val_loader=batches[3:], loss_fn=nn.CrossEntropyLoss(),
                         optimizer=torch.optim.SGD(PARAMETERS, lr=0.1))
"""


@pytest.fixture
def file(tmp_path):
    def write(parameters: str, name: str = "an_experiment.py") -> Path:
        path = tmp_path / name
        path.write_text(HEAD.replace("PARAMETERS", parameters), encoding="utf-8")
        return path

    return write


def command(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "featviz_core", "checklist", *map(str, arguments)]
    return subprocess.run(
        line, capture_output=True, text=True, cwd=cwd, env={"PYTHONPATH": str(ROOT), "PATH": ""}, check=False
    )


def test_a_healthy_file_gives_0_and_writes_the_reports(file, tmp_path):
    done = command(
        file("model.parameters()").name,
        "--json",
        "out.json",
        "--html",
        "out.html",
        "--markdown",
        "out.md",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "No fail" in done.stdout
    assert done.stderr == ""
    assert json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["root_cause"] is None
    assert (tmp_path / "out.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert (tmp_path / "out.md").read_text(encoding="utf-8").startswith("# Debug checklist")


def test_a_mistake_gives_1_and_is_named(file, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["checklist", str(file("[torch.zeros(1, requires_grad=True)]", "a_stale_one.py"))]) == 1
    assert "The optimiser does not hold 1.weight, 1.bias." in capsys.readouterr().out


def test_a_file_that_fails_gives_2_and_one_line(file, tmp_path, capsys):
    assert main(["checklist", str(file("undefined", "a_broken_one.py"))]) == 2
    out, err = capsys.readouterr()
    assert err.count("\n") == 1
    assert "NameError: name 'undefined' is not defined (a_broken_one.py, line" in err
    assert "optimizer=torch.optim.SGD(undefined" in out
    assert main(["checklist", str(tmp_path / "nothing.py")]) == 2
    assert main(["checklist", "demo/healthy_cnn", "--json", str(tmp_path / "no" / "folder.json")]) == 2
    assert main(["checklist", "demo/healthy_cnn", "--device", "tpu"]) == 2
