"""Spectrograms of sounds, and beside each that of what a model makes of it: are there columns, or stripes?

    python -m bench.quality.pictures MODEL SOUND [SOUND ...] -o FILE.png [--from 0] [--seconds 4]

Up to four sounds, mixed to mono at 48 kHz: 128 mel bands from low to high, windows of 43 ms every 5 ms. The colours are
decibels below the loudest place of the original, the same in both pictures of a sound.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soxr
import torch
from torch import Tensor

import distill
from bench.quality.mel_distance import RATE, mel_filters, read_mono
from bench.quality.picture import save
from distill.models.loaded import LoadedFamily

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

Levels = np.ndarray[Any, np.dtype[np.float32]]  # [M, T], dB

_MOST = 4
_WINDOW, _HOP, _BANDS = 2048, 256, 128
_FILTERS = mel_filters(_WINDOW, _BANDS)
_RANGE = 80  # dB
_TICKS = (200, 1000, 4000, 16_000)  # Hz


@dataclass(frozen=True)
class Pair:
    """An original `[S]`, and what a model made of it, at 48 kHz."""

    name: str
    original: Tensor
    reconstruction: Tensor


def draw(path: Path, pairs: Sequence[Pair], start: float = 0.0, seconds: float = 4.0) -> Path:
    """Draw a row for each pair to a PNG at `path`: so many seconds of it from `start` on."""
    from matplotlib.figure import Figure  # slow to import

    figure = Figure(figsize=(15, 2.9 * len(pairs) + 0.5), layout="constrained")
    panels = figure.subplots(len(pairs), 2, squeeze=False, sharey=True)
    frames = slice(round(start * RATE / _HOP), round((start + seconds) * RATE / _HOP))
    for row, pair in zip(panels, pairs):
        for axes, levels, what in zip(row, decibels(pair), ("original", "reconstruction")):
            image = _draw_one(axes, f"{pair.name}: {what}", levels[:, frames], start)
    figure.colorbar(image, ax=panels, label="dB", shrink=0.6)
    figure.supxlabel("seconds", fontsize=10)
    figure.supylabel("Hz", fontsize=10)
    return save(figure, path)


def decibels(pair: Pair) -> list[Levels]:
    """The levels `[M, T]` of original and reconstruction in dB below the loudest of the original, from -80 to 0."""
    mels = [_mel(sound) for sound in (pair.original, pair.reconstruction)]
    loudest = mels[0].max().clamp(min=1e-6)
    return [(20 * (mel / loudest).clamp(min=1e-9).log10()).clamp(-_RANGE, 0).numpy() for mel in mels]


def _mel(sound: Tensor) -> Tensor:
    spectrum = torch.stft(
        sound, _WINDOW, _HOP, window=torch.hann_window(_WINDOW), pad_mode="constant", return_complex=True
    )
    return _FILTERS @ spectrum.abs()


def _draw_one(axes: "Axes", title: str, levels: Levels, start: float) -> "AxesImage":
    end = start + levels.shape[1] * _HOP / RATE
    centres = _FILTERS @ torch.linspace(0, RATE / 2, _FILTERS.shape[1]) / _FILTERS.sum(dim=1)
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_yticks(np.interp(_TICKS, centres.numpy(), np.arange(_BANDS)), [f"{tick:,}" for tick in _TICKS])
    return axes.imshow(
        levels,
        cmap="magma",
        vmin=-_RANGE,
        vmax=0,
        origin="lower",
        aspect="auto",
        extent=(start, end, -0.5, _BANDS - 0.5),
    )


def pair_through(model: LoadedFamily, path: Path) -> Pair:
    """A sound and its reconstruction."""
    sound = read_mono(path)
    made = soxr.resample(model.reconstruct(sound.numpy(), RATE), model.sample_rate, RATE)
    return Pair(path.stem, sound, torch.from_numpy(made))


def main() -> int:
    """Draw the sounds given on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL", help="the name, id or file of a model")
    parser.add_argument("sounds", metavar="SOUND", type=Path, nargs="+")
    parser.add_argument("-o", "--output", metavar="FILE.png", type=Path, required=True)
    parser.add_argument("--from", dest="start", type=float, default=0.0, help="where to begin, in seconds")
    parser.add_argument("--seconds", type=float, default=4.0)
    args = parser.parse_args()
    if len(args.sounds) > _MOST:
        parser.error(f"a picture has room for {_MOST} sounds")
    model = distill.load(args.model)
    pairs = [pair_through(model, path) for path in args.sounds]
    if short := [pair.name for pair in pairs if len(pair.original) <= args.start * RATE]:
        parser.error(f"{', '.join(short)}: there is nothing from {args.start:g} s on")
    print(draw(args.output, pairs, args.start, args.seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
