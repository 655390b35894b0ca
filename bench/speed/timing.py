"""Interleaved timing: calls that are compared take turns, so that a busy machine slows all of them alike."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from bench.shared.collection import Collection
from bench.shared.rows import Row

Call = Callable[[], object]

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Setting:
    """Everything that a part is measured with; `work` is an empty folder for it alone."""

    device: torch.device
    repetitions: int
    collection: Collection
    work: Path


@dataclass(frozen=True)
class Spread:
    """Median, minimum and maximum over the repetitions."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """The spread of one or more values."""
        return cls(statistics.median(values), min(values), max(values))


def timed(call: Call, device: torch.device = _CPU, clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of one call, until the device has finished its work."""
    _synchronize(device)
    start = clock()
    call()
    _synchronize(device)
    return clock() - start


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def interleaved(
    calls: Mapping[str, Call],
    repetitions: int,
    device: torch.device = _CPU,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each call, by repetition; the order is reversed in every second repetition."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for repetition in range(repetitions):
        for name in list(calls)[:: -1 if repetition % 2 else 1]:
            times[name].append(timed(calls[name], device, clock))
    return times


def repeated(call: Call, count: int) -> Call:
    """A call that makes `call` `count` times."""

    def calls() -> None:
        for _ in range(count):
            call()

    return calls


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """The ratio within each repetition."""
    return [numerator / denominator for numerator, denominator in zip(numerators, denominators, strict=True)]


def comparison(part: str, case: str, measure: str, values: Sequence[float], beside: dict[str, float]) -> Row:
    """A row with the spread of a ratio, and beside it absolute values by name and unit."""
    row: dict[str, Any] = {"part": part, "case": case, "measure": measure, "repetitions": len(values)}
    return row | {"ratio": asdict(Spread.of(values)), "beside": beside}


def milliseconds(times: Mapping[str, Sequence[float]], calls: int = 1) -> dict[str, float]:
    """Median milliseconds per call, when each time is that of `calls` calls, by name and unit."""
    return {f"{name}, ms": statistics.median(values) / calls * 1e3 for name, values in times.items()}
