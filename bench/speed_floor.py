"""How fast a machine could be at best, and how much of that a piece of work needs."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from speed_turns import Call, settling

_TRIES = 7
_SIDES = {"cpu": 2048, "cuda": 8192}  # of the matrices
_COPIED = 2**26  # floats: more than any cache holds


@dataclass(frozen=True)
class Machine:
    """The most arithmetic and the most traffic that was measured here."""

    flops: float  # per second
    bandwidth: float  # bytes per second, read and written

    @classmethod
    def best(cls, found: Sequence["Machine"]) -> "Machine":
        """The most that was found of either."""
        return cls(max(machine.flops for machine in found), max(machine.bandwidth for machine in found))


@dataclass(frozen=True)
class Work:
    """What a piece of work needs at least: floating-point operations, and bytes that are read or written once."""

    flop: float
    nbytes: float

    def floor(self, machine: Machine) -> float:
        """The seconds below which this machine cannot be done with it."""
        return max(self.flop / machine.flops, self.nbytes / machine.bandwidth)


def measured_machine(device: torch.device) -> Machine:
    """The best of some products of large float32 matrices, and of some large copies."""
    side = _SIDES[device.type]
    matrix, source = torch.randn(side, side, device=device), torch.zeros(_COPIED, device=device)
    result, copy = torch.empty_like(matrix), torch.empty_like(source)
    product = _best(lambda: torch.mm(matrix, matrix, out=result), settling(device))
    copied = _best(lambda: copy.copy_(source), settling(device))
    return Machine(2 * side**3 / product, 2 * source.nbytes / copied)


def _best(call: Call, settle: Callable[[], None]) -> float:
    times = []
    for _ in range(_TRIES):
        settle()
        begun = time.perf_counter()
        call()
        settle()
        times.append(time.perf_counter() - begun)
    return min(times)


def nbytes(tensors: Iterable[Tensor | None]) -> int:
    """The size of some tensors together; None has none."""
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)


class Counting:
    """Counts what calls need: the flop of their products and convolutions, and the bytes they keep for a backward pass.

    Elementwise arithmetic is not counted; the bytes it has to move are what it costs.
    """

    def __init__(self, weights: Iterable[Tensor]) -> None:
        self._known = {tensor.untyped_storage().data_ptr() for tensor in weights}
        self._alive: list[Tensor] = []  # so that no place in memory is used twice
        self.kept = 0

    def flop(self, call: Call) -> int:
        """The flop of a call, whose kept bytes are added to `kept`."""
        with FlopCounterMode(display=False) as counter, torch.autograd.graph.saved_tensors_hooks(self._keep, _as_is):
            call()
        return int(counter.get_total_flops())

    def _keep(self, tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in self._known:
            self._known.add(place)
            self._alive.append(tensor)
            self.kept += tensor.untyped_storage().nbytes()
        return tensor


def _as_is(tensor: Tensor) -> Tensor:
    return tensor
