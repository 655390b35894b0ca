"""How well collections are reconstructed: train on four fifths of the files of each, measure on the rest.

    bench/quality.py NAME=DIR [NAME=DIR ...] --minutes 1 3 10 [--seeds 0 1 2] [--model vqvae vae] [--no-anchors]

Splits the files with `split.py`, runs the default `distill train` and `distill reconstruct` for each number of minutes
and each seed, measures the test files, and does the same with the anchors of `anchors.py`. Every measured row is added
to a file of JSON lines, so that this can be done in pieces; `quality_report.py` makes tables and the picture of it.
"""

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import distill
import rows
from anchors import ANCHORS, first_plan_row, inversion_row, opus_rows
from code_figures import codes_of, levels, rates
from distill.audio.io import read_waveform
from distill.audio.spectrogram import mark_end
from distill.data.collection import find_audio_files, load_sounds
from distill.models.loaded import LoadedModel, LoadedVQModel
from held_out import Collection, Split, at_48_khz
from mel_distance import read_mono
from phase import with_true_phase
from rows import Row
from samples import sample_distances

SYSTEMS = {"vqvae": "distill", "vae": "distill vae"}

_KINDS = {  # a phrase of a warning → what it is counted as
    "utilization": "low utilization",
    "by heart": "overfitting",
    "not finite": "skipped steps",
    "left out": "file left out",
    "dimensions say": "posterior collapse",
}


def main() -> None:
    """Measure what was asked for, and say of each row where it stands."""
    args = arguments().parse_args()
    for collection in [*args.collections, *args.collection]:
        with tempfile.TemporaryDirectory() as name:
            split = Split.of(collection, Path(name))
            common = {"collection": collection.name, "files": len(split.test), "seconds": split.seconds}
            for row in measurements(split, Path(name), args):
                row = common | {"minutes": None, "seed": None} | row
                rows.append(args.results, row)
                print(line(row), flush=True)


def arguments() -> argparse.ArgumentParser:
    """What can be asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", nargs="*", type=Collection.parse, metavar="NAME=DIR")
    parser.add_argument("--collection", action="append", default=[], type=Collection.parse, metavar="DIR")
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
                place = work / f"{model}-{minutes:g}-{seed}"
                yield trained | distill_row(split, place, model, minutes, seed)
            if "first-plan" in args.anchors:
                yield trained | first_plan_row(split, minutes, seed)


def distill_row(split: Split, place: Path, model: str, minutes: float, seed: int) -> Row:
    """Train the default model of a family with the command line, reconstruct the test files, and measure."""
    lines = run_distill(
        *("train", split.train, "--model", model, "--minutes", minutes, "--seed", seed, "--json"),
        *("--models-dir", place / "models", "--output-dir", place / "run"),
    )
    summary: dict[str, Any] = json.loads(lines[-1])
    run_distill("reconstruct", summary["model_path"], split.test[0].parent, "-o", place / "out")
    copies = [read_mono(place / "out" / f"{path.stem}.wav") for path in split.test]
    row: Row = {
        "system": SYSTEMS[model],
        "distances": dataclasses.asdict(split.distances(copies)),
        "run": run_facts(lines, summary),
    }
    loaded = distill.load(summary["model_path"])
    if isinstance(loaded, LoadedModel):
        return row | {"samples": dataclasses.asdict(sample_distances(loaded, split.train))}
    return row | code_facts(loaded, split) | level_facts(loaded, split, row["distances"]["mel"])


def run_distill(*arguments: object) -> list[str]:
    """The lines that a `distill` command prints."""
    command = [sys.executable, "-m", "distill", *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()


def run_facts(lines: list[str], summary: dict[str, Any]) -> dict[str, Any]:
    """How the training went; epochs are counted from 1."""
    events = Counter(json.loads(line)["event"] for line in lines)
    return {
        "epochs": summary["epochs"],
        "kept": summary["best_epoch"] + 1,
        "steps": events["VQStepMetrics"] + events["StepMetrics"],
        "elapsed": summary["elapsed_seconds"],
        "warnings": dict(Counter(map(kind_of, summary["warnings"]))),
        "settings": summary["settings"],
    }


def kind_of(warning: str) -> str:
    """What a warning is counted as."""
    return next((kind for phrase, kind in _KINDS.items() if phrase in warning), "other")


def code_facts(loaded: LoadedVQModel, split: Split) -> dict[str, Any]:
    """Bit rates, and how each level's codes are used on the files it was trained on and on the others."""
    sounds, _ = load_sounds(find_audio_files(split.train), loaded.sample_rate)
    codes = {
        "train": codes_of(loaded, (torch.from_numpy(sound.waveform) for sound in sounds)),
        "test": codes_of(loaded, waveforms(loaded, split)),
    }
    quantizer = loaded.model.quantizer
    return {
        "rates": dataclasses.asdict(rates(loaded, codes["train"], codes["test"], split.seconds)),
        "codebook_size": quantizer.size,
        "vectors": {name: len(these) for name, these in codes.items()},
        "codes": {name: [dataclasses.asdict(x) for x in levels(quantizer, these)] for name, these in codes.items()},
    }


def level_facts(loaded: LoadedVQModel, split: Split, whole: float) -> dict[str, Any]:
    """The mel distance with each number of levels, `whole` with all, and of the whole with the true phases."""
    sounds = waveforms(loaded, split)
    by_levels = [
        split.distances(
            at_48_khz(torch.from_numpy(loaded.reconstruct(sound.numpy(), levels=count)), loaded.sample_rate)
            for sound in sounds
        ).mel
        for count in range(1, loaded.model.quantizer.levels)
    ] + [whole]
    true = split.distances(at_48_khz(with_model_mel(loaded, sound), loaded.sample_rate) for sound in sounds)
    return {
        "mel_by_levels": by_levels,
        "falls": all(more < fewer for fewer, more in pairwise(by_levels)),
        "true_phase": dataclasses.asdict(true),
    }


def with_model_mel(loaded: LoadedVQModel, sound: Tensor) -> Tensor:
    """What the model makes of a sound's mel, played with the sound's own phases: `[S]` → `[S]`."""
    mel = loaded.spectrogram.waveform_to_mel(mark_end(sound)[None, None])
    return with_true_phase(loaded.spectrogram, loaded.model.reconstruct(mel), sound)


def waveforms(loaded: LoadedVQModel, split: Split) -> list[Tensor]:
    """The test files as distill reads them: `[S]` at the model's rate."""
    return [torch.from_numpy(read_waveform(path, loaded.sample_rate)) for path in split.test]


def line(row: Row) -> str:
    """A row in a line."""
    trained = "" if row["minutes"] is None else f"  {row['minutes']:g} min  seed {row['seed']}"
    figures = "  ".join(f"{name} {value:.3f}" for name, value in row["distances"].items())
    return f"{row['collection']}  {row['system']}{trained}: {figures}  {row['files']} files"


if __name__ == "__main__":
    main()
