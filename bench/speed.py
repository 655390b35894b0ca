"""How fast training and use are: ratios of things timed in turn, in one run on one machine.

    bench/speed.py [PART ...] [NAME=DIR] [--repetitions 5] [--device cpu|cuda]

The parts are step, quantizer, stages, loop, minutes, start, inference, size, scan, long and scaling; without any, all
are measured. Where a part needs sounds they are those in DIR, or else a synthesised collection. Every row is added to a
file of JSON lines at once; `speed_report.py` makes `docs/speed.md` of it. Run nothing else meanwhile: what is compared
suffers alike, but not evenly.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

import rows
from distill.data.demo import write_demo_collection
from distill.training.device import device_name
from held_out import Collection
from rows import Row
from speed_inference import inference
from speed_loop import loop, minutes
from speed_scaling import scaling
from speed_scan import long, looking
from speed_size import size
from speed_stages import stages
from speed_start import start
from speed_step import quantizer, step
from speed_turns import Setting

RESULTS = rows.FOLDER / "speed.jsonl"
PARTS: dict[str, Callable[[Setting], Iterator[Row]]] = {
    "step": step,
    "quantizer": quantizer,
    "stages": stages,
    "loop": loop,
    "minutes": minutes,
    "start": start,
    "inference": inference,
    "size": size,
    "scan": looking,
    "long": long,
    "scaling": scaling,
}
_WITH_SOUNDS = ("loop", "minutes", "inference")  # whose figures depend on the collection


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wishes", nargs="*", metavar="PART or NAME=DIR")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    parts, folders = parted(args.wishes)
    if len(folders) > 1:
        parser.error(f"one collection at a time, please, not {len(folders)}")
    try:
        given = [Collection.parse(folder) for folder in folders]
    except argparse.ArgumentTypeError as error:
        parser.error(f"{error}, and no part either; the parts are {', '.join(PARTS)}")
    for part in parts:
        with tempfile.TemporaryDirectory() as name:
            work = Path(name)
            setting = Setting(torch.device(args.device), args.repetitions, collection(given, work), work)
            measure(part, setting, args.results)


def parted(wishes: list[str]) -> tuple[list[str], list[str]]:
    """The parts that were named, or all of them, and the rest."""
    named = [wish for wish in wishes if wish in PARTS]
    return named or list(PARTS), [wish for wish in wishes if wish not in PARTS]


def collection(given: list[Collection], work: Path) -> Collection:
    """The collection that was given, or else the one of `make demo`."""
    if given:
        return given[0]
    write_demo_collection(work / "demo sounds")
    return Collection("demo sounds", work / "demo sounds")


def measure(part: str, setting: Setting, results: Path) -> None:
    """Measure one part, and add its rows as they come."""
    for row in PARTS[part](setting):
        sounds = setting.collection.name if part in _WITH_SOUNDS else None
        rows.append(results, row | {"collection": sounds, "device": device_name(setting.device)})
        if "ratio" in row:
            found = "{median:.3g} ({low:.3g}–{high:.3g})".format(**row["ratio"])
            print(f"{part}  {row['case']}: {found} {row['measure']}", flush=True)


if __name__ == "__main__":
    main()
