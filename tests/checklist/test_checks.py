"""The checks on made-up mistakes, one at a time: the right item fails, with proof, and healthy set-ups stay quiet."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import featviz_core as fv
from featviz_core.checklist.items import ITEMS
from featviz_core.checklist.report import NOT_JUDGED
from featviz_core.demo.experiments import DEMO_EXPERIMENTS
from featviz_core.demo.faults import FAULTS, with_fault
from featviz_core.errors import DeviceError, ExperimentError
from featviz_core.experiment import train_step
from featviz_core.experiment_file import open_experiment
from tests.toy_experiments import CLASSES, experiment, loader, net, pictures

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore:.*lr_scheduler.step.*")]


def run(make: Any = experiment, **options: Any) -> fv.ChecklistReport:
    return fv.run_checklist(make, **options)


def statuses(report: fv.ChecklistReport) -> dict[str, str]:
    return {verdict.id: verdict.status for verdict in report.items if verdict.status != "not_run"}


# Healthy


def accumulating(subject, images, targets):
    """A step of the optimiser for every second batch."""
    subject.turn = getattr(subject, "turn", 0) + 1
    loss = subject.loss_fn(subject.model(images), targets) / 2
    loss.backward()
    if subject.turn % 2 == 0:
        subject.optimizer.step()
        subject.optimizer.zero_grad()
    return loss


def clipped(subject, images, targets):
    subject.optimizer.zero_grad(set_to_none=False)
    loss = subject.loss_fn(subject.model(images), targets)
    loss.backward()
    nn.utils.clip_grad_norm_(subject.model.parameters(), 1.0)
    subject.optimizer.step()
    return loss.item()


def in_bfloat16(subject, images, targets):
    subject.optimizer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        loss = subject.loss_fn(subject.model(images), targets)
    loss.backward()
    subject.optimizer.step()
    return loss


def with_closure(subject, images, targets):
    def closure():
        subject.optimizer.zero_grad()
        loss = subject.loss_fn(subject.model(images), targets)
        loss.backward()
        return loss

    return subject.optimizer.step(closure)


def whole_epoch(subject, batches):
    subject.model.train()
    for images, targets in batches:
        train_step(subject, images, targets)


def frozen_trunk():
    model = net()
    for parameter in model[:3].parameters():
        parameter.requires_grad_(False)
    return experiment(model=model, optimizer=torch.optim.Adam(model[6].parameters()), pretrained=True)


def frozen_batch_norm():
    def step(subject, images, targets):
        subject.model[1].eval()
        return train_step(subject, images, targets)

    return experiment(train_step=step)


def unused_head():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.aux = net(), nn.Linear(4, 9)

        def forward(self, x):
            return self.body(x)

    return experiment(model=Two())


def warm_up():
    subject = experiment()
    subject.scheduler = torch.optim.lr_scheduler.LambdaLR(subject.optimizer, lambda epoch: min(1.0, epoch / 5))
    return subject


def one_cycle():
    subject = experiment()
    rates = torch.optim.lr_scheduler.OneCycleLR(subject.optimizer, max_lr=0.2, total_steps=40)
    return replace(subject, scheduler=rates, scheduler_step="batch", epochs=10)


def dict_batches():
    images, targets = pictures()
    batches = [{"x": images[i : i + 6], "y": targets[i : i + 6], "path": "somewhere"} for i in range(0, 24, 6)]
    images, targets = pictures(12, seed=1)
    validation = [{"x": images, "y": targets, "path": "elsewhere"}]
    return experiment(train_loader=batches, val_loader=validation, unpack=lambda batch: (batch["x"], batch["y"]))


def zero_initialised_branch():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.branch, self.gate = nn.Linear(192, 8), nn.Linear(8, 8), nn.Parameter(torch.zeros(8))
            self.head = nn.Linear(8, CLASSES)

        def forward(self, x):
            x = self.stem(x.flatten(1))
            return self.head(x + self.gate * self.branch(x))

    return experiment(model=Residual())


def log_softmax():
    model = nn.Sequential(net(), nn.LogSoftmax(1))
    return experiment(model=model, loss_fn=nn.NLLLoss())


def one_logit():
    model = nn.Sequential(net()[:-1], nn.Linear(4, 1))
    train, validation = ([(x[:12], (y[:12] > 0).float()[:, None])] for x, y in (pictures(), pictures(12, seed=1)))
    return experiment(model=model, loss_fn=nn.BCEWithLogitsLoss(), train_loader=train * 3, val_loader=validation)


def a_label_for_each_pixel():
    images, _ = pictures()
    labels = images.argmax(1)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, CLASSES, 1))
    train, validation = ([(images[part], labels[part])] for part in (slice(0, 16), slice(16, 24)))
    return experiment(model=model, train_loader=train * 3, val_loader=validation)


class Stream(IterableDataset):
    def __iter__(self):
        yield from zip(*pictures(), strict=True)


class Answers(nn.Module):
    """Gives its scores beside something else."""

    def __init__(self, kind):
        super().__init__()
        self.body, self.kind = net(), kind

    def forward(self, x):
        scores = self.body(x)
        return {"dict": {"logits": scores, "features": x}, "tuple": (scores, x)}[self.kind]


HEALTHY = {
    "plain": experiment,
    "without validation": lambda: experiment(val_loader=None),
    "without normalisation, dropout": lambda: experiment(model=net(norm=False, dropout=0.5)),
    "accumulating": lambda: experiment(train_step=accumulating),
    "clipped": lambda: experiment(train_step=clipped),
    "bfloat16": lambda: experiment(train_step=in_bfloat16),
    "label smoothing, ignored labels": lambda: experiment(loss_fn=nn.CrossEntropyLoss(label_smoothing=0.1)),
    "own epoch": lambda: experiment(train_epoch=whole_epoch),
    "frozen trunk": frozen_trunk,
    "frozen batch norm": frozen_batch_norm,
    "unused head": unused_head,
    "warm-up from zero": warm_up,
    "one cycle": one_cycle,
    "a label for each pixel": a_label_for_each_pixel,
    "dict batches": dict_batches,
    "zero-initialised branch": zero_initialised_branch,
    "log-softmax": log_softmax,
    "loader workers": lambda: experiment(train_loader=loader(num_workers=2, shuffle=True)),
    "a stream": lambda: experiment(train_loader=DataLoader(Stream(), batch_size=6)),
    "a dict of answers": lambda: experiment(model=Answers("dict")),
    "a tuple of answers": lambda: experiment(model=Answers("tuple"), get_logits=lambda output: output[0]),
    "one logit": one_logit,
}


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_set_ups_stay_quiet(name):
    report = run(HEALTHY[name])
    assert report.root_cause is None
    assert set(statuses(report).values()) == {"pass"}, [v for v in report.items if v.status in ("warn", "fail")]
    assert len(statuses(report)) >= 13


def test_lbfgs_with_its_closure_stays_quiet():
    def make():
        model = net(norm=False)
        optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3)
        return experiment(model=model, optimizer=optimizer, train_step=with_closure)

    assert run(make).root_cause is None


def test_a_healthy_demo_stays_quiet():
    report = run(open_experiment("demo/healthy_cnn"))
    assert {verdict.status for verdict in report.items} == {"pass"}


# Mistakes

TRAINED = ("model.init", "data.augmentation", "optimizer.learning_rate", "loss.decreases", "training.convergence")
CONFIRMED = ("raw_pixels", "normalized_twice", "learning_rate_too_high", "dead_relus", "shuffled_labels")


# A sample; the catalogue has them all.
PROVEN = (
    *("nan_pictures", "whole_numbers", "one_picture_for_all", "labels_from_one", "validation_leak", "nan_weight"),
    *("softmax_over_batch", "negative_loss", "detached_loss", "no_zero_grad", "cleared_too_late"),
    *("only_head_in_optimizer", "stale_optimizer", "no_optimizer_step", "never_eval_mode", "eval_mode_in_training"),
)


@pytest.mark.parametrize("fault", PROVEN)
def test_a_proven_mistake_is_named_by_its_item_before_any_training(fault):
    skipped = {*TRAINED, "training.fit", "data.labels"} - {FAULTS[fault].item}
    exact = [item for item in ITEMS if item not in skipped]
    report = run(with_fault("cnn", fault), items=exact)
    verdict = report[FAULTS[fault].item]
    assert verdict.grade == "proven"
    assert verdict.remedy
    assert (verdict.status, report.root_cause) == ("fail", verdict.id)
    assert all(v.explained_by for v in report.items if v.status == "fail" and v is not verdict)


@pytest.mark.parametrize("fault", [name for name in CONFIRMED if name != "normalized_twice"])
def test_what_statistics_show_is_confirmed_by_a_trial(fault):
    report = run(with_fault("plain", fault), items=[FAULTS[fault].item, "loss.decreases"])
    verdict = report[FAULTS[fault].item]
    assert (verdict.status, verdict.grade, report.root_cause) == ("fail", "statistical", verdict.id)
    assert verdict.trials
    assert any(trial.helped for trial in verdict.trials) or fault == "shuffled_labels"
    assert all(v.explained_by for v in report.items if v.status == "fail" and v is not verdict)


def test_a_mistake_without_effect_here_is_told_and_not_red():
    """BatchNorm undoes what raw pixels do."""
    report = run(with_fault("cnn", "raw_pixels"), items=["data.range"])
    verdict = report["data.range"]
    assert (verdict.status, verdict.harmless, report.root_cause) == ("warn", True, None)
    assert not verdict.trials[0].helped


def test_every_demo_case_carries_a_known_fault_and_does_not_name_it():
    cases = [card for card in DEMO_EXPERIMENTS.values() if card.name.startswith("case")]
    assert len(cases) >= 8
    for card in cases:
        fault = FAULTS[card.fault]
        assert fault.item in ITEMS
        words = {word for word in fault.name.split("_") if len(word) > 4}
        assert not words & set((card.title + card.description).lower().replace(",", "").replace(".", "").split())


def test_frozen_by_detaching_is_told_from_frozen_on_purpose():
    class Cut(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk, self.head = nn.Linear(192, 4), nn.Linear(4, CLASSES)

        def forward(self, x):
            return self.head(self.trunk(x.flatten(1)).detach())

    report = run(lambda: experiment(model=Cut()))
    assert report.root_cause == "optimizer.gradients"
    assert report["optimizer.gradients"].evidence["without gradient"] == ["trunk.weight", "trunk.bias"]


def test_a_head_that_runs_and_is_not_used_needs_no_gradient():
    class TwoHeads(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.other = nn.Linear(192, CLASSES), nn.Linear(192, 5)

        def forward(self, x):
            self.kept = self.other(x.flatten(1))
            return self.head(x.flatten(1))

    verdict = run(lambda: experiment(model=TwoHeads()), items=["optimizer.gradients"])["optimizer.gradients"]
    assert verdict.status == "pass"
    assert verdict.evidence["not used for the scores"] == ["other.weight", "other.bias"]


def test_a_trunk_that_is_cut_off_is_found_behind_a_head_that_starts_at_zero():
    class Cut(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk, self.head = nn.Linear(192, 4), nn.Linear(4, CLASSES)
            nn.init.zeros_(self.head.weight)

        def forward(self, x):
            return self.head(self.trunk(x.flatten(1)).detach())

    verdict = run(lambda: experiment(model=Cut()), items=["optimizer.gradients"])["optimizer.gradients"]
    assert verdict.evidence["without gradient"] == ["trunk.weight", "trunk.bias"]


def test_a_look_that_cannot_be_made_is_said_on_the_items_judged_without_it(monkeypatch):
    from featviz_core.checklist import looks

    def breaks(*_, **__):
        raise RuntimeError("no luck")

    monkeypatch.setattr(looks, "check_dataloader", breaks)
    report = run(items=["data.range", "model.output_shape"])
    assert "The data check could not be made: RuntimeError: no luck" in report["data.range"].evidence["not looked at"]
    assert "not looked at" not in report["model.output_shape"].evidence


def test_a_check_that_raises_does_not_take_the_others_along(monkeypatch):
    from featviz_core.checklist import runner

    monkeypatch.setattr(runner, "CHECKS", {**runner.CHECKS, "loss.value": lambda _probe: 1 / 0})
    report = run(items=["loss.value", "optimizer.updates"])
    assert report["optimizer.updates"].status == "pass"
    assert report["loss.value"].status == "not_run"
    assert "ZeroDivisionError" in report["loss.value"].summary
    assert "1 / 0" in report["loss.value"].evidence["trace"]


def test_a_network_without_anything_to_train_gets_a_whole_report():
    report = run(with_fault("cnn", "all_frozen"))
    assert report.root_cause == "loss.gradients"
    assert not [v.summary for v in report.items if "the check itself raised" in v.summary]


def test_a_loss_without_a_graph_is_found_before_the_loop_breaks_on_it():
    report = run(lambda: experiment(loss_fn=lambda scores, y: nn.functional.cross_entropy(scores, y).detach()))
    assert report.root_cause == "loss.gradients"
    assert "does not require gradients" in report["loss.gradients"].summary


@pytest.mark.parametrize("module", [nn.ReLU(), nn.ReLU(inplace=True)], ids=["out of place", "in place"])
def test_a_relu_behind_the_last_layer_is_tried_without(module):
    report = run(lambda: experiment(model=nn.Sequential(net(norm=False), module)), items=["model.output_shape"])
    verdict = report["model.output_shape"]
    assert verdict.evidence["finding"] == "output.relu_applied"
    assert verdict.trials[0].name == "no ReLU at the end"
    assert verdict.status == ("fail" if verdict.trials[0].helped else "warn")


def test_a_relu_that_is_no_module_warns_without_a_trial():
    class Cut(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = net()

        def forward(self, x):
            return self.body(x).relu()

    verdict = run(lambda: experiment(model=Cut()), items=["model.output_shape"])["model.output_shape"]
    assert (verdict.status, verdict.trials) == ("warn", ())


def test_a_class_more_than_the_head_has_outputs_is_the_head_s_fault_where_it_has_a_name():
    def make(names):
        return lambda: experiment(model=nn.Sequential(net()[:-1], nn.Linear(4, CLASSES - 1)), class_names=names)

    assert run(make(("a", "b", "c"))).root_cause == "model.output_shape"
    assert run(make(None)).root_cause == "data.labels"


def test_running_statistics_that_never_move():
    def make():
        model = net()
        model[1].momentum = 0.0
        return experiment(model=model)

    verdict = run(make, items=["training.curves"])["training.curves"]
    assert verdict.evidence["running statistics that stay"] == ["1"]
    assert verdict.trials[0].changed.startswith("momentum=0.1")


def test_a_warm_up_that_never_ends_is_the_schedule_s_fault_and_not_the_optimiser_s():
    def make(factor, length):
        def warming():
            subject = experiment()
            schedule = torch.optim.lr_scheduler.LinearLR(subject.optimizer, start_factor=factor, total_iters=length)
            return replace(subject, scheduler=schedule, scheduler_step="epoch", epochs=10)

        return warming

    items = ["optimizer.updates", "training.convergence"]
    assert run(make(1e-9, 100_000), items=items).root_cause == "training.convergence"
    assert statuses(run(make(1e-3, 3), items=items)) == dict.fromkeys(items, "pass")


def test_a_parameter_held_twice():
    def make():
        model = net()
        groups = [{"params": list(model.parameters())}]
        optimizer = torch.optim.SGD(groups, lr=0.1)
        optimizer.param_groups.append({**optimizer.param_groups[0], "params": list(model[0].parameters())})
        return experiment(model=model, optimizer=optimizer)

    verdict = run(make)["optimizer.updates"]
    assert verdict.status == "fail"
    assert verdict.evidence["twice"] == ["0.weight", "0.bias"]


def test_a_parameter_that_is_put_back_does_not_move():
    def step(subject, images, targets):
        before = subject.model[0].weight.detach().clone()
        loss = train_step(subject, images, targets)
        with torch.no_grad():
            subject.model[0].weight.copy_(before)
        return loss

    verdict = run(lambda: experiment(train_step=step))["optimizer.updates"]
    assert verdict.status == "fail"
    assert verdict.evidence["still"] == ["0.weight"]


def test_training_in_evaluation_mode_after_validation_only():
    """The first epoch is right; the user's own epoch forgets `model.train()` when validation has been there."""

    def epoch(subject, batches):
        for images, targets in batches:
            train_step(subject, images, targets)

    verdict = run(lambda: experiment(model=net(dropout=0.5).train(), train_epoch=epoch))["training.curves"]
    assert verdict.status == "fail"
    assert "evaluation mode" in verdict.summary


def test_validation_with_graphs_is_right_but_wasteful():
    def evaluate(subject, batches):
        subject.model.eval()
        losses, right = [], []
        for x, y in subject.pairs(batches):
            scores = subject.model(x)
            losses.append(float(subject.loss_fn(scores, y).detach()))
            right += (scores.argmax(1) == y).tolist()
        return {"loss": sum(losses) / len(losses), "accuracy": sum(right) / len(right)}

    verdict = run(lambda: experiment(evaluate=evaluate))["training.curves"]
    assert (verdict.status, verdict.harmless) == ("warn", True)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda t: t.int(), "labels.long()"),
        (lambda t: t[:, None], "labels.squeeze(1).long()"),
        (lambda t: t.double(), "labels.long()"),
    ],
)
def test_labels_of_the_wrong_form_come_with_the_form_that_works(change, code):
    images, targets = pictures()
    report = run(lambda: experiment(train_loader=[(images, change(targets))] * 4, val_loader=None))
    assert report.root_cause == "data.labels"
    assert code in report["data.labels"].remedy


def test_labels_that_are_text_are_the_root_and_not_the_loss():
    images, labels = pictures()
    batches = [(images[:8], [["ant", "bee", "cat"][label] for label in labels[:8]])]
    report = run(lambda: experiment(train_loader=batches, val_loader=None))
    assert report.root_cause == "data.labels"
    assert "'ant'" in report["data.labels"].summary


def test_an_empty_loader_is_named():
    report = run(lambda: experiment(val_loader=[]), items=["data.range"])
    assert report["data.range"].summary.startswith("The validation loader gave no batch.")


def test_ignored_labels_and_probabilities_are_labels_too():
    images, targets = pictures()
    ignored = targets.clone()
    ignored[::3] = -100
    rows = nn.functional.one_hot(targets, CLASSES).float()
    for labels in (ignored, rows):
        assert (
            run(lambda labels=labels: experiment(train_loader=[(images, labels)] * 4, val_loader=None)).root_cause
            is None
        )


def test_nan_in_a_label():
    images, _ = pictures()
    labels = torch.rand(24, CLASSES)
    labels[5] = float("nan")
    assert run(lambda: experiment(train_loader=[(images, labels)] * 4)).root_cause == "data.labels"


# Exceptions in the user's parts


def boom(*_args: Any, **_options: Any) -> Any:
    raise ValueError("boom")


class Fails(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)

    forward = boom


class FailsLater:
    def __iter__(self):
        yield pictures(6)
        raise ValueError("boom")


@pytest.mark.parametrize(
    ("change", "item"),
    [
        ({"train_loader": FailsLater()}, "data.range"),
        ({"val_loader": FailsLater()}, "data.range"),
        ({"unpack": boom}, "data.range"),
        ({"model": Fails}, "model.output_shape"),
        ({"get_logits": boom}, "model.output_shape"),
        ({"loss_fn": boom}, "loss.value"),
        ({"train_step": boom}, "loss.decreases"),
        ({"train_epoch": boom}, "loss.decreases"),
        ({"evaluate": boom}, "training.curves"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else value,
)
def test_an_exception_is_evidence_on_one_item_and_the_report_is_complete(change, item):
    def make():
        return experiment(**{name: value() if value is Fails else value for name, value in change.items()})

    report = run(make)
    assert [verdict.id for verdict in report.items] == list(ITEMS)
    assert report.root_cause == item
    assert "boom" in report[item].summary
    failed = [verdict.id for verdict in report.items if verdict.status == "fail" and not verdict.explained_by]
    assert failed == [item]


class FailsAtTheSixth:
    """Works for as long as the first items look at it."""

    def __iter__(self):
        yield from [pictures(6)] * 5
        raise ValueError("boom")


def test_an_exception_that_comes_up_later_is_not_lost():
    report = run(lambda: experiment(train_loader=FailsAtTheSixth()))
    assert report.root_cause == "data.range"
    assert "boom" in report["data.range"].summary


def test_mixed_up_labels_that_break_the_loss_are_the_root_and_not_the_loss():
    report = run(with_fault("cnn", "labels_from_one"))
    assert report.root_cause == "data.labels"
    assert report["loss.value"].explained_by == "data.labels"
    assert "subtract 1" in report["data.labels"].remedy


def test_a_factory_that_fails_is_no_item():
    with pytest.raises(ValueError, match="boom"):
        run(boom)


# Manners


def test_nothing_of_the_user_s_is_changed(model_untouched):
    subject = experiment()
    state = torch.random.get_rng_state()
    with model_untouched(subject.model):
        fv.run_checklist(lambda: experiment(train_loader=subject.train_loader))
    assert torch.equal(state, torch.random.get_rng_state())
    assert not subject.optimizer.state


def test_the_same_seed_gives_the_same_report():
    one, two = (run(seed=7).to_json() for _ in range(2))
    strip = [[line for line in text.splitlines() if '"seconds"' not in line] for text in (one, two)]
    assert strip[0] == strip[1]


def test_some_items_only_and_progress_that_cancels():
    report = run(items=["optimizer.updates"])
    assert statuses(report) == {"optimizer.updates": "pass"}

    def stop(fraction, _text):
        assert 0 <= fraction < 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(progress=stop)


def test_large_models_are_trained_for_fewer_steps_and_the_report_says_so(monkeypatch):
    from featviz_core.checklist import probe

    items = ["optimizer.learning_rate", "loss.decreases", "training.convergence"]
    assert all("short trainings" not in run(items=items)[item].evidence for item in items)
    monkeypatch.setattr(probe, "_SMALL", 1.0)
    report = run(items=items)
    for item in items:
        assert report[item].evidence["short trainings"] == "12 of 144 steps, because the model is large"


def test_wrong_arguments():
    with pytest.raises(ExperimentError, match="no item 'loss'"):
        run(items=["loss"])
    with pytest.raises(ExperimentError, match="no budget"):
        run(budget="huge")
    with pytest.raises(DeviceError):
        run(device="tpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_on_a_gpu():
    assert set(statuses(run(device="cuda")).values()) == {"pass"}


def test_a_loader_of_one_batch_is_enough():
    report = run(lambda: experiment(train_loader=loader(6), val_loader=loader(6, seed=1)))
    assert report.root_cause is None


@pytest.mark.parametrize(
    ("change", "harmful"), [(lambda images: images + 40, True), (lambda images: images * 255, False)]
)
def test_validation_pictures_that_are_not_like_training_are_tried_like_training(change, harmful):
    """Training is as good as ever, so that only validation can show it; this network's answer knows no scale."""
    images, labels = pictures(128, seed=5)
    other = DataLoader(TensorDataset(change(images), labels), batch_size=16)

    def make():
        return experiment(train_loader=loader(128, batch_size=16, shuffle=True), val_loader=other)

    verdict = run(make, items=["data.range"])["data.range"]
    assert (verdict.status, verdict.harmless) == (("fail", False) if harmful else ("warn", True))
    (trial,) = verdict.trials
    assert trial.name == "validation pictures like training's"
    assert trial.helped == harmful == (trial.after > trial.before + 0.1)


def test_scores_that_are_divided_are_found_where_the_optimiser_cannot_learn_from_them():
    class Divided(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = net()

        def forward(self, images):
            return self.inner(images) / 1000

    def make():
        model = Divided()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        return experiment(model=model, optimizer=optimizer, train_loader=loader(128, batch_size=16, shuffle=True))

    verdict = run(make, items=["model.init"])["model.init"]
    assert verdict.status == "fail" and "so small" in verdict.summary
    assert verdict.trials[0].changed.startswith("scores *") and verdict.trials[0].helped


def test_a_first_loss_that_only_the_own_weights_make_large_is_the_start_s_matter():
    def make(factor):
        def made():
            torch.manual_seed(0)
            model = net()
            with torch.no_grad():
                model[-1].weight.mul_(factor)
            return experiment(model=model, train_loader=loader(128, batch_size=32, shuffle=True))

        return made

    items = ["model.init", "loss.value"]
    assert statuses(run(make(1.0), items=items)) == dict.fromkeys(items, "pass")
    report = run(make(60.0), items=items)
    assert report["model.init"].status == "warn" and "too large" in report["model.init"].summary
    assert (report["loss.value"].status, report["loss.value"].explained_by) == ("warn", "model.init")


def test_a_loss_of_many_numbers_does_not_take_the_initialisation_along():
    items = ["model.init", "loss.value"]
    report = run(lambda: experiment(loss_fn=nn.CrossEntropyLoss(reduction="none")), items=items)
    assert report.root_cause == "loss.value"
    assert not report["model.init"].summary.startswith(NOT_JUDGED)
