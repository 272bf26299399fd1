"""The output check on tiny nets, each with one fault or none, and against slow re-derivations."""

from __future__ import annotations

import json
import math
import pickle
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import featviz_core as fv
from featviz_core.demo.models import weights_path
from featviz_core.errors import ModelError
from featviz_core.techniques.output_check.applied import applied_to
from tests.toys import CLASSES, TOYS, Broken, pictures, toy
from tests.woken import remembered, waking_pictures

pytestmark = pytest.mark.usefixtures("one_thread")

IMAGES = pictures(12)
LABELS = torch.arange(12) % CLASSES
MIXING = ("DataPath", "Numbers", "Pair")  # toys that look at the whole batch


class Net(nn.Module):
    """A small healthy net with what comes behind it."""

    def __init__(self, then=lambda x: x, before=lambda x: x, classes: int = CLASSES):
        super().__init__()
        torch.manual_seed(0)
        self.before, self.then = before, then
        self.conv, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(8, classes)

    def forward(self, x):
        return self.then(self.fc(self.conv(self.before(x)).relu().mean((2, 3))))


class Constant(nn.Module):
    def __init__(self, row: list[float]):
        super().__init__()
        self.row = nn.Parameter(torch.tensor(row))

    def forward(self, x):
        return self.row.expand(len(x), -1)


def codes(found, *severities: str) -> set[str]:
    return {f.code for f in found.findings if not severities or f.severity in severities}


def finding(found, code: str):
    return next(f for f in found.findings if f.code == code)


# The article's table


def test_the_numbers_are_torch_s_own() -> None:
    net = Net()
    with torch.no_grad():
        expected = net(IMAGES)
    found = fv.check_model_output(net, IMAGES)
    assert found.shape == (12, CLASSES)
    np.testing.assert_allclose(found.logits, expected.numpy(), rtol=1e-5)
    for name in ("mean", "std", "min", "max"):
        assert getattr(found, name) == pytest.approx(float(getattr(expected, name)()), rel=1e-5)
    assert not found.has_nan and not found.has_inf
    assert len(found.tests) >= 7 and {test.severity for test in found.tests} <= {"ok", "note"}


@settings(max_examples=15, deadline=None)
@given(count=st.integers(1, 40), classes=st.integers(2, 30), seed=st.integers(0, 99))
def test_any_number_of_pictures_and_classes(count: int, classes: int, seed: int) -> None:
    images = pictures(count, seed=seed)
    found = fv.check_model_output(Net(classes=classes), images)
    assert found.shape == found.logits.shape == (count, classes)
    assert not codes(found, "warn", "fail")
    frame, shares = found.frame(), torch.from_numpy(found.logits).double().softmax(1)
    np.testing.assert_allclose(found.probabilities, shares, atol=1e-6)
    assert frame["predicted"].tolist() == [f"class {i}" for i in shares.argmax(1)]
    np.testing.assert_allclose(frame["confidence"], shares.max(1).values, atol=1e-6)
    np.testing.assert_allclose(frame["entropy"], [-sum(p * math.log(p) for p in row) for row in shares.tolist()])
    top = found.top(3)
    assert len(top) == count * min(3, classes)
    assert top[top["rank"] == 1]["name"].tolist() == frame["predicted"].tolist()


# Healthy models


@pytest.mark.parametrize("name", [name for name in TOYS if name not in MIXING])
def test_healthy_toys_are_quiet_and_untouched(name: str, model_untouched) -> None:
    model = toy(name)
    model.train()
    with model_untouched(model):
        found = fv.check_model_output(model, IMAGES, num_classes=CLASSES)
    assert not codes(found, "warn", "fail"), found.findings


@pytest.mark.parametrize(("name", "code"), [("Pair", "mixes_samples"), ("Numbers", "alone_differs")])
def test_toys_that_look_at_the_whole_batch_are_caught(name: str, code: str) -> None:
    images = IMAGES * torch.arange(1, 13.0).reshape(-1, 1, 1, 1)
    assert codes(fv.check_model_output(toy(name), images), "fail") == {f"output.{code}"}


@pytest.mark.parametrize("name", ["demo/shapes_cnn", "demo/shapes_vit"])
def test_demo_models_are_healthy_and_right(name: str, model_untouched) -> None:
    from featviz_core.demo.dataset import render

    if not weights_path(name.removeprefix("demo/")).is_file():
        pytest.skip("the demo model's weights are not there")
    drawn, labels = render("test", 20, start=900, single=True)
    model = fv.load_model(name)
    images = model.preprocessing.normalize(torch.from_numpy(drawn).permute(0, 3, 1, 2).float() / 255)
    model.trace(tuple(images.shape[1:]))
    with model_untouched(model):
        found = fv.check_model_output(model, images, targets=labels)
    assert codes(found) == {"output.healthy"}
    assert found.behaviour.leak == 0 and found.behaviour.repeat == 0
    assert found.labelled.accuracy > 0.9 and found.labelled.loss < 0.5 < found.labelled.uniform_loss


def test_a_fresh_woken_resnet_is_quiet_and_one_fresh_from_the_shelf_says_why_eval_mode_means_nothing() -> None:
    images = waking_pictures(6, 64)
    found = fv.check_model_output(remembered("resnet18"), images, targets=torch.arange(6))
    assert not codes(found, "warn", "fail"), found.findings
    from torchvision.models import resnet18

    torch.manual_seed(0)
    fresh = fv.check_model_output(resnet18(num_classes=6), images, num_classes=6)
    assert finding(fresh, "output.batchnorm_fresh").severity == "note"
    assert not codes(fresh, "warn", "fail")


# Shape


@pytest.mark.parametrize(
    ("then", "severity"),
    [
        (lambda x: x[:, :, None, None], "warn"),
        (lambda x: x[:, :, None, None].expand(-1, -1, 2, 2), "fail"),
        (lambda x: x.flatten(), "fail"),
        (lambda x: x.sum(), "fail"),
        (lambda x: x[:, None].expand(-1, 4, -1), "fail"),
        (lambda x: x[:, :1], "fail"),
        (lambda x: x[:, 0], "fail"),
        (lambda x: x.squeeze(), "fail"),
    ],
)
def test_wrong_shapes(then, severity: str, model_untouched) -> None:
    net = Net(then)
    with torch.no_grad():
        expected = tuple(net(IMAGES).shape)
    with model_untouched(net):
        found = fv.check_model_output(net, IMAGES, targets=LABELS)
    assert found.shape == expected
    assert finding(found, "output.shape").severity == severity
    json.loads(found.to_json())


def test_one_score_is_fine_for_a_binary_loss() -> None:
    net, targets = Net(lambda x: x[:, :1]), (LABELS[:, None] > 2).float()
    found = fv.check_model_output(net, IMAGES, targets=targets, loss_fn=nn.BCEWithLogitsLoss())
    assert not codes(found, "warn", "fail")
    with torch.no_grad():
        assert found.labelled.loss == pytest.approx(float(nn.BCEWithLogitsLoss()(net(IMAGES), targets)), rel=1e-5)
    assert found.labelled.uniform_loss == pytest.approx(math.log(2), rel=1e-6)


@pytest.mark.parametrize(("classes", "wrong"), [(CLASSES, False), (CLASSES + 1, True), (CLASSES - 1, True)])
def test_wrong_class_counts(classes: int, wrong: bool) -> None:
    for stated in ({"num_classes": classes}, {"class_names": [f"c{i}" for i in range(classes)]}):
        found = fv.check_model_output(Net(), IMAGES, **stated)
        assert ("output.classes" in codes(found, "fail")) == wrong


def test_labels_without_a_score_are_named() -> None:
    found = fv.check_model_output(Net(), IMAGES, targets=LABELS + 2)
    assert finding(found, "output.labels_out_of_range").evidence["labels"] == [5, 6]
    assert "output.loss_failed" in codes(found, "fail")
    assert "output.labels_out_of_range" in codes(fv.check_model_output(Net(), IMAGES, targets=LABELS - 3), "fail")
    ignored = torch.where(LABELS == 0, -100, LABELS)
    assert not codes(fv.check_model_output(Net(), IMAGES, targets=ignored), "warn", "fail")


# More than a tensor


def test_where_the_scores_are_is_found_or_asked_for() -> None:
    plain = fv.check_model_output(Net(), IMAGES)
    for then in (lambda x: {"logits": x, "more": 1}, lambda x: type("Out", (), {"logits": x})()):
        np.testing.assert_array_equal(fv.check_model_output(Net(then), IMAGES).logits, plain.logits)
    pair = Net(lambda x: (x.mean(), [x, {"a": x}]))
    with pytest.raises(ModelError, match=r"a tuple of \(float32 tensor \(\), a list of") as error:
        fv.check_model_output(pair, IMAGES)
    assert "get_logits" in error.value.do
    found = fv.check_model_output(pair, IMAGES, get_logits=lambda output: output[1][0])
    np.testing.assert_array_equal(found.logits, plain.logits)
    with pytest.raises(ModelError, match="IndexError"):
        fv.check_model_output(pair, IMAGES, get_logits=lambda output: output[5])


# What was already applied


@pytest.mark.parametrize(
    ("then", "code"),
    [
        (lambda x: x.softmax(1), "output.softmax_applied"),
        (lambda x: F.log_softmax(x, 1), "output.log_softmax_applied"),
        (torch.sigmoid, "output.sigmoid_applied"),
        (lambda x: x.exp() / x.exp().sum(1, keepdim=True), "output.softmax_applied"),
        (F.relu, "output.relu_applied"),
        (lambda x: x / 10 + 0.5, None),
        (lambda x: x.tanh(), None),
    ],
)
@pytest.mark.parametrize("count", [1, 12])
def test_what_was_applied(then, code: str | None, count: int) -> None:
    found = fv.check_model_output(Net(then), IMAGES[:count], targets=LABELS[:count])
    applied = {c for c in codes(found, "warn", "fail", "note") if c.endswith("_applied")}
    assert applied - {"output.sigmoid_applied"} == ({code} if code else set()) - {"output.sigmoid_applied"}
    assert ("output.sigmoid_applied" in codes(found, "warn", "fail")) == (code == "output.sigmoid_applied")
    if code == "output.softmax_applied":
        assert finding(found, code).severity == "fail"
        np.testing.assert_array_equal(found.probabilities, found.logits)


@pytest.mark.parametrize(
    ("then", "loss", "expected"),
    [
        (lambda x: F.log_softmax(x, 1), nn.NLLLoss(), set()),
        (lambda x: x, nn.NLLLoss(), {"output.log_softmax_missing"}),
        (lambda x: x.softmax(1), nn.NLLLoss(), {"output.softmax_applied"}),
        (lambda x: x.softmax(1), F.cross_entropy, {"output.softmax_applied"}),
        (lambda x: F.log_softmax(x, 1), nn.CrossEntropyLoss(), set()),
    ],
)
def test_scores_have_to_fit_the_loss(then, loss, expected: set[str]) -> None:
    found = fv.check_model_output(Net(then), IMAGES, targets=LABELS, loss_fn=loss)
    assert codes(found, "fail") == expected
    with torch.no_grad():
        assert found.labelled.loss == pytest.approx(float(loss(Net(then)(IMAGES), LABELS)), rel=1e-5)
    if not expected:
        assert found.labelled.uniform_loss == pytest.approx(math.log(CLASSES), rel=1e-6)


@pytest.mark.parametrize(("then", "missing"), [(torch.sigmoid, False), (lambda x: x, True)])
def test_binary_losses(then, missing: bool) -> None:
    targets = F.one_hot(LABELS, CLASSES).float()
    found = fv.check_model_output(Net(then), IMAGES, targets=targets, loss_fn=nn.BCELoss())
    assert ("output.sigmoid_missing" in codes(found, "fail")) == missing
    if not missing:
        assert not codes(found, "warn", "fail")
    with_logits = fv.check_model_output(Net(then), IMAGES, targets=targets, loss_fn=nn.BCEWithLogitsLoss())
    assert ("output.sigmoid_applied" in codes(with_logits, "fail")) != missing


def test_one_row_again_and_again_proves_no_softmax() -> None:
    assert applied_to(np.full((9, 4), 0.25, np.float32), "") == ("softmax", False)
    assert applied_to(np.array([[0.2, 0.8], [0.5, 0.5]], np.float32), "") == ("softmax", True)
    assert applied_to(np.array([[0.2, 0.8], [0.5, 0.6]], np.float32), "") == ("", False)
    assert applied_to(np.array([[0.5, -0.2, 0.7]], np.float32), "") == ("", False)
    rows = torch.rand(50, 3).numpy()
    assert applied_to(rows, "") == ("sigmoid", False)
    assert applied_to(rows, "Sigmoid") == ("sigmoid", True)


# Does it depend on its input, and on nothing else?


def test_a_net_that_fails_for_one_picture() -> None:
    found = fv.check_model_output(Net(then=lambda x: x + 0 / (len(x) - 1)), IMAGES)
    assert codes(found, "fail") == {"output.alone_fails"}
    assert "ZeroDivisionError" in finding(found, "output.alone_fails").detail


def test_a_constant_net() -> None:
    found = fv.check_model_output(Constant([0.3, -1.0, 2.0]), IMAGES)
    assert finding(found, "output.constant").severity == "fail"
    assert codes(found, "fail") == {"output.constant"}
    zero = fv.check_model_output(Constant([0.0, 0.0, 0.0]), IMAGES)
    assert finding(zero, "output.constant").severity == "warn"
    dead = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, CLASSES))
    with torch.no_grad():
        dead[0].bias.fill_(-100)
    assert finding(fv.check_model_output(dead, IMAGES), "output.constant").where == "1 (ReLU) gives nothing but zeros"


def test_the_same_picture_many_times_is_no_constant_net() -> None:
    found = fv.check_model_output(Net(), IMAGES[:1].expand(6, -1, -1, -1))
    assert not codes(found) & {"output.constant", "output.random"}


def test_dead_units_before_a_biased_head_hardly_depend_on_the_picture() -> None:
    net = Net(lambda x: x)
    with torch.no_grad():
        net.fc.weight.mul_(1e-5)
    found = fv.check_model_output(net, IMAGES)
    assert codes(found, "warn", "fail") == {"output.nearly_constant"}


def test_dropout_left_on_is_found_with_its_place() -> None:
    class Dropping(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(8, CLASSES)

        def forward(self, x):
            return self.fc(F.dropout(self.conv(x).mean((2, 3)), 0.3, training=True))

    found = fv.check_model_output(Dropping(), IMAGES)
    random_ = finding(found, "output.random")
    assert random_.severity == "fail" and random_.where == "before fc (Linear), in the model itself (Dropping)"
    assert not codes(found) & {"output.mixes_samples", "output.alone_differs"}

    class Noise(nn.Module):
        def forward(self, x):
            return x + torch.randn_like(x)

    noisy = nn.Sequential(nn.Conv2d(3, 4, 3), Noise(), nn.Flatten(), nn.Linear(144, CLASSES))
    assert finding(fv.check_model_output(noisy, IMAGES), "output.random").where == "1 (Noise)"


@pytest.mark.parametrize(
    ("before", "then"),
    [
        (lambda x: x - x.mean(0), lambda x: x),
        (lambda x: x, lambda x: x.softmax(0)),
        (lambda x: x.roll(1, 0), lambda x: x),
        (lambda x: x, lambda x: x.cumsum(0)),
        (lambda x: x / x.norm(dim=0), lambda x: x),
    ],
)
def test_samples_that_mix(before, then) -> None:
    found = fv.check_model_output(Net(then, before), IMAGES)
    assert finding(found, "output.mixes_samples").severity == "fail"
    assert finding(found, "output.mixes_samples").evidence["leak"] > 0


def test_the_leak_is_the_gradient_towards_the_others() -> None:
    net = Net(before=lambda x: x - 0.25 * x.sum(0))  # the company of three: own part 3/4, each other -1/4
    found = fv.check_model_output(net, IMAGES[:3])
    direction = torch.randn(CLASSES, generator=torch.Generator().manual_seed(1))
    ratios = []
    for i in range(3):
        whole = torch.autograd.functional.jacobian(lambda x, i=i: net(x)[i], IMAGES[:3])
        sizes = torch.einsum("c,c...->...", direction, whole).flatten(1).norm(dim=1)
        ratios.append((float(sizes[i]), float(max(s for j, s in enumerate(sizes) if j != i))))
    expected = max(foreign for _, foreign in ratios) / max(own for own, _ in ratios)
    assert found.behaviour.leak == pytest.approx(expected, rel=1e-4)


def test_batch_statistics_in_eval_mode_are_named() -> None:
    norm = nn.BatchNorm2d(4, track_running_stats=False)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.ReLU(), nn.Flatten(), nn.Linear(144, CLASSES))
    mixing = finding(fv.check_model_output(net, IMAGES), "output.mixes_samples")
    assert mixing.where == "1" and "no running statistics" in mixing.detail

    class Always(nn.BatchNorm2d):
        def train(self, _mode=True):
            return super().train(True)

    net[1] = Always(4)
    found = fv.check_model_output(net, IMAGES)
    assert {"output.mixes_samples", "output.still_training"} <= codes(found)
    assert finding(found, "output.still_training").where == "1"


def test_detached_statistics_of_the_batch_show_beside_a_picture_alone() -> None:
    net = Net(before=lambda x: x / x.detach().std() + x.detach().mean())
    found = fv.check_model_output(net, IMAGES * torch.arange(1, 13.0).reshape(-1, 1, 1, 1))
    assert "output.alone_differs" in codes(found, "fail")
    assert "output.mixes_samples" not in codes(found)


def test_without_a_gradient_it_is_said() -> None:
    found = fv.check_model_output(Net(before=torch.Tensor.detach), IMAGES)
    assert any("no" in why or "none" in why for why in found.behaviour.untested)
    assert math.isnan(found.behaviour.leak)
    assert not codes(found, "warn", "fail")


# Training mode


def test_running_statistics_that_do_not_describe_the_data() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, CLASSES))
    for _ in range(3):
        net(IMAGES)
    assert "output.train_eval" not in codes(fv.check_model_output(net, IMAGES), "warn")
    net[1].running_var.fill_(1e12)
    found = fv.check_model_output(net, IMAGES)
    assert finding(found, "output.train_eval").severity == "warn"


def test_accuracy_lost_in_eval_mode() -> None:
    torch.manual_seed(0)
    images, labels = pictures(32), torch.arange(32) % 2
    images[labels == 1] += 2
    net = nn.Sequential(nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    with torch.no_grad():
        net[3].weight.copy_(torch.tensor([[-1.0] * 3, [1.0] * 3]))
        net[3].bias.zero_()
        net(images)
        net[0].running_mean.fill_(-9)
    found = fv.check_model_output(net, images, targets=labels)
    assert "50% of the pictures in eval mode, 100% in training mode" in finding(found, "output.train_eval").detail
    assert finding(found, "output.one_class").severity == "warn"


# NaN


def test_the_layer_where_nan_begins() -> None:
    class Log(nn.Module):
        def forward(self, x):
            return (x - 100).log()

    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), Log(), nn.Flatten(), nn.Linear(144, CLASSES))
    found = fv.check_model_output(net, IMAGES)
    assert found.has_nan and math.isnan(found.mean)
    assert finding(found, "output.nan").where == "2 (Log)"
    frame = found.layers().set_index("layer")
    assert frame.loc["2", "input_finite"] and not frame.loc["2", "output_finite"]
    assert frame.loc["2", "nan"] == 2 * 4 * 36 and frame.loc["1", "output_finite"]
    with torch.no_grad():
        assert frame.loc["0", "largest"] == pytest.approx(float(net[0](IMAGES[:2]).abs().max()), rel=1e-5)
    assert json.loads(found.to_json())["mean"] is None

    functional = Net(before=lambda x: x)
    functional.forward = lambda x: functional.fc(functional.conv(x).mean((2, 3)) / 0)
    assert finding(fv.check_model_output(functional, IMAGES), "output.nan").where.startswith("before fc (Linear)")


def test_some_pictures_only() -> None:
    images = IMAGES.clone()
    images[5] = math.nan
    found = fv.check_model_output(Net(), images, targets=LABELS)
    assert finding(found, "output.input_not_finite").where == "picture 5"
    assert finding(found, "output.nan").detail == "The pictures already hold it."
    with torch.no_grad():
        rest = torch.cat([Net()(images[:5]), Net()(images[6:])])
    assert found.mean == pytest.approx(float(rest.mean()), rel=1e-5)
    assert found.frame()["predicted"][5] == "" and math.isnan(found.frame()["confidence"][5])
    assert found.behaviour.leak == 0
    assert 0 <= found.labelled.accuracy <= 11 / 12


def test_weights_and_overflow() -> None:
    net = Net()
    with torch.no_grad():
        net.conv.bias[2] = math.inf
    found = fv.check_model_output(net, IMAGES)
    assert finding(found, "output.weights_not_finite").where == "conv.bias"
    assert found.has_inf or found.has_nan
    huge = Net(lambda x: x * 1e38 * 1e3)
    assert finding(fv.check_model_output(huge, IMAGES), "output.inf").severity == "fail"


# Manners


@pytest.mark.parametrize(
    "error", [RuntimeError("x"), ValueError("x"), KeyError("x"), TypeError("x"), ZeroDivisionError()]
)
def test_what_the_model_raises_is_explained_and_nothing_is_left_behind(error: Exception, model_untouched) -> None:
    net = Broken(error)
    with model_untouched(net), pytest.raises(ModelError):
        fv.check_model_output(net, IMAGES)


@pytest.mark.parametrize(
    "images",
    [IMAGES[0], IMAGES[:0], IMAGES.long(), IMAGES[:, :1], "pictures"],
    ids=["3d", "empty", "int", "grey", "str"],
)
def test_pictures_that_do_not_fit(images) -> None:
    with pytest.raises(ModelError):
        fv.check_model_output(Net(), images)


@pytest.mark.parametrize("targets", [LABELS[:3], torch.tensor(1), "labels", [None] * 12, {"a": LABELS}])
def test_labels_that_do_not_fit(targets) -> None:
    with pytest.raises(ModelError, match="labels"):
        fv.check_model_output(Net(), IMAGES, targets=targets)


def test_random_numbers_go_on_as_if_nothing_had_happened() -> None:
    def draws() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    net = Net(lambda x: F.dropout(x))
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    expected = draws()
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])
    one = fv.check_model_output(net, IMAGES)
    assert draws() == expected
    other = fv.check_model_output(net, IMAGES)
    np.testing.assert_array_equal(one.logits, other.logits)  # the model's own draws are seeded too


def test_progress_grows_and_may_cancel(model_untouched) -> None:
    seen: list[float] = []
    fv.check_model_output(Net(), pictures(70), progress=lambda fraction, _text: seen.append(fraction))
    assert seen == sorted(seen) and seen[0] == 0 and seen[-1] == 1 and len(seen) > 5

    class Stop(BaseException):
        pass

    def stop(fraction: float, _text: str) -> None:
        if fraction > 0.7:
            raise Stop

    net = toy("Norms")
    with model_untouched(net), pytest.raises(Stop):
        fv.check_model_output(net, IMAGES, progress=stop)


def test_half_precision_rounds_and_is_not_blamed() -> None:
    found = fv.check_model_output(Net().bfloat16(), IMAGES)
    assert found.logits.dtype == np.float32
    assert not codes(found, "warn", "fail")


def test_the_result_is_frozen_and_can_be_sent() -> None:
    found = fv.check_model_output(Net(), IMAGES, targets=LABELS)
    again = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(again.logits, found.logits)
    assert again.findings == found.findings and again.to_json() == found.to_json()
    with pytest.raises(AttributeError):
        found.mean = 1.0
    content = json.loads(found.to_json())
    assert content["shape"] == [12, CLASSES] and len(content["pictures"]) == 12


def test_the_card_needs_no_torch() -> None:
    code = "import sys; from featviz_core.techniques import output_check; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "False", done.stderr


def test_scores_of_nothing_but_rounding_are_no_difference():
    from featviz_core.techniques.output_check.behaviour import difference

    rounding = torch.tensor([[1e-8, -2e-8], [3e-8, 0.0]])
    assert difference(-rounding, rounding) < 1e-4
    assert difference(torch.ones(2, 2), torch.full((2, 2), 2.0)) == 0.5
    assert math.isnan(difference(torch.tensor([math.nan]), torch.ones(1)))
