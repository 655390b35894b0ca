"""Quality of distill's own models, trained and used with the command line as a user would."""

import dataclasses
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import distill
from bench.quality.codes import bit_rates, codes_of, level_usage
from bench.quality.mel_distance import read_mono
from bench.quality.phase import with_true_phase
from bench.quality.samples import sample_distances
from bench.quality.split import Split, at_48_khz
from bench.shared.rows import Row
from distill.audio.io import read_waveform
from distill.audio.spectrogram import mark_end
from distill.data.collection import find_audio_files
from distill.data.opening import open_collection
from distill.models.loaded_vae import LoadedModel
from distill.models.loaded_vqvae import LoadedVQModel

SYSTEMS = {"vqvae": "distill", "vae": "distill vae"}
FIRST_VERSION = "distill 0.1.0"  # its default model, as it was measured then

_WARNING_KINDS = {  # phrase of a warning → kind
    "utilization": "low utilization",
    "by heart": "overfitting",
    "jumped": "sudden jump",
    "not finite": "skipped steps",
    "left out": "file left out",
    "posterior collapse": "posterior collapse",
}


def model_row(split: Split, folder: Path, model: str, minutes: float, seed: int) -> Row:
    """Train the default model of a family in `folder`, reconstruct the test files, and measure."""
    lines = run_distill(
        *("train", split.train, "--model", model, "--minutes", minutes, "--seed", seed, "--json"),
        *("--models-dir", folder / "models", "--output-dir", folder / "run"),
    )
    summary: dict[str, Any] = json.loads(lines[-1])
    run_distill("reconstruct", summary["model_path"], split.test[0].parent, "-o", folder / "out")
    reconstructions = [read_mono(folder / "out" / f"{path.stem}.wav") for path in split.test]
    row: Row = {
        "system": SYSTEMS[model],
        "distances": dataclasses.asdict(split.distances(reconstructions)),
        "run": run_metrics(lines, summary),
    }
    loaded = distill.load(summary["model_path"])
    if isinstance(loaded, LoadedModel):
        return row | {"samples": dataclasses.asdict(sample_distances(loaded, split.train))}
    return row | code_metrics(loaded, split) | level_metrics(loaded, split, row["distances"])


def run_distill(*arguments: object) -> list[str]:
    """Run a `distill` command and return the lines it prints."""
    command = [sys.executable, "-m", "distill", *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()


def run_metrics(lines: list[str], summary: dict[str, Any]) -> dict[str, Any]:
    """Length, warnings and settings of a training run; epochs are counted from 1."""
    events = Counter(json.loads(line)["event"] for line in lines)
    return {
        "epochs": summary["epochs"],
        "kept": summary["best_epoch"] + 1,
        "steps": events["VQStepMetrics"] + events["StepMetrics"],
        "elapsed": summary["elapsed_seconds"],
        "warnings": dict(Counter(map(warning_kind, summary["warnings"]))),
        "settings": summary["settings"],
    }


def warning_kind(warning: str) -> str:
    """The kind a warning is counted as."""
    return next((kind for phrase, kind in _WARNING_KINDS.items() if phrase in warning), "other")


def code_metrics(loaded: LoadedVQModel, split: Split) -> dict[str, Any]:
    """Bit rates, and codebook usage of each level on the training files and the test files."""
    sounds = open_collection(find_audio_files(split.train), loaded.sample_rate).sounds or ()
    codes = {
        "train": codes_of(loaded, (torch.from_numpy(sound.waveform) for sound in sounds)),
        "test": codes_of(loaded, waveforms(loaded, split)),
    }
    quantizer = loaded.model.quantizer
    usage = {name: [dataclasses.asdict(x) for x in level_usage(quantizer, found)] for name, found in codes.items()}
    return {
        "rates": dataclasses.asdict(bit_rates(loaded, codes["train"], codes["test"], split.seconds)),
        "codebook_size": quantizer.size,
        "vectors": {name: len(found) for name, found in codes.items()},
        "codes": usage,
    }


def level_metrics(loaded: LoadedVQModel, split: Split, all_levels: dict[str, Any]) -> dict[str, Any]:
    """The figures for each number of levels (`all_levels` with all of them), and with all and the true phases."""
    sounds = waveforms(loaded, split)
    by_levels = [
        dataclasses.asdict(
            split.distances(
                at_48_khz(torch.from_numpy(loaded.reconstruct(sound.numpy(), levels=count)), loaded.sample_rate)
                for sound in sounds
            )
        )
        for count in range(1, loaded.model.quantizer.levels)
    ] + [all_levels]
    true = split.distances(
        at_48_khz(reconstruct_with_true_phase(loaded, sound), loaded.sample_rate) for sound in sounds
    )
    return {"by_levels": by_levels, "true_phase": dataclasses.asdict(true)}


def reconstruct_with_true_phase(loaded: LoadedVQModel, sound: Tensor) -> Tensor:
    """Reconstruct the mel of `[S]` and invert it with the phases of the original: `[S]`."""
    mel = loaded.spectrogram.waveform_to_mel(mark_end(sound)[None, None])
    return with_true_phase(loaded.spectrogram, loaded.model.reconstruct(mel), sound)


def waveforms(loaded: LoadedVQModel, split: Split) -> list[Tensor]:
    """The test files as distill reads them: `[S]` at the model's rate."""
    return [torch.from_numpy(read_waveform(path, loaded.sample_rate)) for path in split.test]
