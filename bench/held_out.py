"""A collection split in two: what is trained on, and the held-out files on which everything is measured."""

import argparse
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import soxr
import torch
from torch import Tensor

from mel_distance import RATE, mel_distance, read_mono
from stft_distance import stft_distance

_SPLIT = Path(__file__).with_name("split.py")


@dataclass(frozen=True)
class Collection:
    """A folder of sounds, and what tables and pictures call it."""

    name: str
    folder: Path

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `NAME=DIR`, or from `DIR`, whose name it then has."""
        name, _, folder = text.rpartition("=")
        path = Path(folder).expanduser()
        if not path.is_dir():
            raise argparse.ArgumentTypeError(f"{folder}: no such folder")
        return cls(name or path.resolve().name, path)


@dataclass(frozen=True)
class Distances:
    """Mel and STFT distance over the test files, median and mean; lower is better."""

    mel: float
    mel_mean: float
    stft: float
    stft_mean: float


@dataclass(frozen=True)
class Split:
    """The folder to train on; the test files, and their sound as mono float32 `[S]` at 48 kHz."""

    train: Path
    test: tuple[Path, ...]
    originals: tuple[Tensor, ...]

    @classmethod
    def of(cls, collection: Collection, work: Path) -> Self:
        """Copy the files of a collection to `work/train` and `work/test`, as `split.py` does."""
        subprocess.run([sys.executable, _SPLIT, collection.folder, work], check=True, stdout=subprocess.DEVNULL)
        test = tuple(sorted((work / "test").iterdir()))
        return cls(work / "train", test, tuple(map(read_mono, test)))

    @property
    def seconds(self) -> float:
        """How long the test files are together."""
        return sum(map(len, self.originals)) / RATE

    def distances(self, copies: Iterable[Tensor]) -> Distances:
        """How far `copies`, mono `[S]` at 48 kHz in the order of the test files, are from them."""
        pairs = list(zip(self.originals, copies, strict=True))
        mel = [mel_distance(original, copy) for original, copy in pairs]
        stft = [stft_distance(original, copy) for original, copy in pairs]
        return Distances(float(np.median(mel)), float(np.mean(mel)), float(np.median(stft)), float(np.mean(stft)))


def at_48_khz(sound: Tensor, rate: int) -> Tensor:
    """Mono `[S]` at `rate` Hz as float32 `[S']` at 48 kHz, which is what distances are measured at."""
    return torch.from_numpy(soxr.resample(sound.numpy(), rate, RATE))
