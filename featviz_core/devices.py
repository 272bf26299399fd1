"""Where a model can run: what torch finds on this machine."""

from __future__ import annotations

import torch

from featviz_core.errors import DeviceError


def check_device(device: str) -> str:
    """`device` itself where torch finds it ("cpu", "cuda", "cuda:1", "mps"), the best for "automatic"; else
    `DeviceError`."""
    if device == "automatic":
        return best_device()
    if device not in (found := devices()):
        raise DeviceError(f"There is no device '{device}' here.", why=f"torch finds {', '.join(found)}.")
    return device


def devices() -> tuple[str, ...]:
    """The devices that torch finds, the CPU first."""
    found = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    found += ["cuda"] if torch.cuda.is_available() else []
    found += ["mps"] if torch.backends.mps.is_available() else []
    return tuple(found)


def best_device() -> str:
    """The fastest kind of device that torch finds here."""
    found = devices()
    return next((device for device in ("cuda", "mps") if device in found), "cpu")
