"""Measures reconstruction quality on collections: train on four fifths of the files, measure on the rest.

    python -m bench.quality NAME=DIR [NAME=DIR ...] --minutes 1 3 10 [--seeds 0 1 2] [--model vqvae vae] [--no-anchors]

The default `distill train` and `distill reconstruct` run for each number of minutes and each seed, and the anchors are
measured on the same held-out files. Every row is appended to a JSON-lines file at once, so that measuring can be done
in pieces; `python -m bench.quality.report` makes the tables and the picture from it.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.quality.anchors import ANCHORS, first_plan_row, inversion_row, opus_rows
from bench.quality.models import SYSTEMS, model_row
from bench.quality.split import Split
from bench.shared import rows
from bench.shared.collection import Collection
from bench.shared.rows import Row


def main() -> None:
    """Measure, print and store each row."""
    args = arguments().parse_args()
    for collection in args.collections:
        with tempfile.TemporaryDirectory() as name:
            split = Split.of(collection, Path(name))
            common = {"collection": collection.name, "files": len(split.test), "seconds": split.seconds}
            for row in measurements(split, Path(name), args):
                row = common | {"minutes": None, "seed": None} | row
                rows.append(args.results, row)
                print(summary(row), flush=True)


def arguments() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(
        "python -m bench.quality", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("collections", nargs="+", type=Collection.parse, metavar="NAME=DIR")
    parser.add_argument("--minutes", nargs="+", type=float, default=[1.0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--model", nargs="*", default=["vqvae"], choices=list(SYSTEMS))
    parser.add_argument("--anchors", nargs="*", default=list(ANCHORS), choices=ANCHORS, help="default: all of them")
    parser.add_argument("--no-anchors", dest="anchors", action="store_const", const=[])
    parser.add_argument("--results", type=Path, default=rows.QUALITY)
    return parser


def measurements(split: Split, work: Path, args: argparse.Namespace) -> Iterator[Row]:
    """A row for each system, and for each number of minutes and seed where it is trained."""
    if "opus" in args.anchors:
        yield from opus_rows(split)
    if "inversion" in args.anchors:
        yield inversion_row(split)
    for minutes in args.minutes:
        for seed in args.seeds:
            trained = {"minutes": minutes, "seed": seed}
            for model in args.model:
                folder = work / f"{model}-{minutes:g}-{seed}"
                yield trained | model_row(split, folder, model, minutes, seed)
            if "first-plan" in args.anchors:
                yield trained | first_plan_row(split, minutes, seed)


def summary(row: Row) -> str:
    """A row in one line of text."""
    trained = "" if row["minutes"] is None else f"  {row['minutes']:g} min  seed {row['seed']}"
    figures = row["distances"] | row["distances"]["artefacts"]
    distances = "  ".join(f"{name} {value:.2f}" for name, value in figures.items() if name != "artefacts")
    return f"{row['collection']}  {row['system']}{trained}: {distances}  {row['files']} files"


if __name__ == "__main__":
    main()
