"""Class activation maps: one capture, many views."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from featviz_core.borrowing import Model
from featviz_core.capture import gradients, layers_of, record
from featviz_core.errors import ModelError
from featviz_core.layouts import first_tensor, unreadable
from featviz_core.techniques.class_activation.evidence import Evidence, Method, TracedOnce, to_maps
from featviz_core.techniques.class_activation.layers import find_default
from featviz_core.techniques.class_activation.methods import find_method
from featviz_core.techniques.class_activation.result import ClassActivation, Floats, note_on, render, shared_high
from featviz_core.techniques.class_activation.targets import Target, Wanted, class_names_of, class_scores, resolve
from featviz_core.trace import Layer

Progress = Callable[[float, str], None]
Key = tuple[str, str, str]


def class_activation(
    model: Model,
    image: Tensor,
    *,
    layer: str | None = None,
    target: Wanted = None,
    method: str = "gradcam",
    seed: int = 0,
    progress: Progress | None = None,
) -> ClassActivation:
    """Where in `image` (1, C, H, W) does the model find its evidence for a class?

    - `layer`: a layer's address; left out, the last stage with places.
    - `target`: left out, the predicted class. A number, a name, several of them (their sum), `"heart - star"`,
      `"-heart"` for what argues against it, or a `Target`.
    - `method`: a name in `cam_methods()`, where formula, paper and cost stand. `seed` is for those that draw at random.
    - `progress(fraction, text)`, fraction in [0, 1], is called by methods that take long and may raise to cancel.

    The map is in [0, 1] at the input's size: ReLU, min-max, bilinear resize.

    Raises `LayerError` for a layer that does not exist or does not lie on the picture, `ModelError` for a class or
    method that does not exist, pictures that the model cannot look at, and a model without class scores.
    Source: Selvaraju et al., Grad-CAM, ICCV 2017.
    """
    layers = None if layer is None else [layer]
    found = class_activations(
        model, image, layers=layers, targets=[target], methods=[method], seed=seed, progress=progress
    )
    return next(iter(found.values()))


def class_activations(
    model: Model,
    image: Tensor,
    *,
    layers: Sequence[str] | None = None,
    targets: Sequence[Wanted] | None = None,
    methods: Sequence[str] = ("gradcam",),
    shared_scale: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[Key, ClassActivation]:
    """How do layers, targets and methods compare on one picture? All combinations, from one capture.

    One forward pass and one backward pass a target serve all layers and all methods that need no more. The result is
    keyed by (layer as asked for, target's label, method), in the order layers, targets, methods. With `shared_scale`
    the maps of one method start at 0 and end at their common largest value, so that equal colours are equal evidence.

    Arguments and errors as for `class_activation`.
    """
    _check_one(image)
    names, model = class_names_of(model), TracedOnce(model)
    chosen = [find_method(name) for name in methods]
    steps = layers_of(model, tuple(image.shape[1:]))
    found = [steps.find(address) for address in layers] if layers is not None else [find_default(steps)]
    with_gradients = any(method.needs == "gradients" and not method.whole_model for method in chosen)
    capture = _capture(model, image, found, [None] if targets is None else targets, names, with_gradients)
    raws = _raws(model, image, capture, chosen, seed, progress)
    size = (image.shape[2], image.shape[3])
    scores = capture.scores.tolist()
    highs = {m.name: shared_high([raws[layer.address, m.name] for layer in found]) for m in chosen if shared_scale}

    def result(layer: Layer, index: int, method: Method) -> ClassActivation:
        raw = raws[layer.address, method.name][index]
        return ClassActivation(
            map=render(raw, size, high=highs.get(method.name)),
            raw=raw,
            target=capture.targets[index],
            score=scores[index],
            layer=steps.find("") if method.whole_model else layer,
            method=method.name,
            note=note_on(raw, scores[index], capture.classes, method),
        )

    return {
        (layer.address, target.label, method.name): result(layer, index, method)
        for layer in found
        for index, target in enumerate(capture.targets)
        for method in chosen
    }


def _check_one(image: Tensor) -> None:
    if isinstance(image, Tensor) and image.ndim == 4 and len(image) != 1:
        raise ModelError("A class activation map is of one picture.", why=f"Expected (1, C, H, W), got {len(image)}.")


@dataclass(frozen=True, slots=True, eq=False)
class _Capture:
    """What one pass showed: `activations` (C, h, w) and `gradients` (T, C, h, w) by layer; `scores` (T,)."""

    layers: Sequence[Layer]
    targets: Sequence[Target]
    scores: Tensor
    classes: int
    activations: dict[str, Tensor]
    gradients: dict[str, Tensor]


def _capture(
    model: Model,
    image: Tensor,
    layers: Sequence[Layer],
    wanted: Sequence[Wanted],
    names: Sequence[str],
    with_gradients: bool,
) -> _Capture:
    addresses = [layer.address for layer in layers]
    targets: list[Target] = []

    def scalars(output: object) -> list[Tensor]:
        logits = class_scores(output)
        targets.extend(resolve(one, logits.detach(), names) for one in wanted)
        return [target.of(logits.float())[0] for target in targets]

    if with_gradients:
        seen = gradients(model, image, layers=addresses, scalars=scalars)
        towards = {
            layer.address: torch.cat([to_maps(layer, g) for g in seen.gradients[layer.address]]) for layer in layers
        }
        return _captured(layers, targets, seen.activations, towards, seen.output)
    recording = record(model, image, layers=addresses, stop_early=False)
    scalars(recording.output)
    return _captured(layers, targets, recording.outputs, {}, recording.output)


def _captured(
    layers: Sequence[Layer],
    targets: Sequence[Target],
    outputs: Mapping[str, Any],
    towards: dict[str, Tensor],
    output: Any,
) -> _Capture:
    logits = class_scores(output).float()
    return _Capture(
        layers=layers,
        targets=targets,
        scores=torch.stack([target.of(logits)[0] for target in targets]),
        classes=logits.shape[1],
        activations={layer.address: _maps_of(layer, outputs[layer.address]) for layer in layers},
        gradients=towards,
    )


def _maps_of(layer: Layer, output: Any) -> Tensor:
    tensor = first_tensor(output)
    if tensor is None:
        raise unreadable(layer.address, ())
    return to_maps(layer, tensor)[0]


def _raws(
    model: Model,
    image: Tensor,
    capture: _Capture,
    methods: Sequence[Method],
    seed: int,
    progress: Progress | None,
) -> dict[tuple[str, str], Floats]:
    """What each method gives at each layer, `(T, h, w)`, by layer and method."""
    jobs = [(layer, method) for method in methods for layer in capture.layers]
    raws: dict[tuple[str, str], Floats] = {}
    for number, (layer, method) in enumerate(jobs):
        whole = method.whole_model and next((raw for (_, name), raw in raws.items() if name == method.name), None)

        def report(fraction: float, number: int = number, title: str = method.title) -> None:
            if progress is not None:
                progress((number + fraction) / len(jobs), title)

        report(0.0)
        seen = Evidence(
            model=model,
            image=image,
            layer=layer,
            targets=capture.targets,
            scores=capture.scores,
            activations=capture.activations[layer.address],
            gradients=capture.gradients.get(layer.address, torch.empty(0)),
            seed=seed,
            report=report,
        )
        raw = whole if isinstance(whole, np.ndarray) else _numbers(method.compute(seen))
        raws[layer.address, method.name] = raw
        report(1.0)
    return raws


def _numbers(maps: Tensor) -> Floats:
    return np.ascontiguousarray(maps.detach().float().cpu().numpy())
