"""Where pictures come from: files, entries of one data set, and the sizes the files have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Subset

from featviz_core.errors import FeatVizError
from featviz_core.techniques.data_check.clean import without_augmentation
from featviz_core.techniques.data_check.collect import Seen, Unpack, collect

_LISTS = ("samples", "imgs", "image_paths", "img_paths", "paths", "files", "filenames")
_MOST_OPENED = 2000  # files whose header is read for their size, evenly spread


def origins(seen: Seen) -> list[Any]:
    """What stands behind each picture, whatever is done to it later: a file's path, or (data set, entry).

    None where that is not known. Two splits of one data set object share their entries.
    """
    lists: dict[int, Any] = {}
    return [_origin(seen.dataset, int(index), lists) if index >= 0 else None for index in seen.indices]


def _origin(dataset: Any, index: int, lists: dict[int, Any]) -> Any:
    inner, chosen = getattr(dataset, "dataset", None), getattr(dataset, "indices", None)
    if inner is not None and chosen is not None and index < len(chosen):
        return _origin(inner, int(chosen[index]), lists)
    parts, ends = getattr(dataset, "datasets", None), getattr(dataset, "cumulative_sizes", None)
    if isinstance(parts, list) and isinstance(ends, list):
        part = int(np.searchsorted(ends, index, side="right"))
        return _origin(parts[part], index - (ends[part - 1] if part else 0), lists)
    if id(dataset) not in lists:
        lists[id(dataset)] = _file_list(dataset)
    listed = lists[id(dataset)]
    if listed is not None:
        entry = listed[index]
        return str(entry[0] if isinstance(entry, tuple | list) else entry)
    wrapped = _wrapped(dataset)
    return (id(_storage(dataset)), index) if wrapped is None else _origin(wrapped, index, lists)


def _wrapped(dataset: Any) -> Any:
    """The data set that this one changes entry by entry, as wrappers with a transform of their own do."""
    inner = [value for value in getattr(dataset, "__dict__", {}).values() if isinstance(value, Dataset)]
    same = len(inner) == 1 and hasattr(inner[0], "__len__") and len(inner[0]) == len(dataset)
    return inner[0] if same else None


def _file_list(dataset: Any) -> Sequence[Any] | None:
    for name in _LISTS:
        listed = getattr(dataset, name, None)
        if isinstance(listed, list | tuple) and 0 < len(listed) == len(dataset):
            first = listed[0][0] if isinstance(listed[0], tuple | list) and listed[0] else listed[0]
            if isinstance(first, str | Path):
                return listed
    return None


def _storage(dataset: Any) -> Any:
    """What data sets over the same pictures have in common: their first tensor, or the data set itself."""
    tensors = getattr(dataset, "tensors", None)
    return tensors[0] if isinstance(tensors, tuple) and tensors else dataset


def file_sizes(paths: Sequence[str]) -> dict[int, tuple[int, int]]:
    """(height, width) of the pictures in files, by position, where Pillow can read them; of at most `_MOST_OPENED`."""
    files = [(position, path) for position, path in enumerate(paths) if path]
    step = max(1, -(-len(files) // _MOST_OPENED))
    found: dict[int, tuple[int, int]] = {}
    for position, path in files[::step]:
        try:
            with Image.open(path) as image:
                found[position] = (image.height, image.width)
        except (OSError, ValueError, Image.DecompressionBombError):
            continue  # no picture file, or one that its data set reads in another way
    return found


def clean_copy(seen: Seen, clean: Any, unpack: Unpack, tell: Callable[[int], object]) -> Seen | None:
    """The same pictures without augmentation: from `clean`, else from what a torchvision transform leaves without its
    random steps; None where neither can be had. Costs another pass."""
    source = without_augmentation(seen.dataset) if clean is None else getattr(clean, "dataset", clean)
    known = isinstance(seen.loader, DataLoader) and seen.loader.batch_sampler is not None and (seen.indices >= 0).all()
    if source is None or not known:
        return None
    loader: DataLoader[Any] = DataLoader(
        Subset(source, seen.indices.tolist()),
        batch_size=max(seen.batch_sizes),
        num_workers=seen.loader.num_workers,
        collate_fn=seen.loader.collate_fn,
    )
    try:
        found = collect(seen.name, loader, unpack, num_batches=None, tell=tell)
    except FeatVizError:  # its entries may be of another structure, which is no mistake
        return None
    return found if len(found) == len(seen) and not found.failures else None
