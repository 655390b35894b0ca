#!/usr/bin/env python3
"""Mel distance between recordings and their reconstructions, and codec anchors on the same files.

    mel_distance.py REFERENCE_DIR RECONSTRUCTION_DIR     median over the files present in both (matched by stem)
    mel_distance.py REFERENCE_DIR --opus 6 12 24         the same distance for the Opus codec (Debian: opus-tools)

Definition: that of the Descript Audio Codec's evaluation (audiotools MelSpectrogramLoss, its defaults). Windows 2048
and 512, hop a quarter, 150 and 80 Slaney mels; |log10 m^2 - log10 m'^2| + |m - m'| with m clamped at 1e-5, averaged;
summed over the two windows. Lower is better. Both sides are compared at 48 kHz, mono, over the shorter length; a
length that differs by more than 0.1 s is an error. Needs numpy, torch, soundfile, soxr.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
import torch

RATE = 48_000


def read_mono(path: Path) -> torch.Tensor:
    audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return torch.from_numpy(soxr.resample(audio.mean(axis=1), rate, RATE))


def mel_filters(n_fft: int, n_mels: int) -> torch.Tensor:
    """Slaney-style mel filters, area-normalised: [n_mels, n_fft // 2 + 1]."""

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


def mel_distance(a: torch.Tensor, b: torch.Tensor) -> float:
    if abs(len(a) - len(b)) > RATE // 10:
        raise ValueError(f"lengths differ: {len(a) / RATE:.2f} s and {len(b) / RATE:.2f} s")
    n = max(min(len(a), len(b)), 1)
    a, b = (torch.nn.functional.pad(x[:n], (0, max(0, 2048 - n))) for x in (a, b))
    total = 0.0
    for window, filters in FILTERS.items():
        ma, mb = (
            (
                filters
                @ torch.stft(x, window, window // 4, window=torch.hann_window(window), return_complex=True).abs()
            ).clamp(min=1e-5)
            for x in (a, b)
        )
        total += ((ma.pow(2).log10() - mb.pow(2).log10()).abs().mean() + (ma - mb).abs().mean()).item()
    return total


def opus(audio: torch.Tensor, kbps: int) -> torch.Tensor:
    with tempfile.TemporaryDirectory() as folder:
        wav, coded, back = (f"{folder}/{name}" for name in ("a.wav", "a.opus", "b.wav"))
        soundfile.write(wav, audio.numpy(), RATE)
        subprocess.run(["opusenc", "--quiet", "--bitrate", str(kbps), wav, coded], check=True)
        subprocess.run(["opusdec", "--quiet", "--rate", str(RATE), coded, back], check=True)
        return read_mono(Path(back))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference", type=Path)
    parser.add_argument("reconstruction", type=Path, nargs="?")
    parser.add_argument("--opus", type=int, nargs="*", default=[], metavar="KBPS")
    args = parser.parse_args()
    references = {p.stem: p for p in sorted(args.reference.rglob("*")) if p.is_file()}
    if args.reconstruction:
        made = {p.stem: p for p in sorted(args.reconstruction.rglob("*.wav"))}
        common = sorted(references.keys() & made.keys())
        if not common or len(common) < len(references):
            print(f"only {len(common)} of {len(references)} files have a reconstruction", file=sys.stderr)
            return 1
        values = [mel_distance(read_mono(references[s]), read_mono(made[s])) for s in common]
        print(f"files {len(values)}  mel distance median {np.median(values):.3f}  mean {np.mean(values):.3f}")
    for kbps in args.opus:
        values = [mel_distance(x, opus(x, kbps)) for x in map(read_mono, references.values())]
        median, mean = np.median(values), np.mean(values)
        print(f"opus {kbps} kbps  files {len(values)}  mel distance median {median:.3f}  mean {mean:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
