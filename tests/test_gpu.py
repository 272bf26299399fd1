"""On a GPU every technique finds what it finds on the CPU. Skipped, with a reason, where torch finds no GPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import featviz_core as fv
from featviz_core.demo.experiments import demo_experiment
from featviz_core.demo.samples import SAMPLES
from featviz_core.devices import best_device
from featviz_core.images import read_picture

GPU = best_device()
pytestmark = pytest.mark.skipif(GPU == "cpu", reason="torch finds no GPU here")

# Sums run in another order there; TF32 is off by default for matrix products, and cuDNN's convolutions are set below.
CLOSE = {"rtol": 1e-3, "atol": 1e-4}
MODELS = ("demo/shapes_cnn", "demo/shapes_vit")


@pytest.fixture(autouse=True)
def full_precision():
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.fixture(scope="module", params=MODELS)
def pair(request):
    """The same model on both devices, with the pictures that it looks at."""
    here, there = fv.load_model(request.param), fv.load_model(request.param, device=GPU)
    pictures = [read_picture(sample.path.read_bytes()).image for sample in SAMPLES[:3]]
    assert there.preprocess(*pictures).device.type == GPU
    return here, there, here.preprocess(*pictures)


def close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, **CLOSE)


def test_answers(pair):
    here, there, images = pair
    close(there.logits(images).cpu(), here.logits(images))


def test_feature_maps_of_pictures_from_either_device(pair):
    here, there, images = pair
    layer = next(layer.address for layer in here.layers() if layer.type == "Conv2d")
    expected = fv.feature_maps(here, images, layer=layer).maps
    close(fv.feature_maps(there, images, layer=layer).maps, expected)
    close(fv.feature_maps(there, images.to(GPU), layer=layer).maps, expected)


def test_activation_statistics(pair):
    here, there, images = pair
    numbers = ["mean", "std", "min", "max", "zero_fraction", "dead_fraction"]
    expected, found = (fv.activation_stats(model, [images, images]).frame() for model in (here, there))
    assert list(found["layer"]) == list(expected["layer"])
    close(found[numbers].to_numpy(float), expected[numbers].to_numpy(float))


def test_gradient_flow(pair):
    here, there, images = pair
    expected, found = (fv.gradient_flow(model, images, torch.arange(3)).frame() for model in (here, there))
    numbers = ["mean_abs", "max_abs", "norm", "weight_norm"]
    close(found[numbers].to_numpy(float), expected[numbers].to_numpy(float))


@pytest.mark.parametrize("method", fv.cam_methods())
def test_class_activation(pair, method):
    here, there, images = pair
    if method == "cam" and "vit" in here.name:
        pytest.skip("a transformer has no layer that the original CAM could weight")
    expected, found = (
        fv.class_activation(model, images[:1], method=method, target=2, seed=1) for model in (here, there)
    )
    assert found.target == expected.target
    scale = max(float(np.abs(expected.raw).max()), 1e-12)
    np.testing.assert_allclose(found.raw / scale, expected.raw / scale, atol=5e-3)


def test_attention_maps():
    here, there = fv.load_model("demo/shapes_vit"), fv.load_model("demo/shapes_vit", device=GPU)
    images = here.preprocess(read_picture(SAMPLES[0].path.read_bytes()).image)
    expected, found = (fv.attention_maps(model, images, target=1) for model in (here, there))
    for address, weights in expected.weights.items():
        close(found.weights[address], weights)
        assert np.abs(found.weights[address].sum(-1) - 1).max() < 1e-5
    scale = float(expected.relevance.max())
    close(found.relevance / scale, expected.relevance / scale)


def test_output_check(pair):
    here, there, images = pair
    expected, found = (fv.check_model_output(model, images, targets=torch.arange(3)) for model in (here, there))
    close(found.logits, expected.logits)
    assert [finding.code for finding in found.findings] == [finding.code for finding in expected.findings]


@pytest.mark.parametrize("name", ["healthy_cnn", "healthy_vit"])
def test_gradient_history_and_checklist_of_a_healthy_experiment(name):
    history = fv.gradient_history(demo_experiment(name), steps=3, device=GPU)
    assert not [finding for finding in history.findings if finding.severity == "fail"]
    report = fv.run_checklist(demo_experiment(name), device=GPU)
    assert report.root_cause is None, report.headline()


@pytest.mark.skipif(GPU != "cuda", reason="memory is counted on CUDA only")
def test_nothing_is_left_in_the_gpus_memory():
    model = fv.load_model("demo/shapes_cnn", device=GPU)
    images = model.preprocess(read_picture(SAMPLES[0].path.read_bytes()).image)
    fv.class_activation(model, images)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    for _ in range(3):
        fv.class_activation(model, images)
        fv.gradient_flow(model, images, torch.tensor([1]))
    assert torch.cuda.memory_allocated() == before
