"""Models of timm and transformers: named when the packages are missing, offline at once when their weights are."""

from __future__ import annotations

import json
import socket

import numpy as np
import pytest
import torch
from PIL import Image

import featviz_core as fv
from featviz_core import hubs
from featviz_core.errors import ModelError, WeightsError


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    for name in ("HF_HOME", "HF_HUB_CACHE", "TORCH_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "cache"))


@pytest.mark.parametrize("name", ["timm/resnet18", "transformers/google/vit-base-patch16-224"])
@pytest.mark.parametrize("weights", [None, "DEFAULT"])
def test_a_missing_package_is_named(name, weights, monkeypatch):
    monkeypatch.setattr(hubs, "find_spec", lambda _: None)
    package = name.split("/")[0]
    with pytest.raises(ModelError, match=f"needs the package {package}") as caught:
        fv.load_model(name, weights=weights)
    assert f"pip install {package}" in caught.value.do


@pytest.mark.parametrize("name", ["other/resnet18", "timm/", "transformers/", "/", "a/b/c", "../resnet18"])
def test_a_name_of_neither_is_refused(name):
    with pytest.raises(ModelError, match="There is no model"):
        fv.load_model(name)


@pytest.fixture(autouse=True)
def asked(monkeypatch):
    """Whoever was looked for on the network."""
    names = []

    def refuse(*name, **_options):
        names.append(name)
        raise OSError("no network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return names


def check(loaded, layer, classes):
    images = torch.rand(2, 3, *loaded.input_size[-2:])
    maps = fv.feature_maps(loaded, images, layer=layer).maps
    assert maps.ndim == 4 and len(maps) == 2
    with loaded.borrow() as module, torch.no_grad():
        assert module(images).shape == (2, classes)


def offline(name, asked):
    with pytest.raises(WeightsError, match="is not on this machine") as caught:
        fv.load_model(name, weights="DEFAULT")
    assert not asked
    assert caught.value.why and "fresh weights" in caught.value.do


def colours(width, height):
    """A picture of two fields and noise, on which squashing, cutting, and an edge one pixel off all show."""
    pixels = np.random.default_rng(0).integers(0, 90, (height, width, 3), np.uint8)
    pixels[:, width // 5 :, 0] += 150
    return Image.fromarray(pixels)


@pytest.mark.parametrize(
    ("name", "size"),
    [("resnet18", (300, 240)), ("vit_tiny_patch16_224", (260, 400)), ("convnext_tiny.in12k_ft_in1k_384", (500, 390))],
)
def test_pictures_are_prepared_as_timm_does(name, size):
    timm = pytest.importorskip("timm")
    ours = fv.load_model(f"timm/{name}")
    about = timm.data.resolve_data_config({}, model=ours.module)
    picture = colours(*size)
    expected = timm.data.create_transform(**about)(picture)
    assert torch.allclose(ours.preprocess(picture)[0], expected, atol=1e-5)


def test_timm(asked):
    pytest.importorskip("timm")
    check(fv.load_model("timm/resnet18"), "layer4", 1000)
    check(fv.load_model("timm/resnet18", num_classes=7), "layer4", 7)
    offline("timm/resnet18", asked)
    with pytest.raises(ModelError, match="timm has no model 'resnet18x'") as caught:
        fv.load_model("timm/resnet18x")
    assert caught.value.why or caught.value.do or caught.value.what


CONFIG = {
    **{"model_type": "vit", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2},
    **{"intermediate_size": 64, "image_size": 32, "patch_size": 8, "id2label": {"0": "a", "1": "b"}},
}


def saved_config(folder):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**CONFIG, "label2id": {"a": 0, "b": 1}}))
    return folder


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("ViT", {"size": {"height": 32, "width": 32}}),
        ("ViT", {"size": {"height": 32, "width": 32}, "do_normalize": False}),
        ("DeiT", {"size": {"height": 40, "width": 40}, "crop_size": {"height": 32, "width": 32}}),
        ("ConvNext", {"size": {"shortest_edge": 32}, "image_mean": [0.4, 0.3, 0.2]}),
        ("ConvNext", {"size": {"shortest_edge": 384}}),
        ("CLIP", {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}}),
    ],
)
def test_pictures_are_prepared_as_transformers_does(kind, settings, tmp_path):
    transformers = pytest.importorskip("transformers")
    folder = saved_config(tmp_path / "model")
    processor = getattr(transformers, f"{kind}ImageProcessor")(**settings)
    processor.save_pretrained(folder)
    picture = colours(80, 60)
    expected = processor(images=picture, return_tensors="pt").pixel_values
    found = fv.load_model(f"transformers/{folder}").preprocess(picture)
    assert found.shape == expected.shape
    # Two implementations of resizing differ by a few of 255 levels.
    assert (found - expected).abs().mean() < 0.03


def test_transformers(tmp_path, asked):
    transformers = pytest.importorskip("transformers")
    folder = saved_config(tmp_path / "vit")
    loaded = fv.load_model(f"transformers/{folder}")
    assert tuple(loaded.class_names) == ("a", "b")
    layer = next(name for name, module in loaded.module.named_modules() if isinstance(module, torch.nn.Conv2d))
    check(loaded, layer, 2)
    offline(f"transformers/{folder}", asked)
    transformers.ViTForImageClassification(transformers.ViTConfig(**CONFIG)).save_pretrained(folder)
    check(fv.load_model(f"transformers/{folder}", weights="DEFAULT"), layer, 2)
    offline("transformers/google/vit-base-patch16-224", asked)
    # Code that a folder brings along is never run, nor is anybody asked whether it may.
    (folder / "config.json").write_text(json.dumps({"model_type": "odd", "auto_map": {"AutoConfig": "code.Config"}}))
    (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ModelError):
        fv.load_model(f"transformers/{folder}")
    assert not (tmp_path / "ran").exists()
