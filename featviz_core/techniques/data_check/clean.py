"""Training pictures without augmentation: the data set's torchvision transform without its random steps."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch.utils.data import Subset

# Steps of torchvision (v1 and v2 share their names) that draw nothing at random, or only what the user's own code does.
_FIXED = {
    *("CenterCrop", "ClampBoundingBoxes", "Compose", "ConvertBoundingBoxFormat", "ConvertImageDtype", "FiveCrop"),
    *("Grayscale", "Identity", "Normalize", "PILToTensor", "Pad", "Resize", "RGB", "SanitizeBoundingBoxes", "TenCrop"),
    *("ToDtype", "ToImage", "ToPILImage", "ToPureTensor", "ToTensor", "ImageClassification"),
}
# These draw at random, but also give the picture its size: what stands in their place keeps it.
_SIZED = ("RandomResizedCrop", "RandomCrop", "RandomResize", "RandomShortestSize", "ScaleJitter")
_TORCHVISION = "torchvision.transforms"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a transform: `text` as torchvision prints it; `kind` is "fixed", "random" or "own" (the user's)."""

    text: str
    kind: str


def steps_of(dataset: Any) -> tuple[Step, ...]:
    """What is done to each picture of a data set, as far as it has a `transform`; nothing where it has none."""
    transform = _transform(dataset)
    return tuple(Step(_shortened(step), _kind(step)) for step in _flat(transform)) if transform is not None else ()


def without_augmentation(dataset: Any) -> Any | None:
    """A copy of the data set whose torchvision transform has lost its random steps; None where there is none to see.

    Random crops become the resize or the central crop of their size. The user's own steps stay.
    """
    if isinstance(dataset, Subset):
        inner = without_augmentation(dataset.dataset)
        return None if inner is None else Subset(inner, dataset.indices)
    transform = getattr(dataset, "transform", None)
    if transform is None or not any(_kind(step) == "random" for step in _flat(transform)):
        return None
    cleaned = copy.copy(dataset)
    plain = _without(transform)
    cleaned.transform = plain
    both = getattr(dataset, "transforms", None)  # torchvision's own data sets call this pair of transforms
    if both is not None and hasattr(both, "transform"):
        cleaned.transforms = copy.copy(both)
        cleaned.transforms.transform = plain
    return cleaned


def _transform(dataset: Any) -> Any:
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    return getattr(dataset, "transform", None)


def _parts(step: Any) -> Sequence[Any] | None:
    """The steps in a `Compose`, or in the `nn.Sequential` that scripted transforms stand in."""
    if type(step).__name__ == "Compose":
        return list(step.transforms)
    return list(step) if type(step).__name__ == "Sequential" else None


def _flat(step: Any) -> list[Any]:
    parts = _parts(step)
    return [step] if parts is None else [inner for part in parts for inner in _flat(part)]


def _kind(step: Any) -> str:
    if not type(step).__module__.startswith(_TORCHVISION) or type(step).__name__ == "Lambda":
        return "own"
    return "fixed" if type(step).__name__ in _FIXED else "random"


def _without(step: Any) -> Any:
    from torchvision.transforms import v2

    parts = _parts(step)
    if parts is not None:
        return v2.Compose([_without(part) for part in parts] or [v2.Identity()])
    if _kind(step) != "random":
        return step
    if type(step).__name__ == "RandomResizedCrop":
        return v2.Compose([v2.Resize(_shorter(step.size), antialias=True), v2.CenterCrop(step.size)])
    if type(step).__name__ == "RandomCrop":
        return v2.CenterCrop(step.size)
    return v2.Identity()


def _shorter(size: Any) -> int:
    return int(size if isinstance(size, int) else min(size))


def _shortened(step: Any, most: int = 90) -> str:
    text = " ".join(str(step).split())
    text = type(step).__name__ if " at 0x" in text else text
    return text if len(text) <= most else text[: most - 1] + "…"
