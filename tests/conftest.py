"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # As many processes as processors run already: threads of theirs, and of their children, would wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def seeds(request: pytest.FixtureRequest) -> None:
    """The same random numbers in every test; nothing is imported for tests that do without."""
    import random
    import sys

    import numpy as np

    random.seed(0)
    np.random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums in the same order each time: what bit-identical results need."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def shapes_cnn() -> Any:
    """The bundled demo model."""
    from featviz_core.models import load_model

    return load_model("demo/shapes_cnn")


@pytest.fixture
def model_untouched() -> Callable[[Any], AbstractContextManager[None]]:
    """`with model_untouched(model): ...` fails unless the model is left as it was, also after an exception.

    Compared: parameters, buffers, gradients, `requires_grad`, modes, hooks of every kind and all other attributes;
    of a `LoadedModel` also the views that it lends.
    """
    return _untouched


@contextmanager
def _untouched(model: Any) -> Iterator[None]:
    before = _everything(model)
    try:
        yield
    finally:
        after = _everything(model)
        changed = [name for name in before if not _same(before[name], after.get(name))]
        assert not changed, f"changed: {changed}"
        assert set(after) == set(before), f"new: {set(after) - set(before)}"
        for view in _views(model):
            _check_view(view, model.module)


def _everything(model: Any) -> dict[str, Any]:
    from torch import Tensor, nn

    found: dict[str, Any] = {}
    for name, module in getattr(model, "module", model).named_modules():
        for key, value in vars(module).items():
            found[f"{name}.{key}"] = list(value.items()) if isinstance(value, dict) else value
    for name, parameter in getattr(model, "module", model).named_parameters():
        assert isinstance(parameter, nn.Parameter)
        grad = parameter.grad
        found |= {f"{name} values": parameter.detach().clone(), f"{name} learns": parameter.requires_grad}
        found |= {f"{name} grad": grad, f"{name} grad values": None if grad is None else grad.clone()}
    for name, buffer in getattr(model, "module", model).named_buffers():
        assert isinstance(buffer, Tensor)
        found[f"{name} values"] = buffer.clone()
    return found


def _same(before: Any, after: Any) -> bool:
    import torch

    if before is after:
        return True
    if isinstance(before, torch.Tensor):
        return isinstance(after, torch.Tensor) and torch.equal(before, after)
    if isinstance(before, list) and isinstance(after, list):
        return len(before) == len(after) and all(
            old == new if isinstance(old, str | int) else old is new
            for one, other in zip(before, after, strict=True)
            for old, new in zip(_pair(one), _pair(other), strict=True)
        )
    return type(before) is type(after) and bool(before == after)


def _pair(item: Any) -> tuple[Any, ...]:
    return item if isinstance(item, tuple) else (item,)


def _views(model: Any) -> list[Any]:
    pool = getattr(model, "_pool", None)
    if pool is None:
        return []
    assert len(pool._idle) == pool._made, "not every view was given back"
    return list(pool._idle)


def _check_view(view: Any, template: Any) -> None:
    """A view at rest is what a fresh copy would be, over the same storage."""
    import torch

    for (name, ours), theirs in zip(view.named_parameters(), template.parameters(), strict=True):
        assert ours.data_ptr() == theirs.data_ptr(), f"{name} is not shared"
        assert ours.grad is None, f"{name} has a gradient"
        assert ours.requires_grad == theirs.requires_grad, f"{name} learns"
    for (name, ours), theirs in zip(view.named_buffers(), template.buffers(), strict=True):
        assert torch.equal(ours, theirs), f"{name} was written on"
    for (name, ours), theirs in zip(view.named_modules(), template.modules(), strict=True):
        assert list(vars(ours)) == list(vars(theirs)), name
        for key, value in vars(ours).items():
            if key.endswith("hooks") and isinstance(value, dict):
                assert len(value) == len(vars(theirs)[key]), f"{name}.{key}"
        assert ours.training == theirs.training, name
