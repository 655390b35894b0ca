"""Measured rows in JSON-lines files: appended one by one, so that measuring can be done in pieces."""

import json
import os
import subprocess
from collections import defaultdict
from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

import torch

import distill

Row = dict[str, Any]

_BENCH = Path(__file__).parent.parent
QUALITY = _BENCH / "results" / "quality.jsonl"
ABLATION = _BENCH / "results" / "ablation.jsonl"
SPEED = _BENCH / "results" / "speed.jsonl"
GENERATION = _BENCH / "results" / "generation.jsonl"


class Key(NamedTuple):
    """Identifies a measurement, leaving out the seed; systems that are not trained have no minutes."""

    collection: str
    system: str
    minutes: float | None


Measured = dict[Key, list[Row]]  # a row for each seed


def append(path: Path, row: Row) -> None:
    """Append a row, with the environment it was measured in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row | {"made": environment()}) + "\n")


def read(path: Path) -> list[Row]:
    """The rows of a file in the order they were measured; none when there is no file."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def by_seed(rows: list[Row]) -> Measured:
    """The latest row for each seed, grouped by measurement."""
    latest = {(_key(row), row["seed"]): row for row in rows}
    grouped: dict[Key, list[Row]] = defaultdict(list)
    for (key, _), row in latest.items():
        grouped[key].append(row)
    return dict(grouped)


def _key(row: Row) -> Key:
    return Key(row["collection"], row["system"], row["minutes"])


def sorted_values(seeds: list[Row], *path: str | int) -> list[float]:
    """One value of each seed, found in its row by keys and indices, smallest first."""
    return sorted(_lookup(row, path) for row in seeds)


def _lookup(part: Any, path: Sequence[str | int]) -> Any:
    return reduce(lambda found, step: found[step], path, part)


def environment() -> dict[str, Any]:
    """Everything besides the sounds that a value can depend on: versions, commit, threads and CPUs."""
    return {
        "distill": distill.__version__,
        "commit": _commit(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
    }


def _commit() -> str | None:
    """The current commit, with a `+` when tracked files differ from it; None without git."""
    command = ["git", "describe", "--always", "--exclude=*", "--dirty=+"]
    try:
        output = subprocess.run(command, check=True, capture_output=True, text=True, cwd=_BENCH).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return output.strip()
