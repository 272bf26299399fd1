"""The training monitor: what it writes is what happened, and the training never notices it."""

from __future__ import annotations

import copy
import io
import math
import pickle
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

import featviz_core as fv
from featviz_core.errors import RunError
from featviz_core.runs import tags
from featviz_core.techniques.training_monitor.looks import Budget
from tests.runs.logs import by_tensorboard


@pytest.fixture(autouse=True)
def time_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left out because this machine is busy."""
    monkeypatch.setattr("featviz_core.techniques.training_monitor.inspector._ONCE", 1e9)


def small_net() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(6, 4),
    )


def batches(count: int) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        yield torch.rand(8, 3, 12, 12, generator=generator), torch.randint(4, (8,), generator=generator)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, monitor: Any = None, *, steps: int = 12) -> list[float]:
    """An ordinary loop; an epoch has six steps."""
    losses = []
    for step, (images, targets) in enumerate(batches(steps), 1):
        model.train()
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(images), targets)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        if monitor is not None:
            monitor.update(loss=loss, accuracy=0.5)
        if step % 6 == 0:
            model.eval()
            with torch.no_grad():
                model(images)
            if monitor is not None:
                monitor.validate(loss=loss, accuracy=0.25, train_loss=loss)
    return losses


@pytest.mark.usefixtures("one_thread")
def test_the_training_goes_as_without_and_nothing_is_left(tmp_path: Path) -> None:
    plain, watched = small_net(), small_net()
    makers = [torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9) for net in (plain, watched)]
    torch.manual_seed(5)
    losses = train(plain, makers[0])
    state = torch.get_rng_state()
    torch.manual_seed(5)
    with fv.TrainingMonitor(tmp_path / "run", watched, makers[1], every=2) as monitor:
        assert train(watched, makers[1], monitor) == losses
        assert torch.equal(torch.get_rng_state(), state)
        copies = [copy.deepcopy(watched), pickle.loads(pickle.dumps(watched))]
    for other in (watched, *copies):
        for name, value in plain.state_dict().items():
            assert torch.equal(value, other.state_dict()[name]), name
        for one, two in zip(plain.modules(), other.modules(), strict=True):
            assert set(vars(one)) == set(vars(two))
            assert one.training == two.training
            assert not any(value for key, value in vars(two).items() if "hooks" in key)
    assert not makers[1]._optimizer_step_pre_hooks
    assert not makers[1]._optimizer_step_post_hooks
    assert not torch.nn.modules.module._global_forward_hooks
    assert not torch.nn.modules.module._global_forward_pre_hooks
    run = fv.read_run(tmp_path / "run")
    np.testing.assert_allclose(run.scalars["loss/train"].values, losses, rtol=1e-6)
    assert run.scalars["loss/validation"].steps.tolist() == [5, 11]
    assert run.scalars["epoch"].values.tolist() == [1, 2]
    assert run.roles["loss/train_eval"] == fv.Role("loss", "train_eval")


@pytest.mark.usefixtures("one_thread")
def test_looks_are_what_the_definitions_say(tmp_path: Path) -> None:
    model, twin = small_net(), small_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    torch.manual_seed(5)
    with fv.TrainingMonitor(tmp_path / "run", model, optimizer, every=3) as monitor:
        train(model, optimizer, monitor, steps=4)
    run = fv.read_run(tmp_path / "run")

    torch.manual_seed(5)
    other = torch.optim.SGD(twin.parameters(), lr=0.1)
    for step, (images, targets) in enumerate(batches(4)):
        twin.train()
        before = {name: p.detach().clone() for name, p in twin.named_parameters()}
        hidden = images
        seen = {}
        for name, layer in twin.named_children():
            hidden = layer(hidden)
            seen[name] = hidden.detach().clone()
        other.zero_grad()
        functional.cross_entropy(hidden, targets).backward()
        other.step()
        if step != 3:
            continue
        for name, parameter in twin.named_parameters():
            assert _value(run, f"gradient/{name}", 3) == pytest.approx(float(parameter.grad.norm()), rel=1e-5)
            if parameter.ndim >= 2:
                ratio = float((parameter.detach() - before[name]).norm() / before[name].norm())
                assert _value(run, f"update/{name}", 3) == pytest.approx(ratio, rel=1e-5)
            else:
                assert f"update/{name}" not in run.scalars
        for name, values in seen.items():
            expected = [values.mean(), values.std(correction=0), (values == 0).float().mean()]
            got = [_value(run, tags.of_activation(name, one), 3) for one in tags.STATISTICS]
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)
    assert {tag.split("/")[1] for tag in run.histograms["tag"]} == {"weight", "gradient", "activation"}
    weights = run.histograms.query("tag == 'histogram/weight/0.weight' and step == 0")
    assert weights["count"].sum() == model[0].weight.numel()
    assert tags.activation_of("activation/layer1.0/mean") == ("layer1.0", "mean")
    assert tags.activation_of("gradient/layer1.0") is None


def _value(run: Any, tag: str, step: int) -> float:
    return float(run.scalars[tag].values[run.scalars[tag].steps.tolist().index(step)])


def test_pictures_and_graph_show_the_model(tmp_path: Path) -> None:
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    ((images, _),) = batches(1)
    samples, names = (images[:2], [0, 3]), ["heart", "star", "disc", "ring"]
    with fv.TrainingMonitor(tmp_path / "run", model, optimizer, samples=samples, class_names=names) as monitor:
        train(model, optimizer, monitor, steps=6)
    run = fv.read_run(tmp_path / "run")
    shown = {image.tag: Image.open(io.BytesIO(image.data)) for image in run.images}
    assert set(shown) == {f"{kind}/{place}" for kind in ("prediction", "class_activation") for place in range(2)}
    pixels = np.asarray(shown["prediction/0"])[:192]
    side = images[0].numpy()
    scaled = ((side - side.min()) / (side.max() - side.min()) * 255).astype(np.uint8).transpose(1, 2, 0)
    assert np.array_equal(pixels[::16, ::16], scaled)
    assert not np.array_equal(pixels, np.asarray(shown["class_activation/0"])[:192])
    nodes = {node.name: node for node in _graph(tmp_path / "run").node}
    assert nodes["3/weight"].op == "Parameter"
    assert nodes["3/Convolution"].op == "Conv2d"
    assert list(nodes["3/Convolution"].input) == ["2/Relu", "3/weight", "3/bias"]
    assert nodes["input"].op == "Placeholder"


def _graph(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder)).Reload().Graph()


def test_the_rate_is_that_of_the_step_and_of_each_group(tmp_path: Path) -> None:
    model = small_net()
    groups = [{"params": model[0].parameters()}, {"params": model[8].parameters(), "lr": 0.01}]
    optimizer = torch.optim.SGD(groups, lr=0.8)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    with fv.TrainingMonitor(tmp_path / "run", optimizer=optimizer) as monitor:
        for _ in range(3):
            optimizer.step()
            scheduler.step()
            monitor.update(loss=1.0)
        monitor.update(loss=1.0, lr=7.0)
    run = fv.read_run(tmp_path / "run")
    np.testing.assert_allclose(run.scalars["lr"].values, [0.8, 0.4, 0.2, 7], rtol=1e-6)
    np.testing.assert_allclose(run.scalars["lr/group1"].values, [0.01, 0.005, 0.0025], rtol=1e-6)


def test_scaled_and_gathered_gradients_are_seen_as_the_optimiser_uses_them(tmp_path: Path) -> None:
    model = nn.Linear(2, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    with fv.TrainingMonitor(tmp_path / "run", model, optimizer, every=1) as monitor:
        for _ in range(2):
            scaler.scale(model(torch.ones(1, 2)).sum()).backward()
            monitor.update(loss=0.0)
        scaler.step(optimizer)
        scaler.update()
        monitor.update(loss=0.0)
    gradients = fv.read_run(tmp_path / "run").scalars["gradient/weight"]
    assert gradients.steps.tolist() == [2]
    assert gradients.values[0] == pytest.approx(2 * math.sqrt(2))


def test_nothing_is_hidden_and_nothing_else_is_taken(tmp_path: Path) -> None:
    with fv.TrainingMonitor(tmp_path / "run") as monitor:
        for loss in (math.nan, math.inf, -math.inf, 1e300, torch.tensor([2.5]), np.float32(0.5)):
            monitor.update(loss=loss)
        for wrong in (torch.zeros(3), "much", torch.zeros(1, dtype=torch.complex64)):
            with pytest.raises(RunError, match="loss/train is no number"):
                monitor.update(loss=wrong)
    values = fv.read_run(tmp_path / "run").scalars["loss/train"].values
    np.testing.assert_array_equal(values, [math.nan, math.inf, -math.inf, math.inf, 2.5, 0.5])
    with pytest.raises(RunError, match="closed"):
        monitor.update(loss=1.0)
    monitor.close()
    with pytest.raises(RunError, match="Every 0 steps"):
        fv.TrainingMonitor(tmp_path, every=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="No run can be written"):
        fv.TrainingMonitor(tmp_path / "file" / "run").update(loss=1.0)


def test_a_compiled_model_stays_as_it_was_compiled(tmp_path: Path) -> None:
    model = small_net()
    compiled = torch.compile(model, backend="eager")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    torch._dynamo.reset()
    train(compiled, optimizer, steps=6)
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    samples = next(batches(1))[0][:1]
    with fv.TrainingMonitor(tmp_path / "run", compiled, optimizer, every=2, samples=samples) as monitor:
        train(compiled, optimizer, monitor, steps=6)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before
    run = fv.read_run(tmp_path / "run")
    assert {tag.split("/")[0] for tag in run.scalars} == {"loss", "accuracy", "lr", "epoch", "gradient", "update"}
    assert {image.tag for image in run.images} == {"prediction/0", "class_activation/0"}
    assert run.graph


def test_weights_that_were_zero_have_no_ratio_and_nan_has_one(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    nn.init.zeros_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with fv.TrainingMonitor(tmp_path / "run", model, optimizer, every=1) as monitor:
        for scale in (1.0, 1.0, math.nan, 1.0):
            optimizer.zero_grad()
            (model(torch.ones(1, 2)).sum() * scale).backward()
            optimizer.step()
            monitor.update(loss=scale)
    run = fv.read_run(tmp_path / "run")
    np.testing.assert_allclose(run.scalars["update/weight"].values, [1, math.nan, math.nan])
    np.testing.assert_allclose(run.scalars["gradient/weight"].values, [2, 2, math.nan, 2])
    assert tags.activation_of("activation/model/mean") == ("model", "mean")
    assert len(run.scalars["activation/model/mean"]) == 4


def test_runs_lie_side_by_side_and_a_run_is_taken_up_where_the_checkpoint_says(tmp_path: Path) -> None:
    for loss in (1.0, 2.0):
        with fv.TrainingMonitor(tmp_path / "run") as monitor:
            for _ in range(10):
                monitor.update(loss=loss)
            monitor.validate(loss=loss)
    assert [run.name for run in fv.read_runs(tmp_path)] == ["run", "run-2"]
    checkpoint = {**monitor.state_dict(), "step": 6}
    with fv.TrainingMonitor(tmp_path / "run") as monitor:
        monitor.load_state_dict(checkpoint)
        monitor.update(loss=3.0)
        with pytest.raises(RunError, match="It has begun"):
            monitor.load_state_dict(checkpoint)
    assert monitor.logdir == tmp_path / "run-2"
    run = fv.read_run(tmp_path / "run-2")
    assert run.scalars["loss/train"].values.tolist() == [2] * 6 + [3]
    assert run.scalars["loss/train"].steps.tolist() == list(range(7))
    assert "run.resumed" in {finding.code for finding in run.findings}


def test_runs_that_begin_at_the_same_time_lie_side_by_side(tmp_path: Path) -> None:
    monitors = [fv.TrainingMonitor(tmp_path / "run") for _ in range(6)]
    together = threading.Barrier(len(monitors))

    def begin(monitor: fv.TrainingMonitor) -> None:
        together.wait()
        monitor.update(loss=1.0)
        monitor.close()

    threads = [threading.Thread(target=begin, args=(monitor,)) for monitor in monitors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = ["run", *(f"run-{number}" for number in range(2, 7))]
    assert sorted(monitor.logdir.name for monitor in monitors) == names
    assert [len(run.scalars["loss/train"]) for run in fv.read_runs(tmp_path)] == [1] * 6
    assert {path.name for path in tmp_path.glob("*/*") if "tfevents" not in path.name} == set()


def test_a_model_that_cannot_be_shown_is_trained_and_monitored(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(432, 6), nn.Unflatten(1, (2, 3)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    ((images, _),) = batches(1)
    with (
        fv.TrainingMonitor(tmp_path / "run", model, optimizer) as monitor,
        pytest.warns(UserWarning, match="The samples are not drawn: The model gives no class scores"),
    ):
        model(images).sum().backward()
        optimizer.step()
        monitor.update(loss=1.0)
        monitor.validate(loss=1.0)
    run = fv.read_run(tmp_path / "run")
    assert not run.images
    assert "gradient/1.weight" in run.scalars


def test_a_log_that_cannot_be_written_any_more_does_not_stop_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    monitor = fv.TrainingMonitor(tmp_path / "run")
    monitor.update(loss=1.0)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(EventFileWriter, "add_event", full)
    time.sleep(0.25)
    with pytest.warns(UserWarning, match="no longer written to TensorBoardSink: .*No space left"):
        monitor.update(loss=2.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monitor.update(loss=3.0)
        monitor.close()
    assert list(by_tensorboard(tmp_path / "run")) == ["loss/train"]


def test_numbers_on_another_device_are_fetched_together_a_few_times_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from featviz_core.techniques.training_monitor import recorder

    monkeypatch.setattr(recorder, "_is_near", lambda _: False)
    fetched: list[int] = []
    stack = torch.stack
    monkeypatch.setattr(torch, "stack", lambda parts: fetched.append(len(parts)) or stack(parts))
    loss = torch.tensor(0.0)
    with fv.TrainingMonitor(tmp_path / "run") as monitor:
        for step in range(100):
            loss.fill_(step)
            monitor.update(loss=loss)
    assert fv.read_run(tmp_path / "run").scalars["loss/train"].values.tolist() == list(range(100))
    assert len(fetched) <= 3
    assert sum(fetched) == 100


def test_looking_takes_no_more_than_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    budget = Budget(0.1, 1.0)
    assert budget.allows()
    with budget.spending():
        now[0] += 3  # two seconds more than what is free
    assert not budget.allows()
    now[0] = 19.9
    assert not budget.allows()
    now[0] = 20.1
    assert budget.allows()
