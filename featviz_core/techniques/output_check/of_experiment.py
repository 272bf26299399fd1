"""The output check of an experiment: its model, some of its own batches, its loss."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from featviz_core.batches import describe
from featviz_core.errors import ExperimentError
from featviz_core.experiment import Experiment, Factory, few_batches, fresh
from featviz_core.experiment_file import at_home
from featviz_core.techniques.output_check.asking import Progress
from featviz_core.techniques.output_check.compute import check_model_output
from featviz_core.techniques.output_check.result import ModelOutput

_THUMBNAIL = 96  # the longer side, in pixels


@dataclass(frozen=True, slots=True, eq=False)
class ExperimentOutput:
    """What an experiment's model gives for its own pictures.

    `source`: "validation" or "training"; `thumbnails (N, h, w, 3)` uint8, small pictures of what the model saw, each
    stretched to its own darkest and brightest value unless the experiment says how pictures are normalised; `notes`:
    what was left out, in plain sentences.
    """

    output: ModelOutput
    source: str
    thumbnails: NDArray[np.uint8]
    notes: tuple[str, ...]


def check_experiment_output(
    make_experiment: Factory | str, *, batches: int = 4, device: str = "cpu", progress: Progress | None = None
) -> ExperimentOutput:
    """Is what an experiment's model gives for its validation pictures right? Without any, for its training pictures.

    `make_experiment`: a factory, or where one is, as for `open_experiment`. `batches`: how many of its batches are
    looked at; those with pictures of another size than the first are left out.
    Raises `ExperimentError` for batches or outputs that cannot be used; what the factory raises is passed on.
    """
    with at_home(make_experiment) as factory:
        experiment = fresh(factory, device=device)
        source = "training" if experiment.val_loader is None else "validation"
        images, targets, notes = _some(experiment, experiment.val_loader or experiment.train_loader, batches)
        names = experiment.class_names
        output = check_model_output(
            experiment.model,
            images,
            targets=targets,
            loss_fn=experiment.loss_fn,
            class_names=names,
            get_logits=experiment.logits,
            progress=progress,
        )
    return ExperimentOutput(output, source, _thumbnails(experiment, images), notes)


def _some(experiment: Experiment, loader: Iterable[Any], count: int) -> tuple[Tensor, Tensor | None, tuple[str, ...]]:
    """Pictures and labels of the first batches, and what was left out of them."""
    pairs = list(experiment.pairs(few_batches(experiment, loader, count)))
    first = pairs[0][0]
    if first.ndim != 4 or not first.is_floating_point():
        raise ExperimentError(
            "The experiment's batches hold no pictures.",
            why=f"Expected float tensors (N, C, H, W), got {describe(first)}.",
            do="Convert with `transforms.ToTensor()`, or `images.float() / 255` and `permute(0, 3, 1, 2)`.",
        )
    kept = [pair for pair in pairs if pair[0].shape[1:] == first.shape[1:]]
    notes: list[str] = []
    if len(kept) < len(pairs):
        notes.append(f"Batches left out, because their pictures have another size: {len(pairs) - len(kept)}.")
    images = torch.cat([pictures for pictures, _ in kept])
    try:
        targets = torch.cat([torch.as_tensor(labels) for _, labels in kept])
    except (TypeError, ValueError, RuntimeError):
        notes.append(f"The labels are not compared: they are {describe(kept[0][1])}, not one tensor.")
        return images, None, tuple(notes)
    return images, targets, tuple(notes)


def _thumbnails(experiment: Experiment, images: Tensor) -> NDArray[np.uint8]:
    shown = images.detach().float().cpu().nan_to_num(0, 0, 0)
    shrink = min(1.0, _THUMBNAIL / max(shown.shape[2:]))
    if shrink < 1:
        size = [max(1, round(side * shrink)) for side in shown.shape[2:]]
        shown = functional.interpolate(shown, size=size, mode="bilinear", antialias=True)
    if experiment.normalization is not None:
        mean, std = (torch.tensor(values).float().reshape(1, -1, 1, 1) for values in experiment.normalization)
        shown = shown * std + mean
    else:
        low, high = shown.amin((1, 2, 3), keepdim=True), shown.amax((1, 2, 3), keepdim=True)
        shown = (shown - low) / (high - low).clamp(min=1e-12)
    colored = shown[:, :3] if shown.shape[1] >= 3 else shown[:, :1].expand(-1, 3, -1, -1)
    return np.ascontiguousarray(colored.clamp(0, 1).mul(255).byte().permute(0, 2, 3, 1).numpy())
