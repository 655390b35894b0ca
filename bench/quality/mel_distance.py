"""Mel distance between two sounds: that of the Descript Audio Codec's evaluation.

    python -m bench.quality.mel_distance ORIGINALS RECONSTRUCTIONS     over two folders, files matched by stem

The definition is that of audiotools' MelSpectrogramLoss with its defaults. Windows 2048 and 512, hop a quarter, 150 and
80 Slaney mels; |log10 m^2 - log10 m'^2| + |m - m'| with m clamped at 1e-5, averaged; summed over the two windows. Lower
is better. Both sounds are mono at 48 kHz and compared over the shorter length; a length that differs by more than 0.1 s
is an error.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor

RATE = 48_000


def read_mono(path: Path) -> Tensor:
    """The sound of a file as mono float32 `[S]` at 48 kHz."""
    audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return torch.from_numpy(soxr.resample(audio.mean(axis=1), rate, RATE))


def mel_filters(n_fft: int, n_mels: int) -> Tensor:
    """Slaney-style mel filters, area-normalised: float32 `[n_mels, n_fft // 2 + 1]`."""

    def to_mel(hz: Any) -> Any:
        hz = np.asarray(hz, dtype=float)
        return np.where(hz < 1000, hz * 3 / 200, 15 + np.log(np.maximum(hz, 1e-9) / 1000) * 27 / np.log(6.4))

    def to_hz(mel: Any) -> Any:
        mel = np.asarray(mel, dtype=float)
        return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * np.log(6.4) / 27))

    bins = np.linspace(0, RATE / 2, n_fft // 2 + 1)
    edges = to_hz(np.linspace(to_mel(0), to_mel(RATE / 2), n_mels + 2))
    gap, ramp = np.diff(edges), edges[:, None] - bins[None]
    weights = np.maximum(0, np.minimum(-ramp[:-2] / gap[:-1, None], ramp[2:] / gap[1:, None]))
    return torch.tensor(weights * (2 / (edges[2:] - edges[:-2]))[:, None], dtype=torch.float32)


FILTERS = {2048: mel_filters(2048, 150), 512: mel_filters(512, 80)}


def mel_distance(original: Tensor, reconstruction: Tensor) -> float:
    """Distance of a reconstruction `[S']` from the original `[S]`; raises `ValueError` when their lengths differ."""
    if abs(len(original) - len(reconstruction)) > RATE // 10:
        raise ValueError(f"lengths differ: {len(original) / RATE:.2f} s and {len(reconstruction) / RATE:.2f} s")
    length = max(min(len(original), len(reconstruction)), 1)
    padding = (0, max(0, max(FILTERS) - length))
    pair = [torch.nn.functional.pad(sound[:length], padding) for sound in (original, reconstruction)]
    total = 0.0
    for window, filters in FILTERS.items():
        first, second = (_mel(sound, window, filters) for sound in pair)
        log_difference = (first.pow(2).log10() - second.pow(2).log10()).abs().mean()
        total += (log_difference + (first - second).abs().mean()).item()
    return total


def _mel(sound: Tensor, window: int, filters: Tensor) -> Tensor:
    """Mel magnitudes `[M, T]` of `[S]`, clamped at 1e-5."""
    hann = torch.hann_window(window)
    magnitude = torch.stft(sound, window, window // 4, window=hann, return_complex=True).abs()
    return (filters @ magnitude).clamp(min=1e-5)


def main() -> int:
    """Print the median and mean over the two folders given on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("originals", type=Path, metavar="ORIGINALS")
    parser.add_argument("reconstructions", type=Path, metavar="RECONSTRUCTIONS")
    args = parser.parse_args()
    originals = {path.stem: path for path in sorted(args.originals.rglob("*")) if path.is_file()}
    reconstructions = {path.stem: path for path in sorted(args.reconstructions.rglob("*.wav"))}
    common = sorted(originals.keys() & reconstructions.keys())
    if not common or len(common) < len(originals):
        print(f"only {len(common)} of {len(originals)} files have a reconstruction", file=sys.stderr)
        return 1
    values = [mel_distance(read_mono(originals[stem]), read_mono(reconstructions[stem])) for stem in common]
    print(f"files {len(values)}  mel distance median {np.median(values):.3f}  mean {np.mean(values):.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
