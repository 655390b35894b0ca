"""Mels of any length on the grid of vectors: padding to whole cells, and telling sound from silence in its columns."""

import torch.nn.functional as F
from torch import Tensor

from distill.audio.spectrogram import PADDING, SILENCE
from distill.models.blocks import STRIDE

_SOUNDING = SILENCE + 1e-4


def pad_to_grid(mel: Tensor, bands: int) -> Tensor:
    """Extend `[B, 1, M, T]` to `bands` bands with `PADDING`, and to a multiple of 16 frames by repeating the last one.

    Raises `ValueError` when the mel has more bands.
    """
    if mel.shape[-2] > bands:
        raise ValueError(f"the mel has {mel.shape[-2]} bands; this model takes up to {bands}")
    mel = F.pad(mel, (0, 0, 0, bands - mel.shape[-2]), value=PADDING)
    # The end of a mel is often only where it was cut: no column should learn that sounds break off there.
    return F.pad(mel, (0, -mel.shape[-1] % STRIDE, 0, 0), mode="replicate")


def sounding_columns(mel: Tensor) -> Tensor:
    """Bool `[B, W]`: the grid columns of `[B, 1, M, T]` that hold any sound; the others are silence or padding."""
    loudest = F.pad(mel.amax(dim=(1, 2)), (0, -mel.shape[-1] % STRIDE), value=PADDING)
    return F.max_pool1d(loudest, STRIDE) > _SOUNDING


def silence_where_uncoded(mel: Tensor, columns: Tensor) -> Tensor:
    """Set the grid columns of `[B, 1, 16·H, 16·W]` to silence where bool `columns` `[B, W]` is False."""
    return mel.masked_fill(~columns.repeat_interleave(STRIDE, dim=1)[:, None, None], SILENCE)
