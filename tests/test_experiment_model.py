"""An experiment's model and pictures, as the pickers offer them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from featviz_core.errors import ExperimentError
from featviz_core.experiment import Experiment
from featviz_core.experiment_file import open_experiment
from featviz_core.experiment_model import open_for_looking


class Pair(nn.Module):
    """A model that gives more than scores."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(channels, 4, 3), nn.Flatten(), nn.LazyLinear(3))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"logits": self.layers(images), "other": images}


def made(images: Tensor, **parts: object) -> Experiment:
    data = TensorDataset(images, torch.arange(len(images)) % 3)
    model = Pair(images.shape[1] if images.ndim == 4 else 3)
    if images.ndim == 4:
        model(images[:1].float())
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    given = {"train_loader": DataLoader(data, 4, shuffle=True), "loss_fn": nn.CrossEntropyLoss(), **parts}
    return Experiment(model=model, optimizer=optimizer, **given)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("scale", [1.0, 255.0, 7.3])
def test_a_picture_of_the_loaders_is_fed_to_the_last_bit(channels: int, scale: float) -> None:
    images = (torch.rand(20, channels, 12, 16) - 0.3) * scale
    found = open_for_looking(lambda: made(images, class_names=["a", "b", "c"]))
    model = found.model("it")
    for name, picture in found.pictures.items():
        number = int(name.split()[1])
        assert name == f"train {number} · {'abc'[number % 3]}"
        assert torch.equal(model.preprocess(picture.image)[0], images[number])
    assert model.logits(model.preprocess(picture.image)).shape == (1, 3)
    assert model.layers()


def test_other_pictures_get_the_same_size_and_normalisation() -> None:
    found = open_for_looking(open_experiment("demo/healthy_cnn"))
    from PIL import Image

    made_of = found.preprocessing(Image.new("RGB", (100, 60), (255, 0, 0)))
    assert made_of.shape == (1, 3, 32, 32)
    assert made_of[0, :, 5, 5].tolist() == [2, -2, -2]


def test_random_numbers_go_on_as_if_nothing_had_happened() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    open_for_looking(open_experiment("demo/healthy_cnn"))
    assert torch.equal(before, torch.get_rng_state())


def test_values_of_no_usual_normalisation_are_noted() -> None:
    assert "stretched" in open_for_looking(lambda: made(torch.randn(9, 3, 8, 8) * 900)).notes[0]


def test_what_is_no_picture_is_explained() -> None:
    with pytest.raises(ExperimentError, match="cannot be shown"):
        open_for_looking(lambda: made(torch.rand(9, 5, 8, 8)))
