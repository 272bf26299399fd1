"""Set-ups as public examples have them, healthy: no item fails or warns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageChops, ImageDraw, ImageFont
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

import featviz_core as fv

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore:.*lr_scheduler.step.*")]

DIGITS = "01234567"
TRAIN, VALIDATION = 512, 160


class Digits(Dataset[Any]):
    """Grey digits of 28 × 28 pixels, each somewhere else and of another size."""

    def __init__(self, part: str, count: int, transform: Any, *, as_dict: bool = False) -> None:
        generator = torch.Generator().manual_seed(len(part))
        self.labels = (torch.arange(count) % len(DIGITS)).tolist()
        self.draws = torch.rand(count, 3, generator=generator).tolist()
        self.transform, self.as_dict = transform, as_dict

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Any:
        x, y, size = self.draws[index]
        image = Image.new("L", (28, 28))
        font = ImageFont.load_default(16 + int(8 * size))
        ImageDraw.Draw(image).text((3 + 8 * x, 8 * y - 3), DIGITS[self.labels[index]], 200, font)
        # Without grain, some digits of validation would be the same as one for training, to the pixel.
        grain = Image.fromarray(np.random.default_rng(int(1e9 * x)).integers(0, 50, (28, 28), np.uint8))
        picture = self.transform(ImageChops.add(image, grain))
        return {"pixels": picture, "label": self.labels[index]} if self.as_dict else (picture, self.labels[index])


NORMALIZE = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.13], [0.31])])


def loaders(**options: Any) -> dict[str, Any]:
    train, validation = (Digits(part, n, NORMALIZE, **options) for part, n in (("train", TRAIN), ("test", VALIDATION)))
    return {
        "train_loader": DataLoader(train, 32, shuffle=True),
        "val_loader": DataLoader(validation, 80),
        "class_names": tuple(DIGITS),
        "normalization": ((0.13,), (0.31,)),
    }


class Net(nn.Module):
    """The tutorial's network: two convolutions, two linear layers, dropout, and log-probabilities at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 16, 3)
        self.dropout1, self.dropout2 = nn.Dropout(0.25), nn.Dropout(0.5)
        self.fc1, self.fc2 = nn.Linear(16 * 144, 64), nn.Linear(64, len(DIGITS))

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.conv2(functional.relu(self.conv1(x))))
        x = self.dropout1(functional.max_pool2d(x, 2)).flatten(1)
        x = self.dropout2(functional.relu(self.fc1(x)))
        return functional.log_softmax(self.fc2(x), dim=1)


def tutorial() -> fv.Experiment:
    """Log-probabilities, `nll_loss`, Adadelta at 1, a rate that falls after each epoch."""
    model = Net()
    optimizer = torch.optim.Adadelta(model.parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.7)
    return fv.Experiment(
        model=model, optimizer=optimizer, loss_fn=functional.nll_loss, scheduler=schedule, epochs=14, **loaders()
    )


def own_epoch(experiment: fv.Experiment, batches: Any) -> None:
    """A loop of one's own: bfloat16, gradients of two batches, clipping, a step of the schedule with each step."""
    experiment.model.train()
    experiment.optimizer.zero_grad()
    for number, (images, targets) in enumerate(batches, start=1):
        with torch.autocast("cpu", torch.bfloat16):
            loss = experiment.loss_fn(experiment.model(images)["logits"], targets)
        (loss / 2).backward()
        if number % 2 == 0:
            nn.utils.clip_grad_norm_(experiment.model.parameters(), 1.0)
            experiment.optimizer.step()
            experiment.optimizer.zero_grad()


class Wrapped(nn.Module):
    """A model that answers with a dict, as libraries' models do."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.GELU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.GELU(), nn.AdaptiveMaxPool2d(3)),
        )
        self.head = nn.Linear(32 * 9, len(DIGITS))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.body(x).flatten(1)
        return {"logits": self.head(features), "features": features}


def trainer() -> fv.Experiment:
    """Dict batches, dict answers, and a loop of one's own."""
    model = Wrapped()
    decay, rest = (
        [parameter for parameter in model.parameters() if (parameter.ndim > 1) == many] for many in (True, False)
    )
    groups = [{"params": decay, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}]
    return fv.Experiment(
        model=model,
        optimizer=torch.optim.AdamW(groups, lr=2e-3),
        loss_fn=nn.CrossEntropyLoss(label_smoothing=0.05),
        train_epoch=own_epoch,
        unpack=lambda batch: (batch["pixels"], batch["label"]),
        **loaders(as_dict=True),
    )


@pytest.mark.parametrize("make", [tutorial, trainer])
def test_classics_stay_quiet(make):
    report = fv.run_checklist(make)
    assert [(v.id, v.summary) for v in report.items if v.status in ("fail", "warn")] == []
    assert sum(v.status == "pass" for v in report.items) >= 13
