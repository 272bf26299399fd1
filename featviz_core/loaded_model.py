"""A model ready to be looked into, and the device it is on."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

import torch
from PIL import Image
from torch import Tensor, nn

from featviz_core.borrowing import Pool
from featviz_core.capture import placed
from featviz_core.devices import check_device
from featviz_core.errors import DeviceError
from featviz_core.images import upright_rgb
from featviz_core.preprocessing import Preprocessing
from featviz_core.trace import Layer, Trace, explained, trace


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
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one picture as the model gets it."""
        return (self.preprocessing.channels, *self.input_size)

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
        return self.trace(self.input_shape).layers

    def preprocess(self, *pictures: Image.Image) -> Tensor:
        """The model's input `(N, 3, H, W)` for pictures: resized, cut, scaled, normalised, on the model's device.

        Any Pillow image: it is turned upright and brought to 8-bit RGB as the app does it. Raises `ImageError` for one
        that cannot be read, or is too thin to be resized.
        """
        return torch.cat([self.preprocessing(upright_rgb(picture)) for picture in pictures]).to(self.device)

    def class_name(self, index: int) -> str:
        """The name of output `index`; its number where it has none."""
        return self.class_names[index] if index < len(self.class_names) else f"output {index}"

    def logits(self, images: Tensor) -> Tensor:
        """Class scores `(N, classes)` before softmax for `images` (N, 3, H, W)."""
        with self.borrow() as module, torch.no_grad(), explained(module, images.shape[1:]):
            output: Tensor = module(placed(images, module))
        return output


def top_classes(model: LoadedModel, images: Tensor, *, count: int = 3) -> list[tuple[str, float]]:
    """What does the model take the first of `images` (N, 3, H, W) for?

    The `count` most probable classes with their softmax probability in [0, 1]; NaN where a logit is not finite.
    """
    probabilities = model.logits(images[:1]).flatten(1)[0].float().softmax(0)
    best = probabilities.topk(min(count, len(probabilities)))
    return [(model.class_name(int(i)), float(p)) for p, i in zip(best.values, best.indices, strict=True)]


def _to_device(module: nn.Module, device: str) -> nn.Module:
    try:
        return module.to(device)
    except torch.OutOfMemoryError as error:
        raise DeviceError(f"The model does not fit into the memory of {device}.", do="Choose the CPU.") from error
