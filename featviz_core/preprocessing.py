"""From a picture to what the model is fed, back again, and what the usual mistakes on the way do.

torch is imported only where tensors are made, so that pages can describe and draw the steps without it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from featviz_core.errors import ImageError

if TYPE_CHECKING:
    from torch import Tensor

_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}

_MAX_RESIZED_PIXELS = 40_000_000


def _both(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def _centered(length: int, crop: int) -> int:
    """Where a cut begins, rounded like torchvision's `center_crop`; below zero where black is added."""
    return round((length - crop) / 2) if crop <= length else -((crop - length) // 2)


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How does a picture become the model's input? Equal, bit for bit, to torchvision's `ImageClassification`.

    The shorter side is resized to `resize_size` pixels with antialiasing, or both sides to its height and width, as
    torchvision's `Resize` takes them; `crop_size` pixels (one number, or height and width) are cut around the centre,
    values are scaled to [0, 1] and normalised: `(value - mean) / std` for red, green and blue. `interpolation` is
    "bilinear" or "bicubic".
    Raises `ValueError` for sizes below 1, another interpolation, or a std of zero.
    """

    resize_size: int | tuple[int, int]
    crop_size: int | tuple[int, int]
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        if self.interpolation not in _RESAMPLING:
            raise ValueError(f"Expected bilinear or bicubic interpolation, got {self.interpolation!r}.")
        if min(*_both(self.resize_size), *self.input_size) < 1:
            raise ValueError(f"Expected sizes of at least 1, got {self.resize_size} and {self.crop_size}.")
        if not len(self.mean) == len(self.std) == 3 or 0 in self.std:
            raise ValueError(f"Expected three means and three stds other than 0, got {self.mean} and {self.std}.")

    def __call__(self, picture: Image.Image) -> Tensor:
        """What is the model fed? `(1, 3, H, W)` float32."""
        return self.normalize(_unit_tensor(self.cut(picture)))

    @property
    def channels(self) -> int:
        """How many channels does the model's input have?"""
        return 3

    @property
    def input_size(self) -> tuple[int, int]:
        """How large is the model's input? (height, width) in pixels."""
        return _both(self.crop_size)

    @property
    def squashes(self) -> bool:
        """Whether width and height are resized apart, so that what is in the picture changes its shape."""
        return not isinstance(self.resize_size, int)

    def resized(self, size: tuple[int, int]) -> tuple[int, int]:
        """How large is a picture of `size` (width, height) between resizing and cutting? (width, height).

        Raises `ImageError` for a picture so thin that it would take gigabytes there.
        """
        if not isinstance(self.resize_size, int):
            return self.resize_size[1], self.resize_size[0]
        longer = int(self.resize_size * max(size) / min(size))
        if longer * self.resize_size > _MAX_RESIZED_PIXELS:
            raise ImageError(
                "The picture is too long and thin.",
                why=f"It is {size[0]}×{size[1]}; resized to {self.resize_size} pixels, its longer side has {longer}.",
                do="Cut out the part that matters.",
            )
        return (self.resize_size, longer) if size[0] <= size[1] else (longer, self.resize_size)

    def cut(self, picture: Image.Image) -> Image.Image:
        """Which part does the model see, at its own resolution? RGB of the input size, before normalisation."""
        image = picture.convert("RGB").resize(self.resized(picture.size), _RESAMPLING[self.interpolation])
        height, width = self.input_size
        left, top = _centered(image.width, width), _centered(image.height, height)
        return image.crop((left, top, left + width, top + height))

    def crop_box(self, size: tuple[int, int]) -> tuple[float, float, float, float]:
        """Which part of a picture of `size` (width, height) is kept? (left, top, right, bottom) in its own pixels."""
        edges: list[tuple[float, float]] = []
        for length, resized, crop in zip(size, self.resized(size), reversed(self.input_size), strict=True):
            start = _centered(resized, crop)
            edges.append((max(start, 0) * length / resized, min(start + crop, resized) * length / resized))
        (left, right), (top, bottom) = edges
        return left, top, right, bottom

    def normalize(self, images: Tensor) -> Tensor:
        """What becomes of values in [0, 1]? `(value - mean) / std`, on `(..., 3, H, W)`."""
        return (images - _per_channel(self.mean, images)) / _per_channel(self.std, images)

    def undo(self, images: Tensor) -> Image.Image:
        """What does the model's input look like? The first of `(N, 3, H, W)`, or `(3, H, W)`, de-normalised.

        Values that no picture can have are cut to black and white, NaN is drawn black.
        """
        first = images.detach().reshape(-1, *images.shape[-3:])[0].cpu().float()
        shown = first * _per_channel(self.std, first) + _per_channel(self.mean, first)
        pixels = shown.nan_to_num(0, 1, 0).clamp(0, 1).mul(255).round().permute(1, 2, 0).byte().numpy()
        return Image.fromarray(np.ascontiguousarray(pixels))

    @property
    def value_range(self) -> tuple[float, float]:
        """Between which values does every input lie?"""
        scaled = list(zip(self.mean, self.std, strict=True))
        return min(-mean / std for mean, std in scaled), max((1 - mean) / std for mean, std in scaled)

    def describe(self) -> list[str]:
        """What happens to a picture, step by step? One plain sentence for each step."""
        height, width = self.input_size
        low, high = self.value_range
        resized = f"the shorter side has {self.resize_size} pixels"
        if not isinstance(self.resize_size, int):
            resized = f"it has {self.resize_size[1]}×{self.resize_size[0]} pixels, whatever its shape"
        means, stds = (", ".join(f"{value:.4g}" for value in values) for values in (self.mean, self.std))
        return [
            f"Resized so that {resized} ({self.interpolation}, antialiased).",
            f"Cut to {width}×{height} pixels around the centre.",
            "Scaled from 0 to 255 to 0 to 1.",
            f"Normalised to (value − mean) / std with mean {means} and std {stds} for red, green and blue; "
            f"every value then lies between {low:.2f} and {high:.2f}.",
        ]


def _per_channel(values: tuple[float, ...], like: Tensor) -> Tensor:
    return like.new_tensor(values).reshape(-1, 1, 1)


def _unit_tensor(image: Image.Image | NDArray[Any]) -> Tensor:
    """RGB pixels of 0 to 255 as `(1, 3, H, W)` float32 in [0, 1]."""
    import torch

    return torch.from_numpy(np.array(image, np.float32)).permute(2, 0, 1)[None].contiguous() / 255


# The usual mistakes


@dataclass(frozen=True, slots=True)
class Mistake:
    """A usual mistake in preprocessing: what it is called, how it happens, and what it feeds the model."""

    slug: str
    title: str
    explanation: str
    make: Callable[[Preprocessing, Image.Image], Tensor]

    def apply(self, preprocessing: Preprocessing, picture: Image.Image) -> Tensor:
        """What is the model fed with this mistake, and all else right? `(1, 3, H, W)` float32."""
        return self.make(preprocessing, picture)


def _swapped(preprocessing: Preprocessing, picture: Image.Image) -> Tensor:
    return preprocessing.normalize(_unit_tensor(preprocessing.cut(picture)).flip(1))


def _not_normalized(preprocessing: Preprocessing, picture: Image.Image) -> Tensor:
    return _unit_tensor(preprocessing.cut(picture))


def _not_scaled(preprocessing: Preprocessing, picture: Image.Image) -> Tensor:
    return preprocessing.normalize(_unit_tensor(preprocessing.cut(picture)) * 255)


def _normalized_twice(preprocessing: Preprocessing, picture: Image.Image) -> Tensor:
    return preprocessing.normalize(preprocessing(picture))


def _squashed(preprocessing: Preprocessing, picture: Image.Image) -> Tensor:
    return replace(preprocessing, resize_size=preprocessing.input_size)(picture)


def _not_squashed(preprocessing: Preprocessing, picture: Image.Image) -> Tensor:
    height, width = preprocessing.input_size
    fitted = ImageOps.fit(picture.convert("RGB"), (width, height), _RESAMPLING[preprocessing.interpolation])
    return preprocessing.normalize(_unit_tensor(fitted))


def _aliased(preprocessing: Preprocessing, picture: Image.Image) -> Tensor:
    width, height = preprocessing.resized(picture.size)
    steps = (picture.width / width, 0, 0, 0, picture.height / height, 0)
    # Unlike `resize`, `transform` looks at the four nearest pixels only, however many lie between two of them.
    resized = picture.convert("RGB").transform(
        (width, height), Image.Transform.AFFINE, steps, Image.Resampling.BILINEAR
    )
    return preprocessing(resized)


_COMMON = (
    Mistake(
        "bgr",
        "Blue and red swapped",
        "OpenCV reads pictures as blue, green, red; the model expects red, green, blue.",
        _swapped,
    ),
    Mistake(
        "not_normalized",
        "Not normalised",
        "Values of 0 to 1 are fed as they are; mean and standard deviation were forgotten.",
        _not_normalized,
    ),
    Mistake(
        "not_scaled",
        "Not scaled to 0 to 1",
        "Values of 0 to 255 are normalised without dividing by 255 first, so inputs are hundreds of times too large.",
        _not_scaled,
    ),
    Mistake(
        "normalized_twice",
        "Normalised twice",
        "Both the data set and the model's wrapper normalise.",
        _normalized_twice,
    ),
    Mistake(
        "aliased",
        "Resized without antialiasing",
        "Most pixels are skipped, as cv2.resize does by default, so fine texture turns into noise.",
        _aliased,
    ),
)
_SQUASHED = Mistake(
    "squashed",
    "Squashed instead of cut",
    "Width and height are resized apart, so that the whole picture fits and everything in it changes its shape.",
    _squashed,
)
_NOT_SQUASHED = Mistake(
    "not_squashed",
    "Cut instead of squashed",
    "Only the shorter side is made to fit, so that everything keeps its shape and the ends are cut off.",
    _not_squashed,
)


def common_mistakes(preprocessing: Preprocessing) -> tuple[Mistake, ...]:
    """Which mistakes are to be tried first when a good model predicts badly?"""
    return (*_COMMON, _NOT_SQUASHED if preprocessing.squashes else _SQUASHED)
