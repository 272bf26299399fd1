"""Where models come from, and what a loaded one knows about itself."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from featviz_core import hubs, zoo
from featviz_core.architectures import DEMO_PREFIX, build, class_names_for, preprocessing_for, seeded
from featviz_core.demo import models as demo
from featviz_core.devices import best_device, check_device, devices
from featviz_core.errors import CheckpointError, ModelError
from featviz_core.loaded_model import LoadedModel, top_classes
from featviz_core.preprocessing import Preprocessing

if TYPE_CHECKING:
    from featviz_core.checkpoints import Checkpoint

__all__ = ["LoadedModel", "ModelCache", "best_device", "devices", "load_model", "top_classes"]


def load_model(
    name: str,
    *,
    weights: str | None = None,
    checkpoint: Checkpoint | Path | str | bytes | None = None,
    num_classes: int | None = None,
    class_names: Sequence[str] | None = None,
    device: str = "cpu",
    progress: Callable[[float, str], None] | None = None,
) -> LoadedModel:
    """A model by name, ready to be looked into.

    - `name`: `demo/shapes_cnn` and its siblings; any torchvision classification model; `timm/...` and
      `transformers/...` where those packages are installed.
    - `weights`: None for fresh weights (the same at each call), "DEFAULT" or a member of torchvision's enum for
      published ones, which are downloaded once and kept in torch's hub folder. Demo models bring their own.
    - `checkpoint`: a `.safetensors` or state-dict file (path or bytes) to load into it.
    - `num_classes`: outputs of a freshly initialised model, 1000 by default.
    - `class_names`: one for each output of a checkpoint, where its own are not wanted or not known.

    Raises `ModelError`, `WeightsError`, `CheckpointError` or `DeviceError`.
    """
    check_device(device)
    if checkpoint is not None and weights is not None:
        raise ModelError("Weights and a checkpoint were both given.", do="Choose one of the two.")
    if name.startswith(DEMO_PREFIX):
        return (
            _load_demo(name, device) if checkpoint is None else _load_checkpoint(name, checkpoint, device, class_names)
        )
    if checkpoint is not None:
        return _load_checkpoint(name, checkpoint, device, class_names)
    if "/" in name:
        return _load_from_hub(name, weights, num_classes, device)
    if weights is None:
        return _load_fresh(name, num_classes, device)
    return _load_published(zoo.zoo_weights(name, weights), device, progress)


class ModelCache:
    """Loaded models by key, within a budget of bytes; the least recently used goes first.

    When several ask for the same missing model at once, one loads it and the others wait for that. A model that is
    still in use stays alive with its users; a failure is not remembered.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._lock = threading.Lock()
        self._models: OrderedDict[Hashable, Future[LoadedModel]] = OrderedDict()

    def get(self, key: Hashable, load: Callable[[], LoadedModel]) -> LoadedModel:
        """The model under `key`; `load()` is called where there is none, and what it raises is raised here."""
        while True:
            with self._lock:
                ours = key not in self._models
                future = self._models.setdefault(key, Future())
                self._models.move_to_end(key)
            if ours:
                return self._load(key, future, load)
            try:
                return future.result()
            except CancelledError:
                continue  # the session that had asked first was stopped; now one of the others loads

    def _load(self, key: Hashable, future: Future[LoadedModel], load: Callable[[], LoadedModel]) -> LoadedModel:
        try:
            model = load()
        except BaseException as error:
            with self._lock:
                self._models.pop(key, None)
            if isinstance(error, Exception):
                future.set_exception(error)
            else:
                future.cancel()
            raise
        with self._lock:
            future.set_result(model)
            self._shrink(keep=key)
        return model

    def __contains__(self, key: Hashable) -> bool:
        with self._lock:
            return key in self._models

    def __len__(self) -> int:
        return len(self._models)

    def _shrink(self, keep: Hashable) -> None:
        sizes = {key: future.result().nbytes for key, future in self._models.items() if _is_loaded(future)}
        for key in [key for key in sizes if key != keep]:
            if sum(sizes.values()) <= self._budget:
                return
            del self._models[key], sizes[key]


def _is_loaded(future: Future[LoadedModel]) -> bool:
    return future.done() and future.exception() is None


def _load_demo(name: str, device: str) -> LoadedModel:
    from safetensors.torch import load_file

    card = demo.demo_model(name.removeprefix(DEMO_PREFIX))
    module = seeded(lambda: demo.build(card.name))
    path = demo.weights_path(card.name)
    if not path.is_file():
        raise ModelError(
            f"The weights of {card.title} are missing.",
            why=f"Expected the file {path.name} in assets/.",
            do=f"Restore it, or make it anew with `python -m featviz_core.demo.train {card.name}`.",
        )
    module.load_state_dict(load_file(path))
    return LoadedModel(name, module, class_names=card.class_names, preprocessing=preprocessing_for(card), device=device)


def _load_fresh(name: str, num_classes: int | None, device: str) -> LoadedModel:
    entry = min(zoo.zoo_model(name).weights, key=lambda weights: weights.crop_size)
    classes = num_classes or entry.num_classes
    module = seeded(lambda: build(name, num_classes=classes))
    return LoadedModel(
        name,
        module,
        class_names=class_names_for(classes),
        preprocessing=preprocessing_for(entry),
        device=device,
        notes=("Freshly initialised: it has learned nothing yet, so its classes mean nothing.",),
    )


def _load_published(entry: zoo.ZooWeights, device: str, progress: Callable[[float, str], None] | None) -> LoadedModel:
    from featviz_core import weights as published

    path = published.download(entry, progress=progress)
    state = published.load_state(path)
    module = seeded(lambda: build(entry.model, num_classes=entry.num_classes, **entry.build_options))
    module.load_state_dict(state, strict=not hasattr(module, "aux_logits"))
    return LoadedModel(
        entry.model,
        module,
        class_names=class_names_for(entry.num_classes),
        preprocessing=preprocessing_for(entry),
        device=device,
        notes=(entry.note,) if entry.note else (),
    )


def _load_checkpoint(
    name: str, source: Checkpoint | Path | str | bytes, device: str, class_names: Sequence[str] | None
) -> LoadedModel:
    from featviz_core import checkpoints

    if isinstance(source, str | Path):
        source = checkpoints.read_checkpoint(Path(source), name=Path(source).name)
    elif isinstance(source, bytes):
        source = checkpoints.read_checkpoint(source, name="checkpoint")
    module, preprocessing, own_names = _architecture(name)
    module, report = checkpoints.fit_checkpoint(module, source)
    classes = report.num_classes or len(own_names)
    lists = [names for names in (class_names, source.class_names, own_names) if names and len(names) == classes]
    notes = [*source.notes, *report.notes]
    if class_names and len(class_names) != classes:
        notes.append(f"The {len(class_names)} class names do not fit the {classes} outputs and are left out.")
    return LoadedModel(
        name,
        module,
        class_names=lists[0] if lists else class_names_for(classes),
        preprocessing=preprocessing,
        device=device,
        notes=notes,
    )


def _architecture(name: str) -> tuple[nn.Module, Preprocessing, tuple[str, ...]]:
    """A model to load a checkpoint into, with the preprocessing and class names of its usual weights."""
    if name.startswith(DEMO_PREFIX):
        card = demo.demo_model(name.removeprefix(DEMO_PREFIX))
        module = seeded(lambda: demo.build(card.name))
        return module, preprocessing_for(card), card.class_names
    if "/" in name:
        raise CheckpointError(
            "Checkpoints can be loaded into torchvision's and the demo architectures only.",
            why=f"Got {name}.",
            do="Give the checkpoint to timm or transformers themselves.",
        )
    entry = zoo.default_weights(name)
    return seeded(lambda: build(name)), preprocessing_for(entry), class_names_for(entry.num_classes)


def _load_from_hub(name: str, weights: str | None, num_classes: int | None, device: str) -> LoadedModel:
    module, preprocessing, names = seeded(
        lambda: hubs.build(name, pretrained=weights is not None, num_classes=num_classes)
    )
    return LoadedModel(name, module, class_names=names, preprocessing=preprocessing, device=device)
