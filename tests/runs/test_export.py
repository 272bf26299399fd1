"""Results of the techniques as runs of TensorBoard and Weights & Biases."""

from __future__ import annotations

import io
import threading
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import featviz_core as fv
from featviz_core.errors import RunError
from featviz_core.runs import export, model_graph, wandb_writer
from featviz_core.runs.wandb_writer import WandbSink
from tests.runs.logs import by_tensorboard


@pytest.fixture(scope="module")
def results(shapes_cnn: Any) -> list[export.Item]:
    images = torch.rand(2, 3, 128, 128)
    layer = shapes_cnn.layers()[3].address
    stats = fv.activation_stats(shapes_cnn, images)
    return [
        export.Picture("maps", fv.feature_maps(shapes_cnn, images[:1], layer=layer).mosaic().image, "one layer"),
        export.Table("layers", stats.frame()),
        export.Distribution("values", [0, 3, 0, 1, 0], [0, 1, 2, 3, 4, 5], step=2),
        export.Graph(model_graph(shapes_cnn, images)),
    ]


def check(results: list[export.Item], run: fv.Run) -> None:
    picture, table, *_ = results
    assert isinstance(picture, export.Picture)
    assert isinstance(table, export.Table)
    (image,) = run.images
    shown = np.asarray(Image.open(io.BytesIO(image.data)).convert("RGB"))
    assert np.array_equal(shown, np.asarray(picture.image.convert("RGB")))
    numbers = table.frame.select_dtypes("number")
    assert set(run.scalars) == {f"layers/{name}" for name in numbers.columns}
    for name in numbers.columns:
        np.testing.assert_array_equal(
            run.scalars[f"layers/{name}"].values.astype(np.float32), numbers[name].astype("f4")
        )
        assert run.scalars[f"layers/{name}"].steps.tolist() == list(range(len(numbers)))
    histogram = run.histograms.query("count > 0")
    assert histogram[["step", "low", "high", "count"]].to_numpy().tolist() == [[2, 1, 2, 3], [2, 3, 4, 1]]


def test_a_tensorboard_run(results: list[export.Item], tmp_path: Path) -> None:
    first, second = (export.to_folder(results, tmp_path / "look") for _ in range(2))
    assert (first.name, second.name) == ("look", "look-2")
    check(results, fv.read_run(first))
    assert fv.read_run(first).graph
    ((_, _, text),) = by_tensorboard(first)["layers/text_summary"]
    lines = text.item().decode().splitlines()
    assert lines[0].startswith("| layer | type | shape | mean |")
    assert len(lines) == 2 + len(results[1].frame)
    check(results, fv.read_run({"upload.zip": export.zipped(first)}))


def test_a_zip_of_a_weights_and_biases_run_says_nothing_of_this_machine(
    results: list[export.Item], capfd: pytest.CaptureFixture[str]
) -> None:
    data = export.as_zip(results, "look", wandb={"project": "shapes"})
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        everything = b"".join(archive.read(name) for name in names)
    assert all(name.startswith("look/wandb/offline-run-") for name in names)
    assert any(name.endswith("graph.pbtxt") for name in names)
    assert any(name.endswith(".table.json") for name in names)
    assert str(Path.cwd()).encode() not in everything
    run = fv.read_run({"upload.zip": data})
    assert run.name == "look"
    check(results, run)
    assert not capfd.readouterr().err


def test_a_weights_and_biases_run_is_whole_once_it_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = WandbSink(tmp_path, {"project": "shapes", "mode": "offline"}, alone=True)
    for step in range(400):  # several of its file's blocks
        sink.scalars({"loss": step}, step, 1.7e9)
    finish = sink._run.finish

    def slowly() -> None:
        finish()
        (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
        wandb_writer._await_end(file)
        whole = file.read_bytes()
        file.write_bytes(whole[:7])
        threading.Timer(0.3, file.write_bytes, [whole]).start()

    monkeypatch.setattr(sink._run, "finish", slowly)
    sink.close()
    assert fv.read_run(tmp_path).scalars["loss"].steps.tolist() == list(range(400))


def test_curves_go_over_their_own_column(tmp_path: Path) -> None:
    frame = pd.DataFrame({"epoch": [1, 5, 9], "loss": [3.0, np.nan, 1.0], "name": ["a|b", "b", "c"]})
    run = fv.read_run(export.to_folder([export.Table("t", frame, x="epoch")], tmp_path / "run"))
    assert list(run.scalars) == ["t/loss"]
    assert run.scalars["t/loss"].steps.tolist() == [1, 5, 9]
    np.testing.assert_array_equal(run.scalars["t/loss"].values, [3, np.nan, 1])


def test_only_the_runs_own_files_are_packed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    export.to_folder([], tmp_path / "run")
    (tmp_path / "run" / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "run" / "up").symlink_to(tmp_path)
    with zipfile.ZipFile(io.BytesIO(export.zipped(tmp_path / "run"))) as archive:
        (name,) = archive.namelist()
    assert name.startswith("run/events.out.tfevents")
    with pytest.raises(RunError, match="There is no run"):
        export.zipped(tmp_path / "nothing")


def test_weights_and_biases_says_why_it_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "")
    for arguments, why in (({"mode": "sideways"}, "sideways"), ({"colour": "red"}, "colour")):
        with pytest.raises(RunError, match=f"does not start the run.*{why}"):
            export.to_wandb([], tmp_path, {"project": "p", **arguments})
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    with pytest.raises(RunError, match="pip install wandb"):
        export.to_wandb([], tmp_path, {"project": "p"})
