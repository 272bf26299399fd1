"""Tiny nets, each with one awkward trait, and the slow, obvious way to look into any net.

All take `(N, 3, 8, 8)` and answer `(N, 5)` (or hold that in what they answer).
"""

from __future__ import annotations

import copy
import threading

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featviz_core.layouts import first_tensor

SHAPE = (3, 8, 8)
CLASSES = 5


class Linear(nn.Module):
    """1×1 convolution, mean over positions, linear: everything about it has a closed form."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.fc = nn.Linear(4, CLASSES)

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3)))


class InPlace(nn.Module):
    """An in-place ReLU behind every layer."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(True), nn.Conv2d(6, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True)
        )
        self.fc = nn.Linear(4, CLASSES)

    def forward(self, x):
        return self.fc(self.body(x).mean((2, 3)))


class Again(nn.Module):
    """One ReLU called three times, once in place on a tensor that is needed later."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, CLASSES, 3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        a = self.a(x)
        self.relu(a)
        b = self.relu(self.b(a))
        return self.relu(self.c(a + 0.5 * b)).mean((2, 3))


class NeverCalled(nn.Module):
    """A layer whose weight is used, but which is never called; and one that is not used at all."""

    def __init__(self):
        super().__init__()
        self.conv, self.spare = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
        self.out_proj = nn.Linear(4, CLASSES)

    def forward(self, x):
        return F.linear(self.conv(x).mean((2, 3)), self.out_proj.weight, self.out_proj.bias)


class Split(nn.Module):
    def forward(self, x):
        return {"low": x[:, :2] * 1.0, "rest": [x[:, 2:], x.mean()]}


class Pair(nn.Module):
    """Tuples and dicts inside and as the answer."""

    def __init__(self):
        super().__init__()
        self.conv, self.split, self.fc = nn.Conv2d(3, 5, 3), Split(), nn.Linear(5, CLASSES)

    def forward(self, x):
        parts = self.split(self.conv(x))
        low, (high, mean) = parts["low"], parts["rest"]
        logits = self.fc(torch.cat([low, high], 1).mean((2, 3)) + mean)
        return {"logits": logits, "low": low}


class Shared(nn.Module):
    """One module under two names."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.a = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.Tanh())
        self.b = self.a
        self.fc = nn.Linear(4, CLASSES)

    def forward(self, x):
        return self.fc(self.b(self.a(self.stem(x))).mean((2, 3)))


class Glue(nn.Module):
    """Functions and in-place sums between the modules, halves taken apart and put together."""

    def __init__(self):
        super().__init__()
        self.stem, self.conv, self.bn = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.drop, self.mix, self.fc = nn.Dropout(), nn.Conv2d(2, 2, 1), nn.Linear(4, CLASSES)

    def forward(self, x):
        skip = self.stem(x)
        y = self.drop(self.bn(self.conv(F.gelu(skip))))
        y += skip
        y = F.relu_(y) * 1
        left, right = y[:, :2], y[:, 2:]
        left *= 2
        y = torch.cat([self.mix(right), left], 1) + y
        return self.fc(y.flatten(2).mean(-1))


class ReluFirst(nn.Module):
    """A block that writes on its input, which is then added to its output (as in a well-known VQ-VAE)."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.block = nn.Sequential(nn.ReLU(True), nn.Conv2d(4, 4, 3, padding=1))
        self.last, self.fc = nn.Conv2d(4, 4, 1), nn.Linear(4, CLASSES)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.block(x)
        return self.fc(self.last(x).mean((2, 3)))


class NoCopy(nn.Module):
    """Cannot be deep-copied: it holds a lock."""

    def __init__(self):
        super().__init__()
        self.net, self.lock = InPlace(), threading.Lock()

    def forward(self, x):
        with self.lock:
            return self.net(x)


class Numbers(nn.Module):
    """Asks for a number on its way, so shapes alone do not get through."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, CLASSES)

    def forward(self, x):
        y = self.conv(x)
        return self.fc((y / (1 + y.abs().max().item())).mean((2, 3)))


class DataPath(nn.Module):
    """Takes another path for bright pictures."""

    def __init__(self):
        super().__init__()
        self.stem, self.dark, self.bright = nn.Conv2d(3, 4, 1), nn.Conv2d(4, CLASSES, 1), nn.Conv2d(4, CLASSES, 3)

    def forward(self, x):
        y = self.stem(x)
        return (self.bright(y) if y.sum() > 100 else self.dark(y)).mean((2, 3))


class SequenceFirst(nn.Module):
    """A transformer over `(tokens, N, channels)` with a class token in front."""

    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 2, stride=2)
        self.norm, self.attention = nn.LayerNorm(8), nn.MultiheadAttention(8, 2)
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))
        self.token, self.fc = nn.Parameter(torch.randn(1, 1, 8)), nn.Linear(8, CLASSES)

    def forward(self, x):
        t = self.patch(x).flatten(2).permute(2, 0, 1)
        t = torch.cat([self.token.expand(-1, t.shape[1], -1), t])
        n = self.norm(t)
        t = t + self.attention(n, n, n, need_weights=False)[0]
        t = t + self.mlp(t)
        return self.fc(t[0])


class Windows(nn.Module):
    """Windows folded into the batch, as in the first Swin."""

    def __init__(self):
        super().__init__()
        self.stem, self.inside, self.act = nn.Conv2d(3, 4, 1), nn.Linear(4, 4), nn.GELU()
        self.position, self.fc = nn.Embedding(16, 4), nn.Linear(4, CLASSES)

    def forward(self, x):
        x = self.stem(x).permute(0, 2, 3, 1)
        n, h, w, c = x.shape
        windows = x.reshape(n, 2, h // 2, 2, w // 2, c).transpose(2, 3).reshape(n * 4, -1, c)
        windows = self.act(self.inside(windows + self.position(torch.arange(16, device=x.device))))
        x = windows.reshape(n, 2, 2, h // 2, w // 2, c).transpose(2, 3).reshape(n, h, w, c) + x
        return self.fc(x.mean((1, 2)))


class Viewed(nn.Module):
    """`view` over the batch axis, which only contiguous tensors bear."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Linear(3, 4), nn.LayerNorm(4)
        self.mix, self.fc = nn.Linear(4, 4), nn.Linear(4, CLASSES)

    def forward(self, x):
        n = len(x)
        t = self.stem(x.permute(0, 2, 3, 1).contiguous())
        mixed = self.mix(self.norm(t))
        return self.fc((mixed.view(-1, 4) + t.view(-1, 4)).view(n, -1, 4).mean(1))


class OwnForward(nn.Module):
    """The instance has got a `forward` of its own, as accelerate and many notebooks do."""

    def __init__(self):
        super().__init__()
        self.net = Glue()
        inner = self.net.forward
        self.net.forward = lambda x: inner(x) * 2

    def forward(self, x):
        return self.net(x) + 1


class OwnHook(nn.Module):
    """The owner's hook doubles what a layer gives."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.fc = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Linear(4, CLASSES)
        self.a.register_forward_hook(lambda _module, _inputs, output: output * 2)

    def forward(self, x):
        return self.fc(self.b(self.a(x)).relu().mean((2, 3)))


class WritesInput(nn.Module):
    """Normalises its input in place."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.fc = nn.Conv2d(3, 4, 1), nn.Conv2d(7, 4, 1), nn.Linear(4, CLASSES)

    def forward(self, x):
        x.sub_(0.5).div_(2)
        y = self.a(x)
        return self.fc(self.b(torch.cat([x, y], 1)).mean((2, 3)))


class Norms(nn.Module):
    """BatchNorm and Dropout: in training they draw, and they write statistics."""

    def __init__(self):
        super().__init__()
        self.a, self.bn, self.drop = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)
        self.b, self.fc = nn.Conv2d(4, 4, 3, bias=False), nn.Linear(4, CLASSES)
        self.b.weight.requires_grad_(False)
        self.bn.running_mean.uniform_()

    def forward(self, x):
        return self.fc(self.drop(self.b(self.bn(self.a(x)).relu())).mean((2, 3)))


class Loop(nn.Module):
    """A cell that runs three times, each time with what it gave before."""

    def __init__(self):
        super().__init__()
        self.stem, self.cell, self.fc = (
            nn.Conv2d(3, 4, 1),
            nn.Sequential(nn.Conv2d(4, 4, 1), nn.Tanh()),
            nn.Linear(4, 5),
        )

    def forward(self, x):
        x = self.stem(x)
        for _ in range(3):
            x = x + self.cell(x)
        return self.fc(x.mean((2, 3)))


TOYS: dict[str, type[nn.Module]] = {
    toy.__name__: toy
    for toy in (
        Linear, InPlace, Again, NeverCalled, Pair, Shared, Glue, ReluFirst, NoCopy, Numbers, DataPath, SequenceFirst,
        Windows, Viewed, OwnForward, OwnHook, WritesInput, Norms, Loop,
    )
}  # fmt: skip


class Fails(nn.Module):
    def __init__(self, error: BaseException):
        super().__init__()
        self.error = error

    def forward(self, _x):
        raise self.error


class Broken(Norms):
    """Raises half-way through."""

    def __init__(self, error: BaseException):
        super().__init__()
        self.drop = Fails(error)


def toy(name: str) -> nn.Module:
    """The toy of that name in eval mode, with the same weights each time."""
    torch.manual_seed(0)
    return TOYS[name]().eval()


def pictures(count: int = 1, *, shape: tuple[int, ...] = SHAPE, seed: int = 0) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))


def logits_of(output: object) -> Tensor:
    return output["logits"] if isinstance(output, dict) else first_tensor(output)


class Slowly:
    """The obvious way to look into a net of one's own: plain hooks on a full run."""

    def __init__(self, module: nn.Module, layer: str, call: int) -> None:
        self.module, self.call = module, call
        self.target, self.calls = module.get_submodule(layer), 0
        self.put_in_place: Tensor | None = None

    def _hook(self, _module, inputs, output):
        self.calls += 1
        if self.calls != self.call:
            return None
        tensor = first_tensor(output)
        self.output = copy.deepcopy(output) if not tensor.requires_grad else None
        self.inputs = [t.clone() for t in inputs if isinstance(t, Tensor)]
        if self.put_in_place is not None:
            return _with_first(output, self.put_in_place.clone())
        if tensor.requires_grad:
            self.activation = tensor.detach().clone().requires_grad_()
            # Joined to the graph by a zero, so that the real path stays the path.
            return _with_first(output, tensor * 0 + self.activation)
        return None

    def run(self, images: Tensor, *, instead: Tensor | None = None) -> object:
        self.calls, self.put_in_place = 0, instead
        handle = self.target.register_forward_hook(self._hook)
        try:
            return self.module(images.clone())
        finally:
            handle.remove()


def _with_first(output, tensor):
    if isinstance(output, Tensor):
        return tensor
    if isinstance(output, tuple):
        return (_with_first(output[0], tensor), *output[1:])
    first = next(iter(output))
    return {**output, first: _with_first(output[first], tensor)}
