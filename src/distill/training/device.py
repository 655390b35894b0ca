"""The device that a run computes on, and its deterministic mode."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from distill.errors import ConfigError


def resolve_device(name: str) -> torch.device:
    """The device that `name` (auto, cpu, cuda or mps) stands for here; raises `ConfigError` when there is none."""
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, there in present.items() if there)
    kind = torch.device(name).type
    if not present.get(kind, False):
        here = ", ".join(kind for kind, there in present.items() if there)
        raise ConfigError(f"device {name} is not available on this machine; available: auto, {here}")
    local = os.environ.get("LOCAL_RANK")  # torchrun: each of its processes has a GPU of its own
    return torch.device(name, int(local)) if name == "cuda" and local is not None else torch.device(name)


@contextmanager
def deterministic() -> Iterator[None]:
    """Restrict cuDNN to convolution algorithms that sum in a fixed order, within the body."""
    # A run gives the same result every time, whether it was interrupted or not.
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic = before


def device_name(device: torch.device) -> str:
    """The product name of a CUDA device, or the type of any other."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
