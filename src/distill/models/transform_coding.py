"""The encoder and decoder of RVQ-VAEs of distill 0.1.0: transform coding of blocks of 16 frames that do not overlap.

Models and runs from that time go on working; new ones have the lapped transform of `distill.models.lapped`.
"""

import torch
from torch import Tensor, nn

from distill.models.blocks import STRIDE, ScaledLinear, widening

WIDTHS = (8, 32, 64)  # of the correcting network
_SMALL = 0.01  # of the usual initial weights: the network corrects next to nothing at first, but gets a gradient


class TransformEncoder(nn.Module):
    """Linear map of each column: float `[B, 1, M, 16·W]`, with silence at 0, → `[B, D, H, W]` with H = M / 16."""

    def __init__(self, bands: int, dim: int) -> None:
        super().__init__()
        self.rows = bands // STRIDE
        self.linear = ScaledLinear(bands * STRIDE, self.rows * dim)

    def forward(self, x: Tensor) -> Tensor:
        """Encode float `[B, 1, M, 16·W]`."""
        vectors: Tensor = self.linear(frame_blocks(x)).unflatten(-1, (self.rows, -1))
        return vectors.permute(0, 3, 2, 1)


class TransformDecoder(nn.Module):
    """Linear map of each column plus a correction: float `[B, D, H, W]` → `[B, 1, M, 16·W]`, with silence at 0."""

    def __init__(self, bands: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.bands = bands
        self.linear = ScaledLinear(bands // STRIDE * dim, bands * STRIDE)
        self.correction = nn.Sequential(Patches(WIDTHS[-1]), *widening(WIDTHS, dropout))
        with torch.no_grad():
            for weight in self.correction[-2].parameters():  # the last layer that has any
                weight.mul_(_SMALL)

    def forward(self, x: Tensor) -> Tensor:
        """Decode float `[B, D, H, W]`."""
        mel = self.uncorrected(x)
        decoded: Tensor = mel + self.correction(mel)
        return decoded

    def uncorrected(self, x: Tensor) -> Tensor:
        """Decode float `[B, D, H, W]` with the linear map alone."""
        return mel_of_blocks(self.linear(x.permute(0, 3, 2, 1).flatten(2)), self.bands)


class Patches(nn.Module):
    """Linear map of patches of 16 × 16 cells: float `[B, 1, 16·H, 16·W]` → `[B, channels, H, W]`, channels last.

    It equals a convolution with a stride of 16, whose backward pass would take ten times as long.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mapped = nn.Linear(STRIDE * STRIDE, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map float `[B, 1, 16·H, 16·W]`."""
        batch, _, bands, frames = x.shape
        cells = x.reshape(batch, bands // STRIDE, STRIDE, frames // STRIDE, STRIDE).transpose(2, 3).flatten(3)
        mapped: Tensor = self.mapped(cells)
        return mapped.movedim(-1, 1)


def frame_blocks(mel: Tensor) -> Tensor:
    """The columns of a mel `[B, 1, M, 16·W]`, flattened: `[B, W, M·16]`."""
    batch, _, bands, frames = mel.shape
    return mel.reshape(batch, bands, frames // STRIDE, STRIDE).transpose(1, 2).flatten(2)


def mel_of_blocks(columns: Tensor, bands: int) -> Tensor:
    """The mel `[B, 1, M, 16·W]` with the flattened columns `[B, W, M·16]`; the inverse of `frame_blocks`."""
    batch, width, _ = columns.shape
    return columns.reshape(batch, width, bands, STRIDE).transpose(1, 2).flatten(2).unsqueeze(1)
