"""Image classifiers of timm and transformers, where those packages are installed.

Neither is a requirement. Weights come from the local cache of those packages alone: looking one up on the network
takes both of them most of a minute to fail offline, so whoever wants published weights downloads them there first.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from PIL import Image
from torch import Tensor, nn

from featviz_core.errors import ModelError, WeightsError
from featviz_core.preprocessing import Preprocessing

HUBS = ("timm", "transformers")
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_LEAST_WHOLE = 384  # from this side on, ConvNeXt and its kin in transformers cut nothing off


def available() -> tuple[str, ...]:
    """Which of the two packages are installed?"""
    return tuple(name for name in HUBS if find_spec(name) is not None)


def build(name: str, *, pretrained: bool, num_classes: int | None) -> tuple[nn.Module, Preprocessing, tuple[str, ...]]:
    """A model by `timm/NAME` or `transformers/ID`, its preprocessing, and its class names where it knows them.

    Fresh weights need no network. Raises `ModelError` when the package is missing or knows no such model, and
    `WeightsError`, at once, when its weights are not on this machine.
    """
    hub, _, model = name.partition("/")
    if hub not in HUBS or not model:
        raise ModelError(
            f"There is no model '{name[:80]}'.", do="Use timm/NAME, transformers/ID or a torchvision name."
        )
    if hub not in available():
        raise ModelError(f"{name} needs the package {hub}.", do=f"Install it with `pip install {hub}`.")
    make = _from_timm if hub == "timm" else _from_transformers
    return make(model, pretrained, num_classes)


def _from_timm(
    name: str, pretrained: bool, num_classes: int | None
) -> tuple[nn.Module, Preprocessing, tuple[str, ...]]:
    timm = import_module("timm")
    if not timm.is_model(name.split(".")[0]):
        near = ", ".join(timm.list_models(f"*{name.split('_')[0]}*")[:4])
        raise ModelError(f"timm has no model '{name[:80]}'.", do=f"Near it are: {near}." if near else "")
    options = {} if num_classes is None else {"num_classes": num_classes}
    with _offline(f"timm/{name}"):
        module: nn.Module = timm.create_model(name, pretrained=pretrained, **options)
    about = timm.data.resolve_data_config({}, model=module)
    height, width = about["input_size"][1:]
    whole = (int(height / about["crop_pct"]), int(width / about["crop_pct"]))  # rounded down, as timm does
    cut = Preprocessing(
        resize_size=whole if about.get("crop_mode") == "squash" else min(whole),
        crop_size=(height, width),
        mean=about["mean"],
        std=about["std"],
        interpolation="bicubic" if about["interpolation"] == "bicubic" else "bilinear",
    )
    return module, cut, ()


def _from_transformers(
    name: str, pretrained: bool, num_classes: int | None
) -> tuple[nn.Module, Preprocessing, tuple[str, ...]]:
    transformers = import_module("transformers")
    options: dict[str, Any] = {} if num_classes is None else {"num_labels": num_classes}
    local = {"local_files_only": True, "trust_remote_code": False}  # not set, it would ask at the terminal
    with _offline(f"transformers/{name}"):
        config = transformers.AutoConfig.from_pretrained(name, **local, **options)
        classifier = transformers.AutoModelForImageClassification
        module = (
            classifier.from_pretrained(name, config=config, **local) if pretrained else classifier.from_config(config)
        )
        try:
            about = transformers.AutoImageProcessor.from_pretrained(name, **local).to_dict()
        except (OSError, ValueError):  # not there: many fresh models come without
            about = {}
    names = tuple(config.id2label[index] for index in sorted(config.id2label))
    return _Logits(module), _cut(about, getattr(config, "image_size", 224)), names


def _cut(about: Mapping[str, Any], image_size: int | Sequence[int]) -> Preprocessing:
    """The preprocessing that an image processor of transformers is set to.

    Raises `ModelError` for a model of other than RGB.
    """
    crops = bool(about.get("do_center_crop") and about.get("crop_size"))
    size = about.get("size") or {}
    height, width = _sides(about["crop_size"] if crops else size, default=image_size)
    shorter = size.get("shortest_edge") if isinstance(size, Mapping) else None
    resize: int | tuple[int, int] = _sides(size, default=(height, width))  # both sides: whatever the picture's shape
    if crops and shorter:
        resize = int(shorter)
    elif shorter and height < _LEAST_WHOLE:
        resize = int(height / (about.get("crop_pct") or 1))
    usual = Preprocessing(resize_size=1, crop_size=1)
    mean, std = about.get("image_mean") or usual.mean, about.get("image_std") or usual.std
    if about and not about.get("do_normalize"):
        mean, std = (0.0,) * 3, (1.0,) * 3
    bicubic = about.get("resample") == Image.Resampling.BICUBIC
    try:
        return Preprocessing(resize, (height, width), tuple(mean), tuple(std), "bicubic" if bicubic else "bilinear")
    except ValueError as error:
        raise ModelError(
            "The model wants pictures of a kind that cannot be given.", why=str(error), do="Choose a model for RGB."
        ) from error


def _sides(size: Any, *, default: int | Sequence[int]) -> tuple[int, int]:
    """(height, width) of a size as transformers writes it: a number, two, or a dict of either."""
    if isinstance(size, Mapping):
        both = size.get("height") and size.get("width") and (size["height"], size["width"])
        size = both or size.get("shortest_edge") or default
    height, width = (size, size) if isinstance(size, int) else size
    return int(height), int(width)


class _Logits(nn.Module):
    """A transformers classifier that gives its logits alone, as torchvision's do."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(N, classes)` for images `(N, 3, H, W)`."""
        logits: Tensor = self.model(pixel_values=images).logits
        return logits


@contextmanager
def _offline(name: str) -> Iterator[None]:
    """Keep both packages off the network, which they otherwise ask for 46 seconds before they give up."""
    before = {key: os.environ.get(key) for key in _OFFLINE}
    constants = import_module("huggingface_hub.constants") if find_spec("huggingface_hub") else None
    was = getattr(constants, "HF_HUB_OFFLINE", None)
    os.environ.update(dict.fromkeys(_OFFLINE, "1"))
    if constants is not None:
        constants.HF_HUB_OFFLINE = True  # type: ignore[attr-defined] # read from the environment at import only
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        raise WeightsError(
            f"{name} is not on this machine.",
            why=f"Its package said: {(str(error) or type(error).__name__).splitlines()[0][:160]}",
            do="Download it once with that package, or use fresh weights.",
        ) from error
    finally:
        for key, value in before.items():
            os.environ.pop(key) if value is None else os.environ.update({key: value})
        if constants is not None:
            constants.HF_HUB_OFFLINE = was  # type: ignore[attr-defined]
