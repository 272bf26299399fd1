"""The training command runs from end to end and never leaves half a file behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from featviz_core.demo.models import build
from featviz_core.demo.train import augment, load, save


def run(*arguments: str) -> str:
    command = [sys.executable, "-m", "featviz_core.demo.train", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_command_trains_saves_and_evaluates(tmp_path: Path) -> None:
    output = run("clever_hans", "--pictures", "192", "--out", str(tmp_path))
    assert "192 pictures" in output and "flip_rate" in output
    assert [path.name for path in tmp_path.iterdir()] == ["clever_hans.safetensors"]
    with safe_open(tmp_path / "clever_hans.safetensors", framework="pt") as file:
        facts = file.metadata()
    assert facts["command"] == "python -m featviz_core.demo.train clever_hans --pictures 192"
    assert 0 <= float(facts["unmarked_recall"]) <= 1
    assert not load("clever_hans", tmp_path).training


def test_a_failed_write_keeps_the_old_file_and_leaves_no_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("shapes_cnn")
    path = save("shapes_cnn", model, {"accuracy": 0.5}, "first", tmp_path)
    before = path.read_bytes()

    def refuse(self: Path, target: Path) -> Path:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="disk full"):
        save("shapes_cnn", model, {"accuracy": 0.6}, "second", tmp_path)
    assert list(tmp_path.iterdir()) == [path] and path.read_bytes() == before


def test_augmentation_only_turns_mirrors_and_exchanges_channels() -> None:
    images = np.random.default_rng(0).integers(0, 256, (16, 12, 12, 3), dtype=np.uint8)
    changed = augment(images, np.random.default_rng(1))
    poses = set()
    for before, after in zip(images, changed, strict=True):
        assert np.array_equal(np.sort(before, axis=None), np.sort(after, axis=None))
        same = [
            (turns, mirrored)
            for turns in range(4)
            for mirrored in (False, True)
            if np.array_equal(
                np.sort(np.rot90(before[:, ::-1] if mirrored else before, turns), axis=2), np.sort(after, axis=2)
            )
        ]
        assert len(same) == 1
        poses |= set(same)
    assert len(poses) == 8
