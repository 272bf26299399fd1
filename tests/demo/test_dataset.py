"""Shapes as a PyTorch data set: equal in every worker, and equal to what is drawn at once."""

from __future__ import annotations

import numpy as np
import torch
from torch.utils.data import DataLoader

from featviz_core.demo.dataset import ShapesDataset, render
from featviz_core.demo.shapes import draw


def test_items_are_the_drawn_pictures_in_unit_range() -> None:
    dataset = ShapesDataset("validation", 5)
    image, label = dataset[4]
    picture = draw("validation", 4)
    assert label == picture.label and image.shape == (3, 128, 128) and image.dtype == torch.float32
    assert torch.equal((image * 255).round().byte(), torch.from_numpy(picture.image).permute(2, 0, 1))
    assert len(list(dataset)) == len(dataset) == 5


def test_workers_and_torch_seeds_change_nothing() -> None:
    dataset = ShapesDataset("train", 24, transform=lambda image: image - 0.5)
    here = torch.stack([image for image, _ in dataset])
    torch.manual_seed(3)
    state = torch.get_rng_state()
    dataset[0]
    assert torch.equal(torch.get_rng_state(), state)
    loader = DataLoader(dataset, batch_size=8, num_workers=2, multiprocessing_context="fork")
    assert torch.equal(torch.cat([images for images, _ in loader]), here)


def test_render_gives_the_asked_numbers_and_can_leave_out_pairs() -> None:
    images, labels = render("test", 300, start=10)
    assert len(images) == len(labels) == 300
    assert np.array_equal(images[260], draw("test", 270).image) and labels[260] == draw("test", 270).label
    single, _ = render("test", 300, start=10, single=True)
    assert len(single) == sum(not draw("test", index).two_objects for index in range(10, 310))
