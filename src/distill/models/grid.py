"""Between mels of any length and the grid of vectors: padding to whole cells, and which cells hold sound."""

import torch.nn.functional as F
from torch import Tensor

from distill.audio.spectrogram import PADDING, SILENCE
from distill.models.blocks import STRIDE

_SOUNDING = SILENCE + 1e-4


def pad_to_grid(mel: Tensor, bands: int) -> Tensor:
    """Extend `[B, 1, M, T]` to `bands` bands with padding, and to a multiple of 16 frames with the last one.

    The end of a mel is often a cut: no column shall learn that sounds break off there. Raises `ValueError` when the mel
    has more bands.
    """
    if mel.shape[-2] > bands:
        raise ValueError(f"the mel has {mel.shape[-2]} bands; this model takes up to {bands}")
    mel = F.pad(mel, (0, 0, 0, bands - mel.shape[-2]), value=PADDING)
    return F.pad(mel, (0, -mel.shape[-1] % STRIDE, 0, 0), mode="replicate")


def sounding_columns(mel: Tensor) -> Tensor:
    """Which grid columns of `[B, 1, M, T]` hold any sound: bool `[B, W]`; the others are silence or padding."""
    loudest = F.pad(mel.amax(dim=(1, 2)), (0, -mel.shape[-1] % STRIDE), value=PADDING)
    return F.max_pool1d(loudest, STRIDE) > _SOUNDING


def silence_where_uncoded(mel: Tensor, columns: Tensor) -> Tensor:
    """`[B, 1, 16·H, 16·W]` with the grid columns that bool `[B, W]` leaves out set to silence."""
    return mel.masked_fill(~columns.repeat_interleave(STRIDE, dim=1)[:, None, None], SILENCE)
