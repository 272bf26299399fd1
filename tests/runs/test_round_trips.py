"""What is written is found again: by us, by TensorBoard's library, by its pages, and by way of Weights & Biases."""

from __future__ import annotations

import io
import json
import math
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard import program
from torch import nn

import featviz_core as fv
from featviz_core.runs import FolderFollower
from featviz_core.runs.wandb_writer import _await_end
from tests.runs.logs import by_tensorboard

LOSSES = [1.5, 0.1, float("nan"), float("inf"), 1e-30, -3.25]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run `written/run`, and the same run as Weights & Biases keeps it, in `written/wandb`."""
    folder = tmp_path_factory.mktemp("written")
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    wandb = {"project": "shapes", "name": "first", "mode": "offline"}
    images = torch.rand(4, 3, 16, 16)
    with fv.TrainingMonitor(folder / "run", model, optimizer, every=2, wandb=wandb) as monitor:
        for loss in LOSSES:
            model(images).sum().backward()
            optimizer.step()
            monitor.update(loss=loss, accuracy=0.5)
        monitor.validate(loss=0.75, accuracy=0.25)
        torch.save(model.state_dict(), folder / "weights.pt")
        monitor.save_model(folder / "weights.pt", "best")
        with pytest.raises(fv.FeatVizError, match="There is no model at"):
            monitor.save_model(folder / "missing.pt")
    return folder


def test_tensorboards_library_reads_what_we_wrote(written: Path) -> None:
    run, other = fv.read_run(written / "run"), by_tensorboard(written / "run")
    assert run.scalars["loss/train"].steps.tolist() == list(range(len(LOSSES)))
    np.testing.assert_array_equal(run.scalars["loss/train"].values, np.array(LOSSES, np.float32))
    for tag, found in run.scalars.items():
        steps, times, values = zip(*other.pop(tag), strict=True)
        assert (found.steps.tolist(), found.wall_times.tolist()) == (list(steps), list(times))
        np.testing.assert_array_equal(found.values, values)
    for image in run.images:
        ((step, _, content),) = other.pop(image.tag)
        assert (image.step, image.data) == (step, content[2])
    for one in run.logged_histograms:
        step, _, content = other[one.tag].pop(0)
        assert step == one.step
        np.testing.assert_allclose(np.stack([one.low, one.high, one.counts], 1), content, rtol=1e-6, atol=1e-12)
    assert {tag for tag, left in other.items() if left} == {"__run_graph__", "step1"}


@pytest.fixture(scope="module")
def ask(written: Path) -> Iterator[Any]:
    """TensorBoard itself, over HTTP on this machine."""
    server = program.TensorBoard()
    argv = ["tensorboard", "--logdir", str(written), "--port", "0", "--host", "127.0.0.1", "--load_fast", "false"]
    server.configure(argv=[*argv, "--samples_per_plugin", "scalars=1000000,images=1000,histograms=1000"])
    address = server.launch()

    def answer(path: str, **query: str) -> bytes:
        with urllib.request.urlopen(f"{address}data/{path}?{urllib.parse.urlencode(query)}", timeout=20) as reply:
            return bytes(reply.read())

    yield answer


def test_tensorboards_pages_show_what_we_wrote(written: Path, ask: Any) -> None:
    run = fv.read_run(written / "run")
    assert "run" in json.loads(ask("runs"))
    tags = json.loads(ask("plugin/scalars/tags"))["run"]
    assert set(tags) == set(run.scalars)
    for tag in ("loss/train", "lr", "gradient/0.weight", "activation/1/zero_fraction"):
        points = json.loads(ask("plugin/scalars/scalars", run="run", tag=tag))
        found = run.scalars[tag]
        assert [point[1] for point in points] == found.steps.tolist()
        np.testing.assert_array_equal([float(point[2]) for point in points], found.values)
    (picture,) = json.loads(ask("plugin/images/images", run="run", tag="prediction/0", sample="0"))
    shown = ask("plugin/images/individualImage?" + picture["query"])
    assert shown == next(image.data for image in run.images if image.tag == "prediction/0")
    assert "histogram/weight/0.weight" in json.loads(ask("plugin/histograms/tags"))["run"]
    graph = ask("plugin/graphs/graph", run="run", conceptual="false").decode()
    assert 'name: "0/Convolution"' in graph
    assert 'op: "Conv2d"' in graph


def test_weights_and_biases_holds_the_same_run(written: Path) -> None:
    ours, theirs = fv.read_run(written / "run"), fv.read_run(written / "wandb")
    assert theirs.name == "first"
    assert set(theirs.scalars) == set(ours.scalars)
    for tag, found in ours.scalars.items():
        assert theirs.scalars[tag].steps.tolist() == found.steps.tolist()
        np.testing.assert_array_equal(theirs.scalars[tag].values.astype(np.float32), found.values.astype(np.float32))
        np.testing.assert_allclose(theirs.scalars[tag].wall_times, found.wall_times, atol=1e-3)
    pictures = {image.tag: image.data for image in theirs.images}
    for image in ours.images:
        same = [np.asarray(Image.open(io.BytesIO(data))) for data in (image.data, pictures[image.tag])]
        assert np.array_equal(*same)
    logged = [{(one.step, one.tag): one for one in run.logged_histograms} for run in (ours, theirs)]
    assert set(logged[0]) == set(logged[1])
    for key, one in logged[0].items():
        np.testing.assert_allclose(one.counts, logged[1][key].counts)
        np.testing.assert_allclose(one.low, logged[1][key].low)
    assert b"best" in next((written / "wandb").glob("offline-run-*/*.wandb")).read_bytes()


def test_what_a_script_of_its_own_logs_to_weights_and_biases_is_read(tmp_path: Path) -> None:
    import wandb

    run = wandb.init(project="p", name="plain", mode="offline", dir=str(tmp_path), settings={"silent": True})
    square = Image.new("RGB", (4, 3), "red")
    for step in range(5):
        run.log({"train/loss": 1 / (step + 1), "val": {"acc": step / 5}, "odd": math.nan, "text": "said"})
    run.log({"spread": wandb.Histogram(np_histogram=([1, 2], [0.0, 0.5, 1.0])), "two": [wandb.Image(square)] * 2})
    run.log({"lr-SGD": 0.25}, step=9)
    run.finish()
    _await_end(Path(run.settings.sync_file))
    found = fv.read_run(tmp_path)
    assert found.name == "plain"
    assert found.roles == {
        "train/loss": fv.Role("loss", "train"),
        "val/acc": fv.Role("accuracy", "validation"),
        "lr-SGD": fv.Role("lr"),
    }
    assert found.scalars["train/loss"].steps.tolist() == list(range(5))
    np.testing.assert_allclose(found.scalars["train/loss"].values, [1 / (step + 1) for step in range(5)])
    np.testing.assert_allclose(found.scalars["val/acc"].values, [step / 5 for step in range(5)])
    assert np.isnan(found.scalars["odd"].values).all()
    assert (found.scalars["lr-SGD"].steps.tolist(), found.scalars["lr-SGD"].values.tolist()) == ([9], [0.25])
    assert found.histograms[["step", "low", "high", "count"]].to_numpy().tolist() == [[5, 0, 0.5, 1], [5, 0.5, 1, 2]]
    assert [(image.step, image.tag) for image in found.images] == [(5, "two/0"), (5, "two/1")]
    assert Image.open(io.BytesIO(found.images[1].data)).getpixel((0, 0))[:3] == (255, 0, 0)
    assert not found.damage


def test_runs_are_told_apart(written: Path) -> None:
    assert [run.name for run in fv.read_runs(written)] == ["run", "first"]
    with pytest.raises(fv.FeatVizError, match="holds 2 runs"):
        fv.read_run(written)


def test_without_wandb_the_other_runs_are_read(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb.proto", None)
    for runs in (fv.read_runs(written), FolderFollower(written).update()):
        run, theirs = runs
        assert len(run.scalars["loss/train"]) == len(LOSSES)
        assert not theirs.scalars
        (told,) = theirs.findings
        assert (told.code, told.severity) == ("run.unreadable", "warn")
        assert "pip install wandb" in told.remedy
