"""The data check in a real browser: a zip from the visitor's machine, its damage, its copies, and what to take away."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from featviz_core.demo.shapes import draw
from tests.fuzz.zips import packed

if TYPE_CHECKING:
    from tests.e2e.app_driver import Visitor

pytestmark = pytest.mark.browser


def pack() -> bytes:
    """Eight pictures in two parts and two classes: one leaks, one is damaged, one lies outside of the classes."""
    files: dict[str, bytes] = {"shapes/readme.txt": b"x", "__MACOSX/._shapes": b"x", "shapes/train/star/bad.png": b"x"}
    for number in range(8):
        buffer = io.BytesIO()
        Image.fromarray(draw("train", 0 if number == 7 else number).image).save(buffer, "PNG")
        part, label = "val" if number > 5 else "train", ("moon", "star")[number % 2]
        files[f"shapes/{part}/{label}/{number}.png"] = buffer.getvalue()
    return packed(files)


def test_a_zip_is_checked_and_shown(visitor: Visitor) -> None:
    visitor.opens("data_check?data=zip")
    visitor.uploads("mine.zip", pack(), label="A zip of class folders")
    visitor.page.get_by_text("2 classes, 7 pictures for training and 2 for validation").wait_for()
    visitor.page.get_by_role("button", name="Check the data").click()
    visitor.page.get_by_text("The same pictures in training and validation: 1").wait_for()
    visitor.page.get_by_text("The same picture under two labels: 1").wait_for()
    visitor.page.get_by_text("Left out because they cannot be read: 1").wait_for()
    visitor.rests()
    visitor.clicks_tile("samples-train", 2, 0, columns=6, rows=1, caption=26)
    visitor.page.get_by_text("label: ").wait_for()
    visitor.opens_tab("Duplicates")
    visitor.page.get_by_text("equal in every pixel").wait_for()
    visitor.opens_tab("Take away")
    name, data = visitor.downloads("Findings as JSON")
    assert name == "data_check.json"
    assert {"leak.exact", "duplicates.labels"} <= {finding["code"] for finding in json.loads(data)["findings"]}
