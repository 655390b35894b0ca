"""Measures new sounds: how they compare with sounds that the model has not heard, as sets and one by one.

    python -m bench.generation NAME=DIR [NAME=DIR ...] [--minutes 3] [--seeds 0 1 2] [-n 64] [--model vqvae vae]

The default `distill train` learns from four fifths of the files; `distill generate` makes `-n` sounds, and a set of
figures (`bench.generation.figures`) compares them with the training sounds. What a reader can compare them with is
measured alike: the held-out files, half of the training sounds against the other half, reconstructions of the held-out
files, sounds made of real columns, and sounds between two real ones. Then come borders, variations, bits and times.

Every row is appended to a JSON-lines file at once, so that measuring can be done in pieces: what is in the file already
is not measured again (`--again` does). A model that cannot be trained is named, and the rest goes on.
`python -m bench.generation.report` makes the tables. With `-o`, sounds and pictures are kept.
"""

import argparse
import dataclasses
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

import distill
from bench.generation.editing import borders, variations
from bench.generation.figures import Reference, measured
from bench.generation.making import bits, crossings, retrieved
from bench.generation.picture import draw
from bench.quality.mel_distance import read_mono
from bench.quality.models import run_distill
from bench.quality.split import Split
from bench.shared import rows
from bench.shared.collection import Collection
from bench.shared.rows import Row
from distill.audio.io import read_waveform
from distill.models.loaded_vqvae import LoadedVQModel

_EDITED = 12  # held-out sounds that are varied, extended and filled
_AUDIBLE = 1e-3


def main() -> None:
    """Measure, print and store each row."""
    args = arguments().parse_args()
    known = {_identity(row) for row in rows.read(args.results)} if not args.again else set()
    for collection in args.collections:
        with tempfile.TemporaryDirectory() as name:
            work = args.output_dir / collection.name if args.output_dir else Path(name)
            split = Split.of(collection, work)
            common = {"collection": collection.name, "files": len(split.test), "seconds": split.seconds}
            for row in measurements(split, work, common, args, known):
                rows.append(args.results, row)
                print(summary(row), flush=True)


def arguments() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(
        "python -m bench.generation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("collections", nargs="+", type=Collection.parse, metavar="NAME=DIR")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("-n", "--count", type=int, default=64)
    parser.add_argument("--model", nargs="+", default=["vqvae"], choices=["vqvae", "vae"])
    parser.add_argument("--epochs", type=int, help="in place of --minutes, to try the command out")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--results", type=Path, default=rows.GENERATION)
    parser.add_argument("-o", "--output-dir", type=Path)
    return parser


def _identity(row: Row) -> tuple[Any, ...]:
    return row["collection"], row["system"], row["minutes"], row["seed"]


def measurements(
    split: Split, work: Path, common: Row, args: argparse.Namespace, known: set[tuple[Any, ...]]
) -> Iterator[Row]:
    """The rows of a collection that are not `known`."""
    heard = (read_mono(path) for path in sorted(split.train.rglob("*")) if path.is_file())
    reference = Reference.of([sound for sound in heard if float(sound.abs().max()) > _AUDIBLE], split.originals)
    untrained = common | {"minutes": None, "seed": None}
    if _identity(untrained | {"system": "held-out files"}) not in known:
        yield untrained | {"system": "held-out files", "figures": _figures(reference, split.originals)}
        halves = Reference.of(reference.train[::2], split.originals)
        yield untrained | {"system": "half of the training files", "figures": _figures(halves, reference.train[1::2])}
    for seed in args.seeds:
        for model in args.model:
            trained = common | {"minutes": None if args.epochs else args.minutes, "seed": seed}
            if _identity(trained | {"system": f"new sounds, {model}"}) in known:
                continue
            try:
                for row in model_rows(split, work / f"{model}-{seed}", reference, model, seed, args):
                    yield trained | row
            except subprocess.CalledProcessError as error:
                print(f"{common['collection']} {model} seed {seed}: {error}", file=sys.stderr, flush=True)


def model_rows(
    split: Split, folder: Path, reference: Reference, family: str, seed: int, args: argparse.Namespace
) -> Iterator[Row]:
    """Train a model in `folder`, and measure what it makes; that of the prior comes last, and completes the model."""
    shutil.rmtree(folder, ignore_errors=True)  # what a stopped measurement has left of this model
    length = ("--epochs", args.epochs) if args.epochs else ("--minutes", args.minutes)
    lines = run_distill(
        *("train", split.train, "--model", family, *length, "--seed", seed, "--json"),
        *("--models-dir", folder / "models", "--output-dir", folder / "run"),
    )
    model = json.loads(lines[-1])["model_path"]
    run_distill("reconstruct", model, split.test[0].parent, "-o", folder / "out", "--overwrite")
    run_distill("generate", model, "-n", args.count, "-o", folder / "new", "--seed", 1000 * seed, "--overwrite")
    new = read_folder(folder / "new")
    draw(folder / "new.png", reference.train, new)
    yield {"system": f"reconstructions, {family}", "figures": _figures(reference, read_folder(folder / "out"))}
    loaded = distill.load(model)
    if isinstance(loaded, LoadedVQModel):
        trained = _as_heard(sorted(path for path in split.train.rglob("*") if path.is_file()), loaded.sample_rate)
        yield {"system": "real columns", "figures": _figures(reference, list(retrieved(loaded, trained, args.count)))}
        if between := list(crossings(loaded, args.count)):
            yield {"system": "crossings", "figures": _figures(reference, between)}
    sources = split.originals[:_EDITED]
    edges = borders(loaded, sources)
    yield {
        "system": f"new sounds, {family}",
        "figures": _figures(reference, new),
        "variations": dataclasses.asdict(variations(loaded, sources, [*reference.train, *split.originals])),
        "borders": dataclasses.asdict(edges) if edges else None,
        "bits": _bits(loaded, split) if isinstance(loaded, LoadedVQModel) else None,
        "times": _times(model),
    }


def _figures(reference: Reference, sounds: Sequence[Tensor]) -> dict[str, float]:
    audible = [sound for sound in sounds if float(sound.abs().max()) > _AUDIBLE]
    return dataclasses.asdict(measured(reference, audible))


def _bits(loaded: LoadedVQModel, split: Split) -> dict[str, float]:
    return bits(loaded, _as_heard(split.test, loaded.sample_rate))


def _as_heard(paths: Iterable[Path], rate: int) -> list[Any]:
    """The sounds of files as distill reads them, without those that are silent."""
    sounds = (read_waveform(path, rate) for path in paths)
    return [sound for sound in sounds if np.abs(sound).max() > _AUDIBLE]


def _times(model: str) -> dict[str, float]:
    """The times of a model, in a process of its own, which has made nothing before."""
    code = f"import json; from bench.generation.making import times; print(json.dumps(times({model!r})))"
    said = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, float] = json.loads(said.splitlines()[-1])
    return found


def read_folder(folder: Path) -> list[Tensor]:
    """The sounds in a folder, mono at 48 kHz."""
    return [read_mono(path) for path in sorted(folder.glob("*.wav"))]


def summary(row: Row) -> str:
    """A row in one line of text."""
    trained = "" if row["seed"] is None else f", seed {row['seed']}"
    figures = "  ".join(f"{name} {value:.2f}" for name, value in row["figures"].items())
    return f"{row['collection']}  {row['system']}{trained}: {figures}"


if __name__ == "__main__":
    main()
