"""The picture of new sounds beside those of the collection."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from bench.quality.mel_distance import RATE, mel_filters

_DRAWN = 16  # sounds of each kind
_DRAWN_S = 2 * RATE  # of each, at most
_N_FFT = 1024


def draw(path: Path, real: Sequence[Tensor], made: Sequence[Tensor]) -> None:
    """Draw the spectrograms of some training sounds, and below them those of some new ones, to a PNG."""
    figure = Figure(figsize=(16, 7))
    grid = figure.subplots(4, _DRAWN // 2, sharey=True)
    for rows, sounds, title in ((grid[:2], real, "of the collection"), (grid[2:], made, "new")):
        chosen = [sounds[round(at)] for at in np.linspace(0, len(sounds) - 1, _DRAWN)]
        for axes, sound in zip(rows.flat, chosen):
            heard = torch.nn.functional.pad(sound[:_DRAWN_S], (0, max(0, _N_FFT - len(sound))))
            spectrum = torch.stft(heard, _N_FFT, 256, window=torch.hann_window(_N_FFT), return_complex=True).abs()
            image = 20 * (mel_filters(_N_FFT, 80).to(spectrum.dtype) @ spectrum).clamp(min=1e-5).log10()
            axes.imshow(image.numpy(), origin="lower", aspect="auto", cmap="magma", vmin=-80, vmax=20,
                        extent=(0, len(heard) / RATE, 0, 80))  # fmt: skip
            axes.set(title=title, yticks=[])
    figure.tight_layout()
    figure.savefig(path, dpi=70)
