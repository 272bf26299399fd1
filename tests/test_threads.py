"""Many threads in one model at once: everybody gets their own, to the last bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch
from torch import Tensor, nn

import featviz_core as fv
from featviz_core.capture import gradients, record
from featviz_core.rerun import rerun_from

THREADS = 8
ROUNDS = 16  # of five kinds of work on eight pictures: 640 results
LAYERS = ("stem", "trunk_output.block2", "trunk_output.block3.block3-1.f.a.2", "trunk_output")


@pytest.fixture(autouse=True)
def one_thread_each() -> Iterator[None]:
    """Sums over several threads are added in another order each time, so bits are compared without them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def recorded(model: object, image: Tensor) -> Tensor:
    return torch.cat([output.flatten() for output in record(model, image, layers=LAYERS).outputs.values()])


def answered(model: object, image: Tensor) -> Tensor:
    return record(model, image, layers=[LAYERS[0]], stop_early=False).output


def towards_class(label: int, model: object, image: Tensor) -> Tensor:
    found = gradients(model, image, layers=LAYERS[2:], scalars=lambda logits: [logits[0, label]])
    return torch.cat([gradient.flatten() for row in found.gradients.values() for gradient in row])


def changed(model: object, image: Tensor) -> Tensor:
    with rerun_from(model, image, layer=LAYERS[1]) as rerun, torch.no_grad():
        return rerun(torch.cat([rerun.activation, rerun.activation * 0.5]))


def trained(model: object, image: Tensor) -> Tensor:
    """Batch statistics of one's own: in training mode BatchNorm writes, and nobody else may see it."""
    from featviz_core.borrowing import borrowed

    with borrowed(model, training=True) as module, torch.no_grad():
        return module(torch.cat([image, image.flip(3)]))


WORKS: tuple[Callable[[object, Tensor], Tensor], ...] = (
    recorded,
    answered,
    partial(towards_class, 3),
    changed,
    trained,
)


@pytest.mark.parametrize("kind", ["loaded", "plain"])
def test_eight_threads_get_what_one_gets(kind: str) -> None:
    loaded = fv.load_model("demo/shapes_cnn")
    model: fv.LoadedModel | nn.Module = loaded if kind == "loaded" else loaded.module
    images = torch.randn(THREADS, 1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    alone = {(w, i): WORKS[w](model, images[i]) for w in range(len(WORKS)) for i in range(THREADS)}
    tasks = [key for _ in range(ROUNDS if kind == "loaded" else 2) for key in alone]
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda key: WORKS[key[0]](model, images[key[1]]), tasks))
    wrong = [key for key, result in zip(tasks, found, strict=True) if not torch.equal(result, alone[key])]
    assert len(tasks) >= (500 if kind == "loaded" else 80)
    assert not wrong
