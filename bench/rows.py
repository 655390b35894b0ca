"""Measured rows in a JSON-lines file: added one by one, so that runs can be done in pieces; the latest of each wins."""

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

FOLDER = Path(__file__).with_name("results")
QUALITY = FOLDER / "quality.jsonl"
ABLATION = FOLDER / "ablation.jsonl"


class Key(NamedTuple):
    """What a row measures, the seed aside; systems that are not trained have no minutes."""

    collection: str
    system: str
    minutes: float | None


Measured = dict[Key, list[Row]]  # a row for each seed


def append(path: Path, row: Row) -> None:
    """Add a row, with the circumstances it was measured in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row | {"made": circumstances()}) + "\n")


def read(path: Path) -> list[Row]:
    """The rows of a file, in the order they were measured; none when there is no file."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def by_seed(rows: list[Row]) -> Measured:
    """The latest row of each seed, gathered by what was measured."""
    latest = {(_key(row), row["seed"]): row for row in rows}
    gathered: dict[Key, list[Row]] = defaultdict(list)
    for (key, _), row in latest.items():
        gathered[key].append(row)
    return dict(gathered)


def _key(row: Row) -> Key:
    return Key(row["collection"], row["system"], row["minutes"])


def figures(seeds: list[Row], *path: str | int) -> list[float]:
    """One figure of each seed, found in its row by keys and places, smallest first."""
    return sorted(_at(row, path) for row in seeds)


def _at(part: Any, path: Sequence[str | int]) -> Any:
    return reduce(lambda found, step: found[step], path, part)


def circumstances() -> dict[str, Any]:
    """What a figure can depend on beside the sounds: versions, the commit, threads and CPUs."""
    return {
        "distill": distill.__version__,
        "commit": _commit(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
    }


def _commit() -> str | None:
    """The commit of this tree, with a `+` when tracked files differ from it; None where there is no git."""
    command = ["git", "describe", "--always", "--exclude=*", "--dirty=+"]
    try:
        said = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parent)
    except (OSError, subprocess.CalledProcessError):
        return None
    return said.stdout.strip()
