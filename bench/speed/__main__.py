"""Measures how fast training and use are, as ratios of things timed in turn, in one run on one machine.

    python -m bench.speed [PART ...] [NAME=DIR] [--repetitions 5] [--device cpu|cuda]

The parts are step, quantizer, stages, loop, minutes, start, inference, size, scan, long and scaling; without any, all
are measured. Parts that need sounds use those in DIR, or else a synthesised collection. Every row is appended to a
JSON-lines file at once; `python -m bench.speed.report` makes the tables and the picture of `docs/speed.md` from it. Run
nothing else meanwhile: it would slow down both sides of a ratio, but not evenly.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from bench.shared import rows
from bench.shared.collection import Collection
from bench.shared.rows import Row
from bench.speed.inference import inference
from bench.speed.long import long
from bench.speed.loop import loop, minutes
from bench.speed.quantizer import quantizer
from bench.speed.scaling import scaling
from bench.speed.scan import scanning
from bench.speed.size import size
from bench.speed.stages import stages
from bench.speed.start import start
from bench.speed.step import step
from bench.speed.timing import Setting
from distill.data.demo import write_demo_collection
from distill.training.device import device_name

PARTS: dict[str, Callable[[Setting], Iterator[Row]]] = {
    "step": step,
    "quantizer": quantizer,
    "stages": stages,
    "loop": loop,
    "minutes": minutes,
    "start": start,
    "inference": inference,
    "size": size,
    "scan": scanning,
    "long": long,
    "scaling": scaling,
}
_USES_COLLECTION = ("loop", "minutes", "inference")


def main() -> None:
    """Measure the parts named on the command line."""
    parser = argparse.ArgumentParser(
        "python -m bench.speed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART or NAME=DIR")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--results", type=Path, default=rows.SPEED)
    args = parser.parse_args()
    parts, folders = split_arguments(args.parts)
    if len(folders) > 1:
        parser.error(f"one collection at a time, please, not {len(folders)}")
    try:
        collections = [Collection.parse(folder) for folder in folders]
    except argparse.ArgumentTypeError as error:
        parser.error(f"{error}, and no part either; the parts are {', '.join(PARTS)}")
    for part in parts:
        with tempfile.TemporaryDirectory() as name:
            work = Path(name)
            collection = collections[0] if collections else demo_collection(work)
            measure(part, Setting(torch.device(args.device), args.repetitions, collection, work), args.results)


def split_arguments(arguments: list[str]) -> tuple[list[str], list[str]]:
    """The parts among the arguments (all parts when there are none), and the other arguments."""
    named = [argument for argument in arguments if argument in PARTS]
    return named or list(PARTS), [argument for argument in arguments if argument not in PARTS]


def demo_collection(work: Path) -> Collection:
    """The collection of `make demo`, written to a folder in `work`."""
    write_demo_collection(work / "demo sounds")
    return Collection("demo sounds", work / "demo sounds")


def measure(part: str, setting: Setting, results: Path) -> None:
    """Measure a part, and store and print its rows one by one."""
    for row in PARTS[part](setting):
        collection = setting.collection.name if part in _USES_COLLECTION else None
        rows.append(results, row | {"collection": collection, "device": device_name(setting.device)})
        if "ratio" in row:
            ratio = "{median:.3g} ({low:.3g}–{high:.3g})".format(**row["ratio"])
            print(f"{part}  {row['case']}: {ratio} {row['measure']}", flush=True)


if __name__ == "__main__":
    main()
