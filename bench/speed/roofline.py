"""Roofline of a machine: the least time in which it could do a piece of work."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from bench.speed.timing import Call, timed

_TRIES = 7
_SIDES = {"cpu": 2048, "cuda": 8192}  # of the matrices
_COPIED = 2**26  # floats: more than any cache holds


@dataclass(frozen=True)
class Machine:
    """Peak arithmetic and peak memory traffic, as measured."""

    flops: float  # per second
    bandwidth: float  # bytes per second, read and written

    @classmethod
    def best(cls, machines: Sequence["Machine"]) -> "Machine":
        """The peak of each over several measurements."""
        return cls(max(machine.flops for machine in machines), max(machine.bandwidth for machine in machines))


@dataclass(frozen=True)
class Work:
    """The least that a piece of work needs: floating-point operations, and bytes read or written."""

    flop: float
    nbytes: float

    def floor(self, machine: Machine) -> float:
        """The least time in seconds in which this machine could do it."""
        return max(self.flop / machine.flops, self.nbytes / machine.bandwidth)


def measure_machine(device: torch.device) -> Machine:
    """Measure the peaks with products of large float32 matrices and with large copies."""
    side = _SIDES[device.type]
    matrix, source = torch.randn(side, side, device=device), torch.zeros(_COPIED, device=device)
    result, copy = torch.empty_like(matrix), torch.empty_like(source)
    product_s = min(timed(lambda: torch.mm(matrix, matrix, out=result), device) for _ in range(_TRIES))
    copy_s = min(timed(lambda: copy.copy_(source), device) for _ in range(_TRIES))
    return Machine(2 * side**3 / product_s, 2 * source.nbytes / copy_s)


def nbytes(tensors: Iterable[Tensor | None]) -> int:
    """Total size of tensors in bytes; None counts as empty."""
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)


class WorkCounter:
    """Counts the FLOP of products and convolutions in calls, and the bytes that the calls save for a backward pass.

    Elementwise arithmetic is not counted: its cost is the memory traffic.
    """

    def __init__(self, weights: Iterable[Tensor]) -> None:
        self._known = {tensor.untyped_storage().data_ptr() for tensor in weights}
        self._alive: list[Tensor] = []  # so that no address is used twice
        self.saved = 0

    def flop(self, call: Call) -> int:
        """The FLOP of a call; the bytes it saves are added to `saved`."""
        with FlopCounterMode(display=False) as counter, torch.autograd.graph.saved_tensors_hooks(self._save, _unpack):
            call()
        return int(counter.get_total_flops())

    def _save(self, tensor: Tensor) -> Tensor:
        address = tensor.untyped_storage().data_ptr()
        if address not in self._known:
            self._known.add(address)
            self._alive.append(tensor)
            self.saved += tensor.untyped_storage().nbytes()
        return tensor


def _unpack(tensor: Tensor) -> Tensor:
    return tensor
