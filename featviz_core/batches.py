"""What loaders and models give in real projects: pictures and labels in any batch, class scores in any output."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from featviz_core.errors import ExperimentError, FeatVizError, ModelError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_LABEL_WORDS = ("label", "target", "class")


def images_and_targets(batch: Any, unpack: Callable[[Any], tuple[Tensor, Any]] | None = None) -> tuple[Tensor, Any]:
    """A batch's (images, targets), by `unpack` where given. Raises `ExperimentError` that shows what came instead."""
    from torch import Tensor

    found, came = batch, f"The loader gave {describe(batch)}."
    what = "A batch is no pair of pictures and labels."
    if unpack is not None:
        what = "The experiment's `unpack` gave no pair of pictures and labels."
        try:
            found = unpack(batch)
        except FeatVizError:
            raise
        except Exception as error:
            raise ExperimentError(
                "The experiment's `unpack` failed on a batch.",
                why=f"{type(error).__name__}: {error}. {came}",
                do=_pair_hint(batch),
            ) from error
        came = f"Expected (images, targets) with a tensor of images, got {describe(found)} for {describe(batch)}."
    if isinstance(found, tuple | list) and len(found) == 2 and isinstance(found[0], Tensor):
        return found[0], found[1]
    raise ExperimentError(what, why=came, do=_pair_hint(batch))


def _pair_hint(batch: Any) -> str:
    places = [0, 1]
    if isinstance(batch, Mapping) and len(batch) >= 2:
        names = [*batch]
        label = next((name for name in names if any(word in str(name).lower() for word in _LABEL_WORDS)), names[1])
        places = [next(name for name in names if name != label), label]
    first, second = places
    return f"Give the experiment `unpack=lambda batch: (batch[{first!r}], batch[{second!r}])`, as fits."


def logits_in(
    output: Any, get_logits: Callable[[Any], Tensor] | None = None, *, error: type[FeatVizError] = ModelError
) -> Tensor:
    """The class scores in a model's output: by `get_logits` where given, else its only tensor, `.logits` or
    `["logits"]`. Raises `error`, which shows what came instead."""
    from torch import Tensor

    if get_logits is not None:
        try:
            found = get_logits(output)
        except FeatVizError:
            raise
        except Exception as cause:
            raise error(
                "`get_logits` failed.",
                why=f"{type(cause).__name__}: {cause}. The model gave {describe(output)}.",
                do="Let it give the class scores (N, C) of this output.",
            ) from cause
    else:
        named = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
        found = named if isinstance(named, Tensor) else output
    if isinstance(found, Tensor):
        return found
    raise error(
        "The model gives no single tensor of class scores.",
        why=f"It gave {describe(output)}.",
        do="Say which part holds them: `get_logits=lambda output: output[0]`, as fits.",
    )


def describe(value: Any, *, depth: int = 2) -> str:
    """What is this, in a few words? Tensors with type and shape, containers with what is in them."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        kind = "tensor" if type(value).__module__.startswith("torch") else "array"
        return f"{str(value.dtype).removeprefix('torch.')} {kind} {tuple(value.shape)}"
    if isinstance(value, Mapping) and depth:
        return "a dict with " + _listed(f"{name!r}: {describe(item, depth=depth - 1)}" for name, item in value.items())
    if isinstance(value, tuple | list) and depth:
        return f"a {type(value).__name__} of " + _listed(describe(item, depth=depth - 1) for item in value)
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    return f"a {type(value).__name__}"


def _listed(parts: Iterable[str], most: int = 6) -> str:
    found = list(parts)
    return "(" + ", ".join(found[:most] + (["…"] if len(found) > most else [])) + ")"


def moved(value: Any, device: torch.device) -> Any:
    """`value` with every tensor in it on `device`."""
    from torch import Tensor
    from torch.utils._pytree import tree_map_only

    return tree_map_only(Tensor, lambda tensor: tensor.to(device, non_blocking=True), value)
