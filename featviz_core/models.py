"""Where models come from, and what a loaded one knows about itself."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor, nn

from featviz_core import zoo
from featviz_core.borrowing import Pool
from featviz_core.demo import models as demo
from featviz_core.errors import CheckpointError, DeviceError, ModelError
from featviz_core.preprocessing import Preprocessing
from featviz_core.trace import Layer, Trace, trace

if TYPE_CHECKING:
    from featviz_core.checkpoints import Checkpoint

DEMO_PREFIX = "demo/"


class LoadedModel:
    """A model ready to be looked into, by many threads at once.

    `name`: what it was loaded as. `class_names`: one for each output. `preprocessing`: how a picture becomes its
    input; `input_size`: (H, W) of that input. `notes`: what happened on the way, in plain sentences. `module`: the
    model itself, to be read; to run it, `borrow` it.
    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        *,
        class_names: Sequence[str],
        preprocessing: Preprocessing,
        device: str = "cpu",
        notes: Sequence[str] = (),
    ) -> None:
        self.name, self.notes = name, tuple(notes)
        self.class_names, self.preprocessing = tuple(class_names), preprocessing
        self.device = check_device(device)
        self.module = _to_device(module.eval(), self.device)
        self._pool = Pool(self.module)
        self._traces: dict[tuple[int, ...], Trace] = {}

    @property
    def input_size(self) -> tuple[int, int]:
        """(H, W) in pixels of the picture the model sees."""
        return self.preprocessing.input_size

    @property
    def nbytes(self) -> int:
        """Memory that the weights take, in bytes."""
        return sum(t.numel() * t.element_size() for t in (*self.module.parameters(), *self.module.buffers()))

    def borrow(self, *, training: bool = False) -> AbstractContextManager[nn.Module]:
        """Lend a view of the model (`with loaded.borrow() as module:`), in eval mode unless told otherwise.

        The view's modules are the borrower's alone, its parameters are everybody's: look, never write. Modes,
        hooks, flags, gradients and buffers are put back on every way out.
        """
        return self._pool.borrow(training=training)

    def trace(self, shape: tuple[int, ...]) -> Trace:
        """All layers for pictures of `shape` (C, H, W); worked out once."""
        if shape not in self._traces:
            with self.borrow() as module:
                self._traces[shape] = trace(module, shape)
        return self._traces[shape]

    def layers(self) -> tuple[Layer, ...]:
        """The tree of modules, in the order of definition, with type, output shape and parameter count each."""
        return self.trace((3, *self.input_size)).layers

    def preprocess(self, *pictures: Image.Image) -> Tensor:
        """The model's input `(N, 3, H, W)` for pictures: resized, cut, scaled, normalised, on the model's device."""
        return torch.cat([self.preprocessing(picture) for picture in pictures]).to(self.device)

    def class_name(self, index: int) -> str:
        """The name of output `index`; its number where it has none."""
        return self.class_names[index] if index < len(self.class_names) else f"output {index}"

    def logits(self, images: Tensor) -> Tensor:
        """Class scores `(N, classes)` before softmax for `images` (N, 3, H, W)."""
        with self.borrow() as module, torch.no_grad():
            output: Tensor = module(images.to(self.device))
        return output


def top_classes(model: LoadedModel, images: Tensor, *, count: int = 3) -> list[tuple[str, float]]:
    """What does the model take the first of `images` (N, 3, H, W) for?

    The `count` most probable classes with their softmax probability in [0, 1]; NaN where a logit is not finite.
    """
    probabilities = model.logits(images[:1]).flatten(1)[0].float().softmax(0)
    best = probabilities.topk(min(count, len(probabilities)))
    return [(model.class_name(int(i)), float(p)) for p, i in zip(best.values, best.indices, strict=True)]


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


def check_device(device: str) -> str:
    """`device` itself where torch finds it ("cpu", "cuda", "cuda:1", "mps"); else `DeviceError`."""
    if device not in (found := devices()):
        raise DeviceError(f"There is no device '{device}' here.", why=f"torch finds {', '.join(found)}.")
    return device


def devices() -> tuple[str, ...]:
    """The devices that torch finds, the CPU first."""
    found = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    found += ["cuda"] if torch.cuda.is_available() else []
    found += ["mps"] if torch.backends.mps.is_available() else []
    return tuple(found)


def best_device() -> str:
    """The fastest kind of device that torch finds here."""
    found = devices()
    return next((device for device in ("cuda", "mps") if device in found), "cpu")


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
        with self._lock:
            ours = key not in self._models
            future = self._models.setdefault(key, Future())
            self._models.move_to_end(key)
        if not ours:
            return future.result()
        try:
            future.set_result(load())
        except BaseException as error:
            with self._lock:
                self._models.pop(key, None)
            # Waiting users of other sessions must not be cancelled with this one.
            future.set_exception(error if isinstance(error, Exception) else _interrupted())
            raise
        with self._lock:
            self._shrink(keep=key)
        return future.result()

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


def _interrupted() -> ModelError:
    return ModelError("Loading the model was interrupted by the session that had asked first.", do="Try again.")


def _load_demo(name: str, device: str) -> LoadedModel:
    from safetensors.torch import load_file

    card = demo.demo_model(name.removeprefix(DEMO_PREFIX))
    module = demo.build(card.name)
    path = demo.weights_path(card.name)
    if not path.is_file():
        raise ModelError(
            f"The weights of {card.title} are missing.",
            why=f"Expected the file {path.name} in assets/.",
            do=f"Restore it, or make it anew with `python -m featviz_core.demo.train {card.name}`.",
        )
    module.load_state_dict(load_file(path))
    return LoadedModel(
        name, module, class_names=card.class_names, preprocessing=_demo_preprocessing(card), device=device
    )


def _demo_preprocessing(card: demo.DemoModel) -> Preprocessing:
    return Preprocessing(resize_size=card.input_size, crop_size=card.input_size, mean=card.mean, std=card.std)


def _load_fresh(name: str, num_classes: int | None, device: str) -> LoadedModel:
    entry = min(zoo.zoo_model(name).weights, key=lambda weights: weights.crop_size)
    classes = num_classes or entry.num_classes
    module = seeded(lambda: build(name, num_classes=classes))
    return LoadedModel(
        name,
        module,
        class_names=_class_names(classes),
        preprocessing=_zoo_preprocessing(entry),
        device=device,
        notes=("Freshly initialised: it has learned nothing yet, so its classes mean nothing.",),
    )


def _load_published(entry: zoo.ZooWeights, device: str, progress: Callable[[float, str], None] | None) -> LoadedModel:
    from featviz_core import weights as published

    path = published.download(entry, progress=progress)
    state = published.load_state(path)
    module = build(entry.model, num_classes=entry.num_classes, **entry.build_options)
    module.load_state_dict(state, strict=not hasattr(module, "aux_logits"))
    return LoadedModel(
        entry.model,
        module,
        class_names=_class_names(entry.num_classes),
        preprocessing=_zoo_preprocessing(entry),
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
        class_names=lists[0] if lists else _class_names(classes),
        preprocessing=preprocessing,
        device=device,
        notes=notes,
    )


def _architecture(name: str) -> tuple[nn.Module, Preprocessing, tuple[str, ...]]:
    """A model to load a checkpoint into, with the preprocessing and class names of its usual weights."""
    if name.startswith(DEMO_PREFIX):
        card = demo.demo_model(name.removeprefix(DEMO_PREFIX))
        return demo.build(card.name), _demo_preprocessing(card), card.class_names
    if "/" in name:
        raise CheckpointError(
            "Checkpoints can be loaded into torchvision's and the demo architectures only.",
            why=f"Got {name}.",
            do="Give the checkpoint to timm or transformers themselves.",
        )
    entry = zoo.default_weights(name)
    return seeded(lambda: build(name)), _zoo_preprocessing(entry), _class_names(entry.num_classes)


def _load_from_hub(name: str, weights: str | None, num_classes: int | None, device: str) -> LoadedModel:
    raise NotImplementedError


def build(name: str, **options: object) -> nn.Module:
    """A torchvision classification model with weights drawn from torch's global random state."""
    import torchvision

    zoo.zoo_model(name)
    if name in ("googlenet", "inception_v3"):
        # Their own start-up draws from a truncated normal distribution, which takes half a minute.
        options = {"init_weights": False, **options}
    module: nn.Module = torchvision.models.get_model(name, weights=None, **options)
    return module


_seeding = threading.Lock()


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    """What `make()` builds from seed 0; torch's global random state is the process's, so it is put back."""
    with _seeding, torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make()


def _zoo_preprocessing(entry: zoo.ZooWeights) -> Preprocessing:
    return Preprocessing(
        resize_size=entry.resize_size,
        crop_size=entry.crop_size,
        mean=entry.mean,
        std=entry.std,
        interpolation=entry.interpolation,
    )


def _class_names(count: int) -> tuple[str, ...]:
    from torchvision.models._meta import _IMAGENET_CATEGORIES

    if count == len(_IMAGENET_CATEGORIES):
        return tuple(_IMAGENET_CATEGORIES)
    return tuple(f"class {index}" for index in range(count))


def _to_device(module: nn.Module, device: str) -> nn.Module:
    try:
        return module.to(device)
    except torch.OutOfMemoryError as error:
        raise DeviceError(f"The model does not fit into the memory of {device}.", do="Choose the CPU.") from error
