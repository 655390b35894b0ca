"""The RVQ-VAE's encoder and decoder: a column of the mel, 16 frames wide, ⇄ the vectors of one column of the grid.

What the bands of a sound do at one moment has much in common, and so have neighbouring frames. The encoder is therefore
one linear map of a whole column, which begins as the principal components of the collection's own columns
(Karhunen-Loève): no network finds those by gradient descent in the minutes that a collection is given, and before the
first step the model is a transform codec that works. Training goes on from there, and a small network beside the
decoder's linear map sees the neighbouring columns, and corrects what components and codes miss.
"""

import itertools
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from distill.models.blocks import STRIDE, widening

WIDTHS = (8, 32, 64)  # of the correcting network
_SMALL = 0.01  # of a usual start: the network corrects nothing yet, but feels the loss
_ROWS_AT_ONCE = 256  # of a covariance
_PRIOR_COLUMNS = 64  # how many columns of evidence the prior covariance stands for


class TransformEncoder(nn.Module):
    """Float `[B, 1, M, 16·W]`, silence at 0 → `[B, D, H, W]` with H = M / 16; each column sees its own frames only."""

    def __init__(self, bands: int, dim: int) -> None:
        super().__init__()
        self.rows = bands // STRIDE
        self.linear = ScaledLinear(bands * STRIDE, self.rows * dim)

    def forward(self, x: Tensor) -> Tensor:
        """Encode float `[B, 1, M, 16·W]`."""
        vectors: Tensor = self.linear(frame_blocks(x)).unflatten(-1, (self.rows, -1))
        return vectors.permute(0, 3, 2, 1)


class TransformDecoder(nn.Module):
    """Float `[B, D, H, W]` → `[B, 1, M, 16·W]`, silence at 0: a linear map of each column plus a correction."""

    def __init__(self, bands: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.bands = bands
        self.linear = ScaledLinear(bands // STRIDE * dim, bands * STRIDE)
        self.correction = nn.Sequential(Patches(WIDTHS[-1]), *widening(WIDTHS, dropout))
        with torch.no_grad():
            for weight in self.correction[-2].parameters():
                weight.mul_(_SMALL)

    def forward(self, x: Tensor) -> Tensor:
        """Decode float `[B, D, H, W]`."""
        mel = self.uncorrected(x)
        decoded: Tensor = mel + self.correction(mel)
        return decoded

    def uncorrected(self, x: Tensor) -> Tensor:
        """What the linear map alone makes of float `[B, D, H, W]`."""
        return mel_of_blocks(self.linear(x.permute(0, 3, 2, 1).flatten(2)), self.bands)


class Patches(nn.Module):
    """Float `[B, 1, 16·H, 16·W]` → `[B, channels, H, W]`, channels last in memory: a linear map of each 16 × 16 cells.

    It is a convolution whose windows do not overlap; as one, its backward pass would take ten times as long.
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


class ScaledLinear(nn.Module):
    """A linear layer whose stored weights are of size 1 (the equalised learning rate of Karras et al. 2018, sec. 4.1).

    Adam moves each weight by about the learning rate: the small ones of a layer with thousands of inputs would be gone
    in a few steps.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.scale = max(inputs, outputs) ** -0.5
        self.weight = nn.Parameter(torch.randn(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map float `[..., inputs]` to `[..., outputs]`."""
        return nn.functional.linear(x, self.weight * self.scale, self.bias)

    def start_from(self, weight: Tensor, bias: Tensor) -> None:
        """Take float `weight` `[outputs, inputs]` and `bias` `[outputs]` for what the layer shall do now."""
        self.weight.copy_(weight / self.scale)
        self.bias.copy_(bias)


def frame_blocks(mel: Tensor) -> Tensor:
    """The columns of `[B, 1, M, 16·W]`: `[B, W, M·16]`."""
    batch, _, bands, frames = mel.shape
    return mel.reshape(batch, bands, frames // STRIDE, STRIDE).transpose(1, 2).flatten(2)


def mel_of_blocks(columns: Tensor, bands: int) -> Tensor:
    """`[B, 1, M, 16·W]` with these columns `[B, W, M·16]`."""
    batch, width, _ = columns.shape
    return columns.reshape(batch, width, bands, STRIDE).transpose(1, 2).flatten(2).unsqueeze(1)


@torch.no_grad()
def start_from_components(
    encoder: TransformEncoder, decoder: TransformDecoder, columns: Iterable[Tensor], distinct: int
) -> None:
    """Make the linear maps project on the strongest components of float `columns`, `[N, M·16]` at a time, and back.

    `distinct` is how many of them do not overlap with others. Components go to the rows of the grid in turn, there and
    back, so that all rows have about as much to say and can share their codebooks.
    """
    mean, covariance = _moments(columns)
    covariance = _shrunk(covariance, encoder.rows, distinct)
    outputs = encoder.linear.weight.shape[0]
    enough = min(outputs + 32, len(mean))  # for all but some millionths of what `outputs` components can hold
    _, _, found = torch.svd_lowrank(covariance.cpu(), q=enough)  # not every GPU has it
    strongest = found[:, :outputs].to(mean.device)
    components = torch.zeros(len(mean), outputs, device=mean.device)
    components[:, _places(outputs, encoder.rows)[: strongest.shape[1]]] = strongest
    encoder.linear.start_from(components.T, -components.T @ mean)
    decoder.linear.start_from(components, mean)


def _moments(columns: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean `[M·16]` and covariance `[M·16, M·16]` of all columns; there is at least one."""
    columns = iter(columns)
    first = next(some for some in columns if len(some))
    near = first.mean(dim=0)  # to take squares about: the sums stay small, and exact
    total, squares, count = torch.zeros_like(near), near.new_zeros(len(near), len(near)), 0
    for some in itertools.chain([first], columns):
        away = some - near
        total, count = total + away.sum(dim=0), count + len(some)
        for at in range(0, len(near), _ROWS_AT_ONCE):  # one half of the matrix says what the other does
            squares[at : at + _ROWS_AT_ONCE, at:].addmm_(away[:, at : at + _ROWS_AT_ONCE].T, away[:, at:])
    shift = total / count
    return near + shift, (squares.triu() + squares.triu(1).T) / count - torch.outer(shift, shift)


def _shrunk(covariance: Tensor, rows: int, distinct: int) -> Tensor:
    """The covariance of `[N, rows·256]`, drawn to one in which rows have nothing to do with each other.

    Few sounds say much about what a patch of a mel looks like, and little about whole columns. The shrinking is that of
    Ledoit and Wolf 2004, with a prior in place of their estimate of its weight.
    """
    cells = len(covariance) // rows
    patch = covariance.reshape(rows, cells, rows, cells).diagonal(dim1=0, dim2=2).mean(dim=-1)
    energy = covariance.diagonal().reshape(rows, -1).sum(dim=1)
    share = (energy / patch.trace().clamp(min=1e-12)).diag()
    prior = torch.kron(share, patch)
    return torch.lerp(covariance, prior, _PRIOR_COLUMNS / (_PRIOR_COLUMNS + distinct))


def _places(count: int, rows: int) -> Tensor:
    """Where in the vectors of a column, row by row, the n-th component goes: int64 `[count]`."""
    dim = count // rows
    row = torch.arange(rows).expand(dim, rows).clone()
    row[1::2] = row[1::2].flip(1)
    return (row * dim + torch.arange(dim)[:, None]).flatten()
