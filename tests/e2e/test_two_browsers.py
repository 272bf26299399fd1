"""Two people, two browsers, two pictures, one server: nobody ever sees what belongs to the other."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import featviz_core as fv
from featviz_core.images import read_picture
from tests.e2e.app_driver import Server, launch, picture_file, visiting

pytestmark = pytest.mark.browser

LAYERS = ("stem", "trunk_output.block2", "trunk_output.block3", "trunk_output.block4", "trunk_output.block1", "fc")
PEOPLE = 2


def test_nobody_gets_the_other_s_maps(server: Server) -> None:
    together = threading.Barrier(PEOPLE, timeout=180)

    def visit(person: int) -> list[np.ndarray]:
        from playwright.sync_api import sync_playwright

        try:
            with sync_playwright() as playwright, launch(playwright) as browser, visiting(browser, server) as visitor:
                visitor.opens("feature_maps")
                visitor.uploads("picture.png", picture_file(100 + person))
                visitor.opens_tab("Take away")
                seen = []
                for layer in LAYERS:
                    together.wait()
                    visitor.picks("Layer", layer)
                    seen.append(visitor.downloads_maps(layer, "picture.png"))
                return seen
        except BaseException:
            together.abort()
            raise

    with ThreadPoolExecutor(PEOPLE) as pool:
        seen = list(pool.map(visit, range(PEOPLE)))

    model = fv.load_model("demo/shapes_cnn")
    wrong = 0
    for person, maps in enumerate(seen):
        images = model.preprocess(read_picture(picture_file(100 + person)).image)
        for layer, got in zip(LAYERS, maps, strict=True):
            wrong += not np.array_equal(got, fv.feature_maps(model, images, layer=layer).maps)
    assert (wrong, len(seen) * len(LAYERS)) == (0, 12)
