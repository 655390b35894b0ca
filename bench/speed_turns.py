"""Timing in turn: what is compared runs one after the other, over and over, so that a busy machine slows all alike."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from held_out import Collection
from rows import Row

Call = Callable[[], object]


@dataclass(frozen=True)
class Setting:
    """What a part is measured with; `work` is an empty folder of its own."""

    device: torch.device
    repetitions: int
    collection: Collection
    work: Path


@dataclass(frozen=True)
class Spread:
    """Median, smallest and largest of what the repetitions gave."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """The spread of one value or more."""
        return cls(statistics.median(values), min(values), max(values))


def settling(device: torch.device) -> Callable[[], None]:
    """A function that waits until everything given to the device is done."""
    return torch.cuda.synchronize if device.type == "cuda" else _settled


def _settled() -> None:
    """A CPU is done when a call returns."""


def in_turn(
    ways: Mapping[str, Call],
    repetitions: int,
    *,
    settle: Callable[[], None] = _settled,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """The seconds that each way takes, by repetition; every second time they run in the opposite order."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for repetition in range(repetitions):
        for name in list(ways)[:: -1 if repetition % 2 else 1]:
            settle()
            begun = clock()
            ways[name]()
            settle()
            times[name].append(clock() - begun)
    return times


def repeated(call: Call, count: int) -> Call:
    """`call`, so many times."""

    def calls() -> None:
        for _ in range(count):
            call()

    return calls


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """The ratio within each repetition, where both had the same machine to themselves."""
    return [one / other for one, other in zip(above, below, strict=True)]


def comparison(part: str, case: str, measure: str, values: Sequence[float], beside: dict[str, float]) -> Row:
    """A row: the spread of a ratio, and bare figures beside it, named with their units, for orientation."""
    found: dict[str, Any] = {"part": part, "case": case, "measure": measure, "repetitions": len(values)}
    return found | {"ratio": asdict(Spread.of(values)), "beside": beside}


def milliseconds(times: Mapping[str, Sequence[float]], calls: int = 1) -> dict[str, float]:
    """The median milliseconds of one of so many calls, by the name of each way."""
    return {f"{name}, ms": statistics.median(values) / calls * 1e3 for name, values in times.items()}
