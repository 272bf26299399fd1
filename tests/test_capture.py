"""The way in against plain hooks on full runs, and that it leaves nothing behind, from whatever point it is left."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from featviz_core.borrowing import borrowed
from featviz_core.capture import gradients, layers_of, record
from featviz_core.errors import LayerError, ModelError
from featviz_core.models import LoadedModel
from featviz_core.preprocessing import Preprocessing
from featviz_core.rerun import rerun_from
from featviz_core.techniques.feature_maps import depth_overview, feature_maps
from tests.toys import CLASSES, SHAPE, TOYS, Broken, Slowly, logits_of, pictures, toy

pytestmark = pytest.mark.usefixtures("one_thread")


def loaded(module: nn.Module) -> LoadedModel:
    return LoadedModel("toy", module, class_names=["class"] * CLASSES, preprocessing=Preprocessing(8, 8))


def called_layers(name: str) -> list[str]:
    return [layer.address for layer in layers_of(toy(name), SHAPE).layers if layer.order >= 0 and layer.shape]


EVERY_LAYER = [(name, layer) for name in TOYS for layer in called_layers(name)]


def slowly(name: str, address: str) -> Slowly:
    layer = layers_of(toy(name), SHAPE).find(address)
    return Slowly(toy(name), layer.name, layer.call)


def close(found, expected) -> bool:
    return torch.allclose(found, expected, rtol=1e-5, atol=1e-6)


def same_tree(found, expected) -> bool:
    ours, theirs = (torch.utils._pytree.tree_leaves(tree) for tree in (found, expected))
    return len(ours) == len(theirs) and all(
        torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in zip(ours, theirs, strict=True)
    )


# What layers give


@pytest.mark.parametrize(("name", "layer"), EVERY_LAYER)
def test_outputs_and_inputs_are_those_of_a_plain_hook(name, layer, model_untouched):
    module, images, reference = toy(name), pictures(2), slowly(name, layer)
    with torch.no_grad():
        reference.run(images)
    with model_untouched(module):
        recording = record(module, images, layers=[layer], with_inputs=True)
    assert same_tree(recording.outputs[layer], reference.output)
    assert recording.output is None or layer == ""
    if all(isinstance(given, torch.Tensor) for given in recording.inputs[layer]):
        assert len(recording.inputs[layer]) == len(reference.inputs)


@pytest.mark.parametrize("name", TOYS)
def test_all_layers_come_from_one_pass(name):
    module, images, addresses = toy(name), pictures(2), called_layers(name)
    together = record(module, images, layers=addresses, stop_early=False)
    with torch.no_grad():
        assert same_tree(together.output, toy(name)(images.clone()))
    assert list(together.layers) == addresses
    for layer in addresses:
        assert same_tree(together.outputs[layer], record(module, images, layers=[layer]).outputs[layer])


def test_inputs_are_what_came_before_an_in_place_layer_wrote_on_it():
    recording = record(toy("InPlace"), pictures(), layers=["body.1"], with_inputs=True)
    (given,) = recording.inputs["body.1"]
    assert (given < 0).any()
    assert torch.equal(recording.outputs["body.1"], given.relu())


def test_pick_sees_each_layer_once_and_its_choice_is_kept():
    seen = []
    recording = record(
        toy("Again"),
        pictures(),
        layers=["relu", "relu#1"],
        pick=lambda layer, output: seen.append(layer) or output.max(),
    )
    assert [layer.call for layer in seen] == [1, 3]
    assert recording.outputs["relu#1"].ndim == 0


def test_a_model_that_writes_on_its_input_does_not_write_on_the_callers():
    module, images = toy("WritesInput"), pictures(2)
    before = images.clone()
    record(module, images, layers=["a"])
    gradients(module, images, layers=["a"], scalars=lambda output: [output[0, 0]])
    with rerun_from(module, images[:1], layer="b") as rerun:
        rerun(rerun.activation)
    loaded(module).logits(images)
    assert torch.equal(images, before)


def test_pictures_come_to_the_models_number_type():
    module = toy("InPlace").to(torch.bfloat16)
    assert record(module, pictures(), layers=["fc"]).outputs["fc"].dtype == torch.bfloat16
    assert layers_of(module, SHAPE).find("fc").shape == (1, CLASSES)


@pytest.mark.parametrize("wrap", [loaded, lambda module: module])
def test_modules_behind_the_last_layer_are_never_called(wrap):
    module, calls = toy("InPlace"), []
    for name, m in module.named_modules():
        m.register_forward_hook(lambda _m, _i, _o, name=name: calls.append(name))
    model = wrap(module)
    layers_of(model, SHAPE)
    if not isinstance(model, nn.Module):
        calls.clear()
        record(model, pictures(), layers=["body.1", "body.0"])
        assert calls == ["body.0", "body.1"]
    calls.clear()
    # A plain module's layers are listed anew by a pass without numbers, which calls each of them once.
    record(model, pictures(), layers=["body.1"])
    assert calls.count("fc") == (1 if isinstance(model, nn.Module) else 0)
    assert calls.count("body.1") == (2 if isinstance(model, nn.Module) else 1)


# Gradients


@pytest.mark.parametrize(("name", "layer"), EVERY_LAYER)
def test_gradients_are_those_of_a_full_graph(name, layer, model_untouched):
    module, images = toy(name), pictures(2)

    def scalars(output):
        logits = logits_of(output)
        return [logits[0, 1], logits[1, 2] * logits[0, 0], (logits**2).sum()]

    with model_untouched(module):
        found = gradients(module, images, layers=[layer], scalars=scalars)
    reference = slowly(name, layer)
    output = reference.run(images)
    for i, scalar in enumerate(scalars(output)):
        (expected,) = torch.autograd.grad(scalar, reference.activation, retain_graph=True, allow_unused=True)
        expected = torch.zeros_like(reference.activation) if expected is None else expected
        assert close(found.gradients[layer][i], expected), i
    assert close(found.activations[layer], reference.activation.detach())
    assert close(logits_of(found.output), logits_of(output).detach())
    assert not found.activations[layer].requires_grad


def test_closed_form_of_a_linear_net():
    module, images = toy("Linear"), pictures(3)
    found = gradients(module, images, layers=["conv"], scalars=lambda logits: list(logits[1]))
    for k, gradient in enumerate(found.gradients["conv"]):
        expected = torch.zeros(3, 4, 8, 8)
        expected[1] = (module.fc.weight[k] / 64)[:, None, None].detach()
        assert close(gradient, expected)


def test_several_layers_and_scalars_from_one_pass_equal_one_at_a_time():
    module, images = toy("Again"), pictures(2)
    layers = ["a", "relu#1", "b", "relu#2", "relu", "c"]

    def scalars(output):
        return [output[0, 0], output[1, 1]]

    together = gradients(module, images, layers=layers, scalars=scalars)
    for layer in layers:
        alone = gradients(module, images, layers=[layer], scalars=scalars)
        for ours, theirs in zip(together.gradients[layer], alone.gradients[layer], strict=True):
            assert close(ours, theirs)


def test_one_scalar_may_be_named_twice_and_none_may_depend_on_nothing():
    def scalars(output):
        score = output[0, 0]
        return [score, torch.tensor(3.0), score]

    first, nothing, second = gradients(toy("Linear"), pictures(), layers=["conv"], scalars=scalars).gradients["conv"]
    assert torch.equal(first, second)
    assert first.any()
    assert not nothing.any()


def test_a_layer_that_a_scalar_does_not_depend_on_has_a_gradient_of_zero():
    found = gradients(toy("Again"), pictures(), layers=["c", "b"], scalars=lambda output: [output[0, 0] * 0 + 1])
    assert not found.gradients["b"][0].any()
    stopped = gradients(toy("Pair"), pictures(), layers=["fc", "split"], scalars=lambda output: [output["low"].sum()])
    assert not stopped.gradients["fc"][0].any()
    assert stopped.gradients["split"][0].eq(1).all()


def test_what_lies_before_the_layer_stays_outside_the_graph():
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor.numel()) or tensor, lambda t: t):
        gradients(toy("InPlace"), pictures(), layers=["body.4"], scalars=lambda output: [output[0, 0]])
        late = sum(saved)
        gradients(toy("InPlace"), pictures(), layers=["body.0"], scalars=lambda output: [output[0, 0]])
    assert 0 < late < (sum(saved) - late) / 4


# What cannot be done


def test_errors_say_what_and_what_instead():
    module, images = toy("NeverCalled"), pictures()
    with pytest.raises(LayerError, match=r"no layer 'convv'.*conv"):
        record(module, images, layers=["convv"])
    with pytest.raises(LayerError, match=r"'out_proj' is never called"):
        record(module, images, layers=["out_proj"])
    with pytest.raises(LayerError, match=r"called 3 times; there is no call 4"):
        record(toy("Again"), images, layers=["relu#4"])
    with pytest.raises(LayerError, match="No layer"):
        record(module, images, layers=[])
    with pytest.raises(LayerError, match="no tensor of real numbers"):
        gradients(IntegerInside(), images, layers=["inner"], scalars=lambda output: [output.sum()])


class IntegerInside(nn.Module):
    class Inner(nn.Module):
        def forward(self, x):
            return x.argmax(1)

    def __init__(self):
        super().__init__()
        self.inner = self.Inner()

    def forward(self, x):
        return x * self.inner(x)[:, None]


@pytest.mark.parametrize(
    "images",
    [torch.zeros(3, 8, 8), torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.zeros(0, 3, 8, 8), "a path"],
    ids=["no batch", "bytes", "empty", "no tensor"],
)
def test_wrong_pictures_are_refused(images):
    for way_in in (
        lambda: record(toy("Linear"), images, layers=["conv"]),
        lambda: gradients(toy("Linear"), images, layers=["conv"], scalars=lambda output: [output.sum()]),
        lambda: rerun_from(toy("Linear"), images, layer="conv").__enter__(),
    ):
        with pytest.raises(ModelError, match=r"wrong form.*float tensor \(N, C, H, W\)"):
            way_in()


def test_pictures_that_do_not_fit_the_model_are_explained():
    with pytest.raises(ModelError, match=r"Linear cannot look at pictures of shape \(4, 8, 8\).*channels"):
        record(toy("Linear"), pictures(shape=(4, 8, 8)), layers=["conv"])


@pytest.mark.parametrize("error", [RuntimeError("theirs"), IndexError("theirs"), ValueError("theirs")])
def test_a_callers_own_error_stays_what_it_is(error):
    def raise_it(*_):
        raise error

    with pytest.raises(type(error), match="theirs"):
        gradients(toy("Linear"), pictures(), layers=["conv"], scalars=raise_it)
    with pytest.raises(type(error), match="theirs"), rerun_from(toy("Linear"), pictures(), layer="conv"):
        raise_it()


def test_a_path_that_the_picture_does_not_take_is_named():
    module = toy("DataPath")
    with pytest.raises(LayerError, match="'dark' was not called for these pictures"):
        record(module, pictures() * 0 + 1000 * module.stem.weight.sum((0, 2, 3))[None, :, None, None], layers=["dark"])


# Many at once


def mixed(model, image: int, kind: str):
    """One of four ways in, on one of several pictures."""
    images = pictures(seed=image)
    if kind == "record":
        return record(model, images, layers=["a", "bn", "fc"]).outputs
    if kind == "gradients":
        return gradients(model, images, layers=["bn", "b"], scalars=lambda output: list(output[0])).gradients
    if kind == "rerun":
        with rerun_from(model, images, layer="bn") as rerun, torch.no_grad():
            return rerun.output, rerun(rerun.activation * torch.tensor([0.0, 1, 2])[:, None, None, None])
    with borrowed(model, training=True) as module, torch.no_grad():
        module.drop.p = 0.0
        return module(images), module.bn.running_mean.clone(), module.training


class NormsNoCopy(TOYS["Norms"]):
    def __init__(self):
        super().__init__()
        self.lock = TOYS["NoCopy"]().lock


def norms(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return kind().eval()


@pytest.mark.parametrize(
    "model",
    [
        loaded(norms(TOYS["Norms"])),
        norms(TOYS["Norms"]),
        loaded(norms(NormsNoCopy)),
        norms(NormsNoCopy),
    ],
    ids=["loaded", "plain", "loaded, no copies", "plain, no copies"],
)
def test_eight_threads_get_what_one_gets(model, model_untouched):
    kinds = ("record", "gradients", "rerun", "training")
    tasks = [(image, kind) for image in range(6) for kind in kinds]
    alone = {task: mixed(model, *task) for task in tasks}
    order = tasks * 21
    random.Random(0).shuffle(order)
    with model_untouched(model), ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda task: mixed(model, *task), order))
    assert len(results) == 504
    wrong = [task for task, result in zip(order, results, strict=True) if not same_tree(result, alone[task])]
    assert not wrong


# Nothing stays behind


def ways_in(model):
    images = pictures()

    def run_again(layer="bn"):
        with rerun_from(model, images, layer=layer) as rerun:
            rerun(rerun.activation.repeat(3, 1, 1, 1))

    def train():
        with borrowed(model, training=True) as module:
            module(images).sum().backward()

    return {
        "record": lambda: record(model, images, layers=["a", "fc"], with_inputs=True, stop_early=False),
        "gradients": lambda: gradients(model, images, layers=["a", "b"], scalars=lambda output: list(output[0])),
        "rerun": run_again,
        "feature_maps": lambda: feature_maps(model, images, layer="drop"),
        "depth_overview": lambda: depth_overview(model, images),
        "training": train,
    }


WAYS = tuple(ways_in(None))


def with_owner(module: nn.Module) -> nn.Module:
    """The owner is in the middle of training: gradients, mixed modes, frozen weights, a hook and a cached value."""
    module.train()
    module.bn.eval()
    module(pictures(4)).sum().backward()
    module.fc.register_forward_pre_hook(lambda _module, _inputs: None)
    module.last_features = torch.ones(3)
    return module


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [TOYS["Norms"], NormsNoCopy])
@pytest.mark.parametrize("wrap", [loaded, with_owner], ids=["loaded", "plain"])
def test_nothing_stays_after_success(way, kind, wrap, model_untouched):
    model = wrap(norms(kind))
    with model_untouched(model):
        ways_in(model)[way]()


@pytest.mark.parametrize("way", [way for way in WAYS if way != "feature_maps"])
@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt("broken"), SystemExit(3)], ids=type)
@pytest.mark.parametrize("wrap", [loaded, lambda module: module], ids=["loaded", "plain"])
def test_nothing_stays_after_an_exception(way, error, wrap, model_untouched):
    model = wrap(Broken(error).eval())
    expected = (ModelError, RuntimeError) if isinstance(error, Exception) else type(error)
    with model_untouched(model), pytest.raises(expected):
        ways_in(model)[way]()


class Interrupted(BaseException):
    """What Streamlit raises in a run that was stopped."""


class Fuse:
    """Blows at the n-th module call, counted over all copies of a model."""

    def __init__(self, module: nn.Module) -> None:
        self.left = -1
        for m in module.modules():
            m.register_forward_pre_hook(self.burn)
            m.register_forward_hook(self.burn)

    def burn(self, *_: object) -> None:
        self.left -= 1
        if self.left == 0:
            raise Interrupted

    def __deepcopy__(self, _memo):
        return self


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("kind", "wrap", "times"),
    [(TOYS["Norms"], loaded, 100), (TOYS["Norms"], with_owner, 100), (NormsNoCopy, loaded, 25)],
    ids=["loaded", "plain", "no copies"],
)
def test_nothing_stays_after_a_hundred_interruptions(way, kind, wrap, times, model_untouched):
    module = norms(kind)
    fuse = Fuse(module)
    model = wrap(module)
    fuse.left = 10**9
    ways_in(model)[way]()
    calls = 10**9 - fuse.left
    undisturbed = record(model, pictures(), layers=["fc"]).outputs["fc"]
    points = random.Random(0)
    with model_untouched(model):
        for _ in range(times):
            if not isinstance(model, nn.Module):
                model._traces.clear()
            fuse.left = points.randint(1, calls)
            with pytest.raises(Interrupted):
                ways_in(model)[way]()
        fuse.left = -1
        assert torch.equal(record(model, pictures(), layers=["fc"]).outputs["fc"], undisturbed)


@pytest.mark.parametrize("wrap", [loaded, with_owner], ids=["loaded", "plain"])
def test_nothing_stays_after_an_interruption_in_the_callers_own_code(wrap, model_untouched):
    model, images = wrap(norms(TOYS["Norms"])), pictures()

    def stop(*_):
        raise Interrupted

    with model_untouched(model):
        for way_in in (
            lambda: record(model, images, layers=["a"], pick=stop),
            lambda: gradients(model, images, layers=["a"], scalars=stop),
            lambda: depth_overview(model, images, layers=["a", "drop", "nowhere"]),
        ):
            with pytest.raises((Interrupted, LayerError)):
                way_in()
        with pytest.raises(Interrupted), rerun_from(model, images, layer="b") as rerun:
            rerun(rerun.activation)
            stop()
