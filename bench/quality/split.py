"""The split of a collection into sounds to train on and held-out sounds, and distances over the held-out ones.

    python -m bench.quality.split DIR OUT     copies the files of DIR to OUT/train and OUT/test

Files are sorted by relative path, and every fifth goes to test, renamed 000.ext, 001.ext, … so that stems are unique.
Those of them that are unreadable, shorter than 0.05 s or silent (peak below 1e-3) are left out.
"""

import argparse
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor

from bench.quality.artefacts import artefacts, medians
from bench.quality.mel_distance import RATE, mel_distance, read_mono
from bench.quality.stft_distance import stft_distance
from bench.shared.collection import Collection


@dataclass(frozen=True)
class Distances:
    """Median and mean of the mel and STFT distances over the test files; lower is better."""

    mel: float
    mel_mean: float
    stft: float
    stft_mean: float
    artefacts: dict[str, float]  # medians


@dataclass(frozen=True)
class Split:
    """The folder to train on, and the test files with their sound as mono float32 `[S]` at 48 kHz."""

    train: Path
    test: tuple[Path, ...]
    originals: tuple[Tensor, ...]

    @classmethod
    def of(cls, collection: Collection, work: Path) -> Self:
        """Split a collection by copying its files to `work/train` and `work/test`."""
        copy_split(collection.folder, work)
        test = tuple(sorted((work / "test").iterdir()))
        return cls(work / "train", test, tuple(map(read_mono, test)))

    @property
    def seconds(self) -> float:
        """Total length of the test files."""
        return sum(map(len, self.originals)) / RATE

    def distances(self, reconstructions: Iterable[Tensor]) -> Distances:
        """Distances of reconstructions, mono `[S]` at 48 kHz in the order of the test files, from the originals."""
        pairs = list(zip(self.originals, reconstructions, strict=True))
        mel = [mel_distance(original, reconstruction) for original, reconstruction in pairs]
        stft = [stft_distance(original, reconstruction) for original, reconstruction in pairs]
        faults = medians(artefacts(original, reconstruction) for original, reconstruction in pairs)
        middle, mean = ((float(of(mel)), float(of(stft))) for of in (np.median, np.mean))
        return Distances(middle[0], mean[0], middle[1], mean[1], faults)


def at_48_khz(sound: Tensor, rate: int) -> Tensor:
    """Resample mono float32 `[S]` from `rate` Hz to 48 kHz, the rate at which distances are measured."""
    return torch.from_numpy(soxr.resample(sound.numpy(), rate, RATE))


def copy_split(source: Path, target: Path) -> None:
    """Copy the files of `source` to `target/train` and `target/test`."""
    for name in ("train", "test"):
        (target / name).mkdir(parents=True, exist_ok=True)
    files = [path for path in sorted(source.rglob("*")) if path.is_file()]
    test = [path for path in files[4::5] if is_testable(path)]
    for number, path in enumerate(test):
        shutil.copy(path, target / "test" / f"{number:03d}{path.suffix}")
    for number, path in enumerate(files):
        if number % 5 != 4:
            copy = target / "train" / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)


def is_testable(path: Path) -> bool:
    """True for a readable file of at least 0.05 s that is finite and not silent."""
    try:
        audio, rate = soundfile.read(path)
    except (soundfile.SoundFileError, RuntimeError):
        return False
    return len(audio) >= 0.05 * rate and bool(np.isfinite(audio).all()) and np.abs(audio).max() >= 1e-3


def main() -> None:
    """Split the folder given on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, metavar="DIR")
    parser.add_argument("target", type=Path, metavar="OUT")
    args = parser.parse_args()
    copy_split(args.source, args.target)


if __name__ == "__main__":
    main()
