"""Loading models, sharing them, and keeping them within a budget."""

from __future__ import annotations

import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import featviz_core as fv
from featviz_core.architectures import seeded
from featviz_core.demo.models import ASSETS, DEMO_MODELS
from featviz_core.errors import DeviceError, FeatVizError, ModelError, WeightsError
from featviz_core.images import read_picture
from featviz_core.models import LoadedModel, ModelCache, best_device, devices, load_model, top_classes
from featviz_core.preprocessing import Preprocessing
from tests.toys import pictures, toy

# Loading


def test_the_demo_model_is_ready_to_use(shapes_cnn, model_untouched):
    card = DEMO_MODELS["shapes_cnn"]
    picture = Image.open(ASSETS / "samples" / "star.png")
    with model_untouched(shapes_cnn):
        images = shapes_cnn.preprocess(picture, picture)
        logits = shapes_cnn.logits(images)
        ((answer, probability),) = top_classes(shapes_cnn, images, count=1)
    assert shapes_cnn.input_size == (128, 128)
    assert shapes_cnn.class_names == card.class_names
    assert images.shape == (2, 3, 128, 128)
    assert logits.shape == (2, len(card.class_names))
    assert answer == card.class_names[int(logits[0].argmax())]
    assert probability == pytest.approx(float(logits[0].softmax(0).max()))
    assert shapes_cnn.nbytes == sum(t.nbytes for t in shapes_cnn.module.state_dict().values())
    assert not shapes_cnn.module.training


@pytest.mark.parametrize("name", ["resnet18", "demo/shapes_cnn"])
def test_loading_is_repeatable_and_leaves_the_global_random_state_alone(name):
    before = torch.get_rng_state()
    one, other = load_model(name), load_model(name)
    assert torch.equal(torch.get_rng_state(), before)
    for ours, theirs in zip(one.module.parameters(), other.module.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_fresh_model_says_so_and_can_have_other_classes():
    model = load_model("squeezenet1_1", num_classes=7)
    assert model.logits(torch.zeros(1, 3, 64, 64)).shape == (1, 7)
    assert len(model.class_names) == 7
    assert "learned nothing" in model.notes[0]
    assert model.class_name(6) == "class 6"
    assert model.class_name(7) == "output 7"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": "demo/nothing"}, ModelError, "shapes_cnn"),
        ({"name": "resnet19"}, ModelError, "resnet18"),
        ({"name": "resnet18", "weights": "IMAGENET9"}, WeightsError, "IMAGENET1K_V1"),
        ({"name": "resnet18", "weights": "DEFAULT", "checkpoint": b""}, ModelError, "both given"),
        ({"name": "resnet18", "device": "cuda:99"}, DeviceError, "no device 'cuda:99'"),
    ],
    ids=lambda value: str(value.get("name")) if isinstance(value, dict) else "",
)
def test_what_is_not_there_is_said(arguments, error, message):
    with pytest.raises(error, match=message):
        load_model(**arguments)


def test_devices():
    assert devices()[0] == "cpu"
    assert best_device() in devices()


def test_seeded_puts_the_random_state_back_also_after_an_error():
    before = torch.get_rng_state()
    assert torch.equal(seeded(lambda: torch.rand(3)), seeded(lambda: torch.rand(3)))
    with pytest.raises(ZeroDivisionError):
        seeded(lambda: torch.rand(3) / (1 // 0))
    assert torch.equal(torch.get_rng_state(), before)


# What a loaded model knows


def loaded(name: str = "Norms") -> LoadedModel:
    return LoadedModel("toy", toy(name).train(), class_names="abcde", preprocessing=Preprocessing(8, 8))


def test_the_trace_is_worked_out_once_for_each_shape(monkeypatch):
    from featviz_core import loaded_model

    asked = []
    monkeypatch.setattr(loaded_model, "trace", lambda module, shape: asked.append(shape) or (module, shape))
    model = loaded()
    assert model.trace((3, 8, 8)) is model.trace((3, 8, 8))
    model.trace((3, 16, 16))
    assert asked == [(3, 8, 8), (3, 16, 16)]


def test_layers_tell_type_shape_and_parameters():
    layers = {layer.name: layer for layer in loaded().layers()}
    assert (layers["bn"].type, layers["bn"].shape, layers["bn"].parameters) == ("BatchNorm2d", (1, 4, 6, 6), 8)
    assert (layers[""].type, layers[""].shape) == ("Norms", (1, 5))


def test_a_loaded_model_is_in_eval_mode_and_borrowed_in_the_mode_asked_for():
    model = loaded()
    assert not model.module.training
    with model.borrow(training=True) as module:
        assert module.training
        module(pictures(4))
    assert torch.equal(model.logits(pictures()), toy("Norms")(pictures()))
    assert not model.logits(pictures()).requires_grad


def turned():
    exif = Image.Exif()
    exif[274] = 6
    return Image.effect_noise((40, 60), 80).convert("RGB"), {"exif": exif}


def deep():
    return Image.fromarray((np.arange(2400).reshape(40, 60) * 27).astype(np.uint16)), {}


def half_transparent():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 4), np.uint8)), {}


@pytest.mark.parametrize("make", [turned, deep, half_transparent])
def test_a_picture_opened_with_pillow_is_what_the_app_would_show(make, shapes_cnn):
    (image, options), buffer = make(), io.BytesIO()
    image.save(buffer, "PNG", **options)
    shown = read_picture(buffer.getvalue()).image
    expected = shapes_cnn.preprocessing(shown)
    assert torch.equal(shapes_cnn.preprocess(Image.open(buffer)), expected)
    assert torch.equal(shapes_cnn.preprocess(shown), expected)
    seen = fv.model_input(shapes_cnn, Image.open(buffer))
    assert np.array_equal(seen.seen, shapes_cnn.preprocessing.cut(shown))
    assert seen.box == shapes_cnn.preprocessing.crop_box(shown.size)


def test_pictures_that_the_model_cannot_look_at_are_explained():
    with pytest.raises(ModelError, match="cannot look at"):
        loaded().logits(torch.zeros(1, 7, 8, 8))


# The cache


def fake(size: int) -> LoadedModel:
    return SimpleNamespace(nbytes=size)  # type: ignore[return-value]


def test_within_the_budget_everything_stays_and_is_loaded_once():
    cache, calls = ModelCache(100), []
    for _ in range(3):
        for key in "abc":
            cache.get(key, lambda key=key: calls.append(key) or fake(33))
    assert calls == ["a", "b", "c"]
    assert len(cache) == 3


def test_the_least_recently_used_goes_first():
    cache = ModelCache(100)
    models = {key: cache.get(key, lambda: fake(40)) for key in "ab"}
    assert cache.get("a", lambda: pytest.fail("it is there")) is models["a"]
    cache.get("c", lambda: fake(40))
    assert ["a" in cache, "b" in cache, "c" in cache] == [True, False, True]
    cache.get("d", lambda: fake(100))
    assert ["a" in cache, "c" in cache, "d" in cache] == [False, False, True]
    cache.get("e", lambda: fake(1000))
    assert "e" in cache, "one that is larger than the budget is kept alone"
    assert len(cache) == 1


def test_as_many_as_needed_go_and_no_more():
    cache = ModelCache(100)
    for key, size in {"a": 10, "b": 50, "c": 30}.items():
        cache.get(key, lambda size=size: fake(size))
    cache.get("d", lambda: fake(40))
    assert [key in cache for key in "abcd"] == [False, False, True, True]


def together(count: int, work):
    """Run `work(i)` in `count` threads that start at once; results or errors, in order."""
    start = threading.Barrier(count)

    def run(i):
        start.wait()
        try:
            return work(i)
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            return error

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(run, range(count)))


def test_many_misses_at_once_are_one_load():
    cache, calls = ModelCache(100), []

    def load():
        calls.append(1)
        time.sleep(0.05)
        return fake(1)

    results = together(16, lambda _: cache.get("a", load))
    assert len(calls) == 1
    assert all(result is results[0] for result in results)


def test_a_slow_load_does_not_stop_others():
    cache, begun, go = ModelCache(100), threading.Event(), threading.Event()

    def slow():
        begun.set()
        assert go.wait(5)
        return fake(1)

    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(cache.get, "slow", slow)
        assert begun.wait(5)
        assert cache.get("fast", lambda: fake(100)).nbytes == 100
        assert not waiting.done()
        go.set()
        assert waiting.result().nbytes == 1
    assert "fast" not in cache, "over the budget, the older one goes"


def test_a_failure_is_told_to_all_who_wait_and_not_remembered():
    cache, calls = ModelCache(100), []

    def fail():
        calls.append(1)
        time.sleep(0.05)
        raise ModelError("broken")

    results = together(8, lambda _: cache.get("a", fail))
    assert all(isinstance(result, FeatVizError) and "broken" in str(result) for result in results)
    assert len(calls) < 8
    assert "a" not in cache
    assert cache.get("a", lambda: fake(1)).nbytes == 1


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_a_session_that_is_stopped_while_loading_takes_nobody_with_it(interruption):
    cache, calls = ModelCache(100), []
    lock = threading.Lock()

    def load():
        with lock:
            calls.append(1)
            first = len(calls) == 1
        time.sleep(0.05)
        if first:
            raise interruption
        return fake(1)

    results = together(8, lambda _: cache.get("a", load))
    stopped = [result for result in results if isinstance(result, BaseException)]
    assert [type(result) for result in stopped] == [interruption]
    assert len(calls) == 2
    assert all(result.nbytes == 1 for result in results if result not in stopped)
    assert "a" in cache
