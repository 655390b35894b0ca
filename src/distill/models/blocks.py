"""Convolutional building blocks of models of distill 0.1.0, between a mel and a grid of vectors, 16 × 16 cells each.

Normalisation acts on the channels of one position, never across time: the result for a stretch of sound depends only
on its surroundings, so a long sound can be coded block by block without seams, and padding disturbs nothing.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRIDE = 16  # mel cells to a grid cell, along both axes
WIDTHS = (32, 128, 256)


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each position of `[B, C, H, W]` (Ba, Kiros and Hinton 2016).

    Group normalisation would make a sound depend on how long the recording around it is.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise float `[B, C, H, W]`."""
        return F.layer_norm(x.movedim(1, -1), self.gain.shape, self.gain, self.bias).movedim(-1, 1)


class ResidualBlock(nn.Module):
    """A residual block of a 3 × 3 and a 1 × 1 convolution; shape unchanged."""

    def __init__(self, channels: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.body = nn.Sequential(
            ChannelNorm(channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Conv2d(channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Add the block's correction to float `[B, C, H, W]`."""
        correction: Tensor = self.body(x)
        return x + correction


class EdgeConv2d(nn.Conv2d):
    """A 3 × 3 convolution with replicate padding; shape unchanged.

    With zeros around them, the outermost cells would get less than the others: a click at the start of a sound.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Convolve float `[B, C, H, W]`."""
        if not x.is_cuda:
            return super().forward(F.pad(x, (1, 1, 1, 1), mode="replicate"))
        # Joined by hand: the gradient of `replicate` is not deterministic on a GPU.
        x = torch.cat([x[..., :1, :], x, x[..., -1:, :]], dim=-2)
        return super().forward(torch.cat([x[..., :1], x, x[..., -1:]], dim=-1))


def encoder(out_channels: int) -> nn.Sequential:
    """Encoder from float `[B, 1, 16·H, 16·W]`, with silence at 0, to `[B, out, H, W]`; it has no dropout.

    Nearly all of the work is done on the coarser grids, where it is cheap: in minutes of training on a CPU, the number
    of steps matters more than the size of the network.
    """
    narrow, middle, wide = WIDTHS
    # Zero padding is right here: silence is at 0. And no dropout: deeper codebooks would learn its noise, which is gone
    # when the model is used.
    return nn.Sequential(
        nn.Conv2d(1, narrow, 8, stride=4, padding=2),
        nn.Conv2d(narrow, middle, 4, stride=2, padding=1),
        ResidualBlock(middle),
        nn.Conv2d(middle, wide, 4, stride=2, padding=1),
        ResidualBlock(wide),
        ChannelNorm(wide),
        nn.Conv2d(wide, out_channels, 1),
    )


def decoder(in_channels: int, dropout: float) -> nn.Sequential:
    """Decoder from float `[B, in_channels, H, W]` to `[B, 1, 16·H, 16·W]`, with silence at 0 as for the encoder."""
    return nn.Sequential(nn.Conv2d(in_channels, WIDTHS[-1], 1), *widening(WIDTHS, dropout))


def widening(widths: tuple[int, int, int], dropout: float) -> nn.Sequential:
    """All of the decoder but its first layer: float `[B, widest, H, W]` → `[B, 1, 16·H, 16·W]`."""
    narrow, middle, wide = widths
    return nn.Sequential(
        ResidualBlock(wide, dropout),
        *_widen(wide, middle),
        ResidualBlock(middle, dropout),
        *_widen(middle, narrow),
        ChannelNorm(narrow),
        nn.SiLU(),
        EdgeConv2d(narrow, 4 * 4, 3),
        nn.PixelShuffle(4),  # 16 cells from the channels of one: no convolution runs on the finest grid
    )


def _widen(channels: int, fewer: int) -> tuple[nn.Module, ...]:
    """Layers that double the resolution: `[B, channels, H, W]` → `[B, fewer, 2·H, 2·W]`."""
    return ChannelNorm(channels), nn.SiLU(), nn.ConvTranspose2d(channels, fewer, 4, stride=2, padding=1)


class ScaledLinear(nn.Module):
    """A linear layer whose stored weights are about 1 (the equalised learning rate of Karras et al. 2018, sec. 4.1).

    Adam moves each weight by about the learning rate: the small ones of a layer with thousands of inputs would be
    overwritten in a few steps.
    """

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__()
        self.inputs, self.outputs = inputs, outputs
        self.scale = max(inputs, outputs) ** -0.5
        self.weight = nn.Parameter(torch.randn(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Map float `[..., inputs]` to `[..., outputs]`."""
        return nn.functional.linear(x, self.weight * self.scale, self.bias)

    def start_from(self, weight: Tensor, bias: Tensor | None = None) -> None:
        """Set the weights that the layer applies, float `[outputs, inputs]`, and its bias, `[outputs]`, if any."""
        self.weight.copy_(weight / self.scale)
        if self.bias is not None and bias is not None:
            self.bias.copy_(bias)
