"""The static table of models against torchvision itself."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torchvision import models

from featviz_core.errors import ModelError, WeightsError
from featviz_core.zoo import FAMILIES, ZOO, default_weights, zoo_weights

NAMES = models.list_models(module=models)


class NoMemory(TorchFunctionMode):
    """Parameters on the meta device; index arithmetic (RegNet's widths) stays on the CPU."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (torch.empty, torch.zeros, torch.ones, torch.randn):
            kwargs = {**(kwargs or {}), "device": "meta"}
        return func(*args, **(kwargs or {}))


def build(name, **options):
    with NoMemory(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return models.get_model(name, weights=None, **options)


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def weights_line(member) -> str:
    """The table's line for one member of torchvision's weights enums."""
    meta, transform = member.meta, member.transforms()
    star = "*" if member is type(member).DEFAULT else ""
    return (
        f"  {member.name}{star} {member.url.rsplit('/', 1)[1]} {meta['_file_size']} "
        f"{meta['_metrics']['ImageNet-1K']['acc@1']} {meta['num_params']} {transform.crop_size[0]} "
        f"{transform.resize_size[0]} {transform.interpolation.value} {meta['min_size'][0]}"
    )


def as_torchvision(member) -> dict[str, object]:
    meta, transform = member.meta, member.transforms()
    accuracy = meta["_metrics"]["ImageNet-1K"]["acc@1"]
    assert len(transform.crop_size) == len(transform.resize_size) == 1
    assert len(set(meta["min_size"])) == 1
    return {
        "name": member.name,
        "url": member.url,
        "megabytes": meta["_file_size"],
        "accuracy": None if math.isnan(accuracy) else accuracy,
        "parameters": meta["num_params"],
        "crop_size": transform.crop_size[0],
        "resize_size": transform.resize_size[0],
        "interpolation": transform.interpolation.value,
        "min_size": meta["min_size"][0],
        "mean": tuple(transform.mean),
        "std": pytest.approx(tuple(transform.std)),
        "num_classes": len(meta["categories"] or range(1000)),
        "default": member is type(member).DEFAULT,
    }


def test_every_model_of_torchvision_is_listed_once():
    assert len(NAMES) == 80
    assert sorted(ZOO) == sorted(NAMES)
    assert sorted(name for family in FAMILIES.values() for name in family) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_field_equals_torchvision(name):
    entry, members = ZOO[name], list(models.get_model_weights(name))
    count = parameters(build(name))
    expected_lines = "\n".join([f"{name} {count}", *map(weights_line, members)])
    message = f"featviz_core/zoo.py should say:\n{expected_lines}"
    assert entry.name == name, message
    assert entry.parameters == count, message
    assert len(entry.weights) == len(members), message
    for weights, member in zip(entry.weights, members, strict=True):
        assert weights.model == name
        for field, value in as_torchvision(member).items():
            assert getattr(weights, field) == value, f"{field}: {message}"
        assert ("licence" in weights.note or "use only" in weights.note) == ("license" in member.meta)
        assert (member.meta.get("license") or "") in weights.note
        assert weights.filename == member.url.rsplit("/", 1)[1]
    assert default_weights(name).name == models.get_model_weights(name).DEFAULT.name
    assert zoo_weights(name, "DEFAULT") is default_weights(name)


def test_build_options_give_the_model_that_the_weights_were_saved_from():
    for entry in ZOO.values():
        for weights in entry.weights:
            if weights.build_options:
                module = build(entry.name, **weights.build_options)
                assert getattr(module, "transform_input", False) == (entry.family == "Inception")
                auxiliary = 6380000 if entry.name == "googlenet" else 0
                assert abs(parameters(module) - weights.parameters - auxiliary) < 1000
            elif entry.name != "googlenet":
                assert entry.parameters == weights.parameters


def test_the_vision_transformers_for_large_pictures_are_built_for_them():
    assert zoo_weights("vit_b_16", "IMAGENET1K_SWAG_E2E_V1").build_options == {"image_size": 384}
    assert zoo_weights("vit_b_16", "IMAGENET1K_V1").build_options == {}
    assert ZOO["vit_h_14"].input_size == 224
    assert ZOO["efficientnet_b7"].input_size == 600


def test_unknown_names_are_answered_with_similar_ones():
    with pytest.raises(ModelError, match="Did you mean resnet50"):
        default_weights("resnet_50")
    with pytest.raises(WeightsError, match="IMAGENET1K_V1, IMAGENET1K_V2"):
        zoo_weights("resnet50", "IMAGENET1K_V3")


def test_the_table_is_read_without_torch_and_within_a_moment():
    code = "import sys, featviz_core.zoo; assert not {'torch', 'torchvision', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=20)
