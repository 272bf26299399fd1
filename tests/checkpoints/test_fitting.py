"""Which architecture, and how well do the weights fit?"""

from __future__ import annotations

import io

import pytest
import torch
import torchvision
from torch import nn

from featviz_core import architectures
from featviz_core.checkpoints import Checkpoint, architecture, fit_checkpoint, fitting, guess_architecture
from featviz_core.checkpoints.reading import read_checkpoint
from featviz_core.errors import CheckpointError
from featviz_core.models import load_model
from featviz_core.zoo import ZOO


def checkpoint(state):
    return Checkpoint("it", dict(state), "")


def net(name="squeezenet1_1", **options):
    return architectures.build(name, **options).eval()


@pytest.fixture(scope="module")
def zoo():
    """Every architecture with 1000 classes and with 7, without numbers."""
    with architecture._WithoutNumbers():
        return {name: (architectures.build(name), architectures.build(name, num_classes=7)) for name in ZOO}


def test_weights_give_the_outputs_of_the_model_they_came_from():
    for name in ("squeezenet1_1", "shufflenet_v2_x0_5"):
        one, other = net(name), net(name)
        fitted, report = fit_checkpoint(other, checkpoint(one.state_dict()))
        images = torch.rand(1, 3, 64, 64)
        assert torch.equal(fitted(images), one(images))
        assert (report.num_classes, report.matched, report.notes) == (1000, 1.0, ())


@pytest.mark.parametrize("name", ["squeezenet1_1", "shufflenet_v2_x0_5", "googlenet"])
def test_a_head_of_another_size_is_resized(name):
    one = net(name, num_classes=7)
    fitted, report = fit_checkpoint(net(name), checkpoint(one.state_dict()))
    images = torch.rand(1, 3, 64, 64)
    assert torch.equal(fitted.eval()(images), one(images))
    assert report.num_classes == 7
    assert report.notes == ("The head was resized from 1,000 to 7 classes.",)


def test_every_architecture_takes_a_head_of_another_size(zoo, monkeypatch):
    monkeypatch.setattr(fitting, "_describe", lambda *_: [])  # looks at numbers, and there are none
    for name, (large, small) in zoo.items():
        state = small.state_dict()
        fitted, report = fit_checkpoint(large, checkpoint(state))
        assert (report.num_classes, report.matched) == (7, 1.0), name
        shapes = {key: value.shape for key, value in fitted.state_dict().items()}
        assert shapes == {key: value.shape for key, value in state.items()}, name


def test_every_architecture_is_recognised(zoo):
    shapes = {name: architecture._shapes(name) for name in zoo}
    for name, (_, small) in zoo.items():
        best = guess_architecture(small.state_dict())[0]
        assert shapes[best] == shapes[name], (name, best)


@pytest.mark.parametrize("name", ["demo/shapes_cnn"])
def test_demo_models_are_recognised(name):
    assert guess_architecture(architectures.build(name).state_dict())[0] == name


def test_unknown_weights_belong_nowhere():
    for state in ({}, nn.Linear(3, 2).state_dict(), {"weight": torch.ones(())}):
        with pytest.raises(CheckpointError, match="no architecture that is known"):
            guess_architecture(state)


def test_the_wrong_architecture_names_the_right_one():
    state = net("shufflenet_v2_x0_5").state_dict()
    with pytest.raises(CheckpointError, match=r"does not fit SqueezeNet.*looks like shufflenet_v2_x0_5"):
        fit_checkpoint(net(), checkpoint(state))


def test_differences_are_said_in_a_few_lines():
    state = net().state_dict()
    for index, key in enumerate(list(state)):
        if index % 3 == 0:
            del state[key]
    state |= {f"{'long' * 50}{index}.weight": torch.ones(2) for index in range(500)}
    state["classifier.1.bias"] = torch.ones(3)
    state["features.0.bias"] = torch.full((64,), torch.nan)
    state["classifier.1.weight"] = net().state_dict()["classifier.1.weight"].half()
    _, report = fit_checkpoint(net(), checkpoint(state))
    assert all(len(note) < 300 for note in report.notes)
    said = " ".join(report.notes)
    for part in (
        "not in the file",
        "fit nowhere",
        "another shape",
        "from float16",
        "hold NaN or infinity: features (1)",
    ):
        assert part in said
    assert report.matched < 1


@pytest.mark.parametrize("weight", [torch.ones(()), torch.ones(0, 512, 1, 1), torch.ones(3, 2), torch.ones(7, 9, 1, 1)])
def test_a_head_that_cannot_be_is_left_out(weight):
    state = net().state_dict() | {"classifier.1.weight": weight}
    fitted, report = fit_checkpoint(net(), checkpoint(state))
    assert report.num_classes == 1000 == fitted(torch.rand(1, 3, 64, 64)).shape[1]
    assert "another shape" in " ".join(report.notes)
    assert "resized" not in " ".join(report.notes)


def test_names_of_old_densenets_fit(zoo):
    state = {key: torch.zeros(value.shape) for key, value in zoo["densenet121"][1].state_dict().items()}
    old = {
        key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2.") if "denselayer" in key else key: value
        for key, value in state.items()
    }
    assert set(old) != set(state)
    assert guess_architecture(old)[0] == "densenet121"


def test_a_checkpoint_goes_the_whole_way_through_load_model():
    model = torchvision.models.squeezenet1_1(weights=None, num_classes=3).eval()
    buffer = io.BytesIO()
    torch.save({"state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}, "classes": [*"abc"]}, buffer)
    loaded = load_model("squeezenet1_1", checkpoint=read_checkpoint(buffer.getvalue()))
    images = torch.rand(1, 3, 64, 64)
    assert torch.equal(loaded.module.eval()(images), model(images))
    assert loaded.class_names == ("a", "b", "c")
    assert len(loaded.notes) == 3
