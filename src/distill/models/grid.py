"""Mels of any length on the grid of vectors: padding to whole columns, and telling sound from silence in them.

A grid is one of blocks of 16 frames, as in models of distill 0.1.0, or of columns of 16 frames that overlap by half.
"""

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from distill.audio.spectrogram import PADDING, SILENCE
from distill.models.blocks import STRIDE
from distill.models.lapped import HOP

Transform = Literal["lapped", "blocks"]

BANDS_PER_ROW = STRIDE
_SOUNDING = SILENCE + 1e-4


@dataclass(frozen=True)
class Grid:
    """The places of the vectors: `rows` of them in each column, one column for every `hop` frames."""

    rows: int
    hop: int
    overlap: int  # columns that a frame lies in, besides one

    @classmethod
    def of(cls, transform: Transform, bands: int) -> "Grid":
        """The grid of mels of `bands` bands."""
        return cls(bands // BANDS_PER_ROW, HOP, 1) if transform == "lapped" else cls(bands // BANDS_PER_ROW, STRIDE, 0)

    @property
    def bands(self) -> int:
        """The number of bands of the mels."""
        return self.rows * BANDS_PER_ROW

    def frames(self, columns: int) -> int:
        """The number of frames of the mel of so many columns."""
        return self.hop * (columns - self.overlap)

    def pad(self, mel: Tensor) -> Tensor:
        """Extend `[B, 1, M, T]` to all bands with `PADDING`, and to whole hops by repeating the last frame.

        Raises `ValueError` when the mel has more bands.
        """
        if mel.shape[-2] > self.bands:
            raise ValueError(f"the mel has {mel.shape[-2]} bands; this model takes up to {self.bands}")
        mel = F.pad(mel, (0, 0, 0, self.bands - mel.shape[-2]), value=PADDING)
        # The end of a mel is often only where it was cut: no column should learn that sounds break off there.
        return F.pad(mel, (0, -mel.shape[-1] % self.hop, 0, 0), mode="replicate")

    def sounding(self, mel: Tensor) -> Tensor:
        """Bool `[B, W]`: the columns of `[B, 1, M, T]` that hold any sound; the others are silence or padding."""
        ends = self.overlap * self.hop
        loudest = F.pad(mel.amax(dim=(1, 2)), (ends, ends - mel.shape[-1] % -self.hop), value=PADDING)
        return F.max_pool1d(loudest, self.hop * (1 + self.overlap), self.hop) > _SOUNDING

    def silence(self, mel: Tensor, columns: Tensor) -> Tensor:
        """Set frames of `[B, 1, M, T]` to silence that lie in no column for which bool `columns` `[B, W]` is True."""
        covered = columns.unfold(1, 1 + self.overlap, 1).any(dim=-1)
        return mel.masked_fill(~covered.repeat_interleave(self.hop, dim=1)[:, None, None], SILENCE)
