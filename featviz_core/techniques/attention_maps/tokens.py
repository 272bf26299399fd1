"""Which token lies where: attention's queries and keys on the picture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

Windows = NDArray[np.intp]

MOST_PREFIX_TOKENS = 16
# Parameters that hold tokens put before the picture's, in their order: part of the parameter's name -> token's name.
_PREFIX = (
    (("cls_token", "class_token", "class_embedding"), "class"),
    (("dist_token", "distillation_token"), "distillation"),
    (("reg_token", "register_token", "register_tokens", "storage_tokens"), "register"),
)


@dataclass(frozen=True, slots=True, eq=False)
class TokenLayout:
    """Where the tokens of one attention layer lie.

    - `grid`: (h, w) of the picture's tokens, in raster order; `cell`: (height, width) of one in the picture's pixels.
    - `prefix`: names of the tokens before them (class, distillation, register 1, ...).
    - `windows`: None where every token looks at every token; else `(windows, keys)`, the places on the grid that each
      window holds, -1 for padding. Queries are then all places of the grid in raster order, without shift, and the
      keys of a query are the places of its own window, in the window's order.
    - `window`: (height, width) of a window in tokens; `dilated` says that its tokens lie evenly over the whole picture
      (MaxViT's grid attention).
    - `placed`: False where nothing tells where the tokens lie on the picture; `grid` then has a row for each group of
      tokens that see each other, in the model's own order.
    """

    queries: int
    keys: int
    grid: tuple[int, int]
    cell: tuple[float, float] = (1.0, 1.0)
    prefix: tuple[str, ...] = ()
    windows: Windows | None = None
    window: tuple[int, int] | None = None
    dilated: bool = False
    placed: bool = True

    @property
    def on_picture(self) -> bool:
        """Whether each query, prefix tokens aside, is a place on the picture."""
        return self.placed and (self.windows is not None or self.queries == self.keys)

    def key_names(self) -> list[str]:
        """A name for each key: prefix tokens by their names, others as "row,column"; in windows, "key 0" and so on."""
        if self.windows is None and self.placed:
            return [*self.prefix, *_places(self.grid)]
        return [f"key {index}" for index in range(self.keys)]

    def query_names(self) -> list[str]:
        """A name for each query, as for keys; "query 0" and so on where queries are no places on the picture."""
        if self.windows is not None:
            return _places(self.grid)
        if self.queries == self.keys and self.placed:
            return self.key_names()
        return [f"query {index}" for index in range(self.queries)]

    def query_at(self, row: int, column: int) -> int:
        """The number of the query at a place of the grid."""
        return (len(self.prefix) if self.windows is None else 0) + row * self.grid[1] + column

    def place_of(self, query: int) -> tuple[int, int] | None:
        """(row, column) of a query on the grid; None for a prefix token or a query that is no place."""
        index = query - (len(self.prefix) if self.windows is None else 0)
        if index < 0 or not self.on_picture:
            return None
        return divmod(index, self.grid[1])

    def window_of(self) -> NDArray[np.intp]:
        """`(h * w,)`: which window holds each place. Raises `ValueError` where there are no windows."""
        if self.windows is None:
            raise ValueError("Expected a layer with windows.")
        owner = np.zeros(math.prod(self.grid), np.intp)
        for number, places in enumerate(self.windows):
            owner[places[places >= 0]] = number
        return owner

    def to_picture(self, rows: NDArray[np.float32], query: int) -> NDArray[np.float32]:
        """Lay what `query` sees, `rows (..., keys)`, on the picture `(..., h, w)`; prefix tokens are left out."""
        if self.windows is None:
            return rows[..., len(self.prefix) :].reshape(*rows.shape[:-1], *self.grid)
        places = self.windows[self.window_of()[query]]
        flat = np.zeros((*rows.shape[:-1], math.prod(self.grid)), rows.dtype)
        flat[..., places[places >= 0]] = rows[..., places >= 0]
        return flat.reshape(*rows.shape[:-1], *self.grid)


def _places(grid: tuple[int, int]) -> list[str]:
    return [f"{row},{column}" for row in range(grid[0]) for column in range(grid[1])]


def shifted_windows(grid: tuple[int, int], window: tuple[int, int], shift: tuple[int, int]) -> Windows:
    """The windows of a Swin layer `(windows, keys)`: the grid is padded to whole windows, rolled by `shift` and cut up.

    A side that is not larger than its window is not shifted.
    """
    (height, width), (rows, columns) = grid, window
    plane = np.full((-(-height // rows) * rows, -(-width // columns) * columns), -1, np.intp)
    plane[:height, :width] = np.arange(height * width).reshape(grid)
    moved = [0 if side >= length else by for side, length, by in zip(window, plane.shape, shift, strict=True)]
    rolled = np.roll(plane, [-by for by in moved], axis=(0, 1))
    apart = rolled.reshape(plane.shape[0] // rows, rows, plane.shape[1] // columns, columns)
    return apart.transpose(0, 2, 1, 3).reshape(-1, rows * columns)


def dilated_windows(grid: tuple[int, int], steps: int) -> Windows:
    """The windows of MaxViT's grid attention: window (i, j) holds every `steps`-th place from (i, j) on."""
    plane = np.arange(grid[0] * grid[1]).reshape(grid[0] // steps, steps, grid[1] // steps, steps)
    return plane.transpose(1, 3, 0, 2).reshape(steps * steps, -1)


def windows_of(model: nn.Module, name: str, shape: tuple[int, ...]) -> tuple[Windows, dict[str, Any]] | None:
    """The windows of attention module `name`, whose input has `shape`, and what else `TokenLayout` should know of them.

    Recognised: torchvision's Swin (v1, v2) and MaxViT; any block with `window_size`, `shift_size` and
    `input_resolution` (timm, transformers). None for all others.
    """
    module = model.get_submodule(name)
    if len(shape) == 4 and hasattr(module, "window_size") and hasattr(module, "shift_size"):
        return _shifted(shape[1:3], module.window_size, module.shift_size)
    path = name.split(".")
    for end in range(len(path) - 1, max(len(path) - 4, 0), -1):
        around = model.get_submodule(".".join(path[:end]))
        if hasattr(around, "partition_type"):
            grid, side = _pair(around.grid_size), _pair(around.p)[0]
            if around.partition_type == "grid":
                size = (grid[0] // side, grid[1] // side)
                return dilated_windows(grid, side), {"grid": grid, "window": size, "dilated": True}
            return _shifted(grid, side, 0)
        if all(hasattr(around, known) for known in ("window_size", "shift_size", "input_resolution")):
            return _shifted(around.input_resolution, around.window_size, around.shift_size)
    return None


def _shifted(grid: Any, window: Any, shift: Any) -> tuple[Windows, dict[str, Any]]:
    grid, window = _pair(grid), _pair(window)
    return shifted_windows(grid, window, _pair(shift)), {"grid": grid, "window": window}


def _pair(value: Any) -> tuple[int, int]:
    """Both sides of a length given once or twice."""
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[1]))


def prefix_names(model: nn.Module, count: int) -> tuple[str, ...]:
    """Names for the `count` tokens before the picture's, after the model's own parameters."""
    shapes = {name.rsplit(".", 1)[-1]: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    names: list[str] = []
    for keys, title in _PREFIX:
        found = next((shapes[key] for key in keys if key in shapes), None)
        if found is not None:
            many = found[-2] if len(found) > 1 else 1
            names += [title] if title != "register" else [f"register {i + 1}" for i in range(many)]
    if not names and count == 1:
        names = ["class"]
    return tuple((names + [f"extra {i + 1}" for i in range(count)])[:count])


def grid_of(keys: int, known: list[tuple[int, int]]) -> tuple[tuple[int, int], int] | None:
    """The grid of `keys` tokens and how many come before it: a grid the model is `known` to have had, the latest
    first, else a square."""
    for grid in reversed(known):
        if 1 < math.prod(grid) <= keys <= math.prod(grid) + MOST_PREFIX_TOKENS:
            return grid, keys - math.prod(grid)
    for prefix in (0, 1, 2, 5):
        side = math.isqrt(max(keys - prefix, 0))
        if side > 1 and side * side == keys - prefix:
            return (side, side), prefix
    return None
