"""How well a collection is reconstructed: train on four fifths of its files, measure on the rest.

    bench/quality.py --collection DIR --minutes 1 [--model vqvae vae] [--seeds 0 1 2]

Splits the files with `split.py`, runs the default `distill train` and `distill reconstruct`, and prints the mel
distance (`mel_distance.py`, lower is better), the level table and the warnings. For a vae it also prints, in mean
absolute mel units, how far generated sounds are from the nearest training sound and from each other, beside the
distance of the training sounds from each other.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import distill
from distill.audio.io import read_waveform
from distill.audio.spectrogram import PADDING, mark_end
from distill.models.generate import sample_latents
from distill.models.loaded import LoadedModel
from mel_distance import mel_distance, read_mono

BENCH = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--collection", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--model", nargs="+", default=["vqvae"], choices=["vqvae", "vae"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        subprocess.run([sys.executable, BENCH / "split.py", args.collection, work], check=True)
        for model in args.model:
            for seed in args.seeds:
                report(measure(work, model, args.minutes, seed), args.collection.name, model, args.minutes, seed)


def run_distill(*arguments: object) -> list[str]:
    """The lines that a `distill` command prints."""
    command = [sys.executable, "-m", "distill", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def measure(work: Path, model: str, minutes: float, seed: int) -> dict[str, Any]:
    """Train on `work/train`, reconstruct `work/test`; the run's summary with the distances added."""
    place = work / f"{model}-{seed}"
    lines = run_distill(
        *("train", work / "train", "--model", model, "--minutes", minutes, "--seed", seed, "--json"),
        *("--models-dir", place / "models", "--output-dir", place / "run"),
    )
    summary: dict[str, Any] = json.loads(lines[-1])
    run_distill("reconstruct", summary["model_path"], work / "test", "-o", place / "out")
    distances = [
        mel_distance(read_mono(path), read_mono(place / "out" / f"{path.stem}.wav"))
        for path in sorted((work / "test").iterdir())
    ]
    loaded = distill.load(summary["model_path"])
    summary |= {"median": float(np.median(distances)), "mean": float(np.mean(distances))}
    return summary | (sample_distances(loaded, work / "train") if isinstance(loaded, LoadedModel) else {})


@torch.no_grad()
def sample_distances(loaded: LoadedModel, folder: Path, count: int = 32) -> dict[str, Any]:
    """Median distance of generated mels to the nearest training mel and to each other."""
    made = loaded.model.decode(sample_latents(loaded, count, seed=0))[:, 0]
    train = torch.stack([first_mel(loaded, path) for path in sorted(folder.rglob("*")) if path.is_file()])
    return {
        "sample_to_train": nearest(made, train),
        "sample_to_sample": nearest(made, made),
        "train_to_train": nearest(train, train),
        "samples_finite": bool(torch.isfinite(made).all()),
        "quietest_sample": float(made.amax(dim=(1, 2)).min()),
    }


def first_mel(loaded: LoadedModel, path: Path) -> Tensor:
    """The mel `[M, frames]` of a file's first chunk."""
    waveform = torch.from_numpy(read_waveform(path, loaded.sample_rate))
    mel = loaded.spectrogram.waveform_to_mel(mark_end(waveform)[None, None])[0, 0, :, : loaded.model.frames]
    return torch.nn.functional.pad(mel, (0, loaded.model.frames - mel.shape[-1]), value=PADDING)


def nearest(these: Tensor, those: Tensor) -> float:
    """Median over `these` `[N, M, T]` of the mean absolute distance to the nearest other of `those`."""
    distance = torch.stack([(this - those).abs().mean(dim=(1, 2)) for this in these])
    if these is those:
        distance.fill_diagonal_(torch.inf)
    return float(distance.min(dim=1).values.median())


def report(result: dict[str, Any], collection: str, model: str, minutes: float, seed: int) -> None:
    """Print one run."""
    print(
        f"\n{collection}  {model}  {minutes:g} min  seed {seed}: mel distance median {result['median']:.3f} mean "
        f"{result['mean']:.3f}  ({result['epochs']} epochs in {result['elapsed_seconds']:.0f} s, "
        f"kept {result['best_epoch'] + 1})"
    )
    size = result["settings"].get("codebook_size")
    for level, health in (result["codebook_health"] or {}).items():
        print(
            f"  {level}: utilization {health['utilization']:.0%}  perplexity {health['perplexity']:.1f} of {size}  "
            f"dead {health['dead_codes']}"
        )
    for name in ("kl_divergence", "sample_to_train", "sample_to_sample", "train_to_train", "quietest_sample"):
        if result.get(name) is not None:
            print(f"  {name}: {result[name]:.3f}")
    print(f"  warnings: {result['warnings'] or 'none'}")


if __name__ == "__main__":
    main()
