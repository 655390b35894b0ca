"""The RVQ-VAE's encoder and decoder: transform coding of blocks of 16 frames, the columns of the mel, to vectors.

The bands of a sound are highly correlated at any moment, and so are neighbouring frames. The encoder is therefore one
linear map of a whole column, which starts as the principal components of the collection's own columns (Karhunen-Loève):
no network finds those by gradient descent in the minutes that training takes, and the model is a working transform
codec before its first step. Training goes on from there, and a small network beside the decoder's linear map sees the
neighbouring columns and corrects what components and codes miss.
"""

import itertools
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from distill.models.blocks import STRIDE, widening

WIDTHS = (8, 32, 64)  # of the correcting network
_SMALL = 0.01  # of the usual initial weights: the network corrects next to nothing at first, but gets a gradient
_ROWS_AT_ONCE = 256  # of a covariance
_PRIOR_COLUMNS = 64  # number of columns of evidence that the prior covariance counts as


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


class ScaledLinear(nn.Module):
    """A linear layer whose stored weights are about 1 (the equalised learning rate of Karras et al. 2018, sec. 4.1).

    Adam moves each weight by about the learning rate: the small ones of a layer with thousands of inputs would be
    overwritten in a few steps.
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
        """Set the weights that the layer applies, float `[outputs, inputs]`, and its bias, `[outputs]`."""
        self.weight.copy_(weight / self.scale)
        self.bias.copy_(bias)


def frame_blocks(mel: Tensor) -> Tensor:
    """The columns of a mel `[B, 1, M, 16·W]`, flattened: `[B, W, M·16]`."""
    batch, _, bands, frames = mel.shape
    return mel.reshape(batch, bands, frames // STRIDE, STRIDE).transpose(1, 2).flatten(2)


def mel_of_blocks(columns: Tensor, bands: int) -> Tensor:
    """The mel `[B, 1, M, 16·W]` with the flattened columns `[B, W, M·16]`; the inverse of `frame_blocks`."""
    batch, width, _ = columns.shape
    return columns.reshape(batch, width, bands, STRIDE).transpose(1, 2).flatten(2).unsqueeze(1)


@torch.no_grad()
def start_from_components(
    encoder: TransformEncoder, decoder: TransformDecoder, columns: Iterable[Tensor], distinct: int
) -> None:
    """Start the linear maps as the projection on the strongest principal components of `columns`, and its inverse.

    `columns` come as float `[N, M·16]`; `distinct` is the number of those that do not overlap others. Components
    are dealt to the rows of the grid in turn, there and back, so that all rows carry about as much and can share their
    codebooks.
    """
    mean, covariance = _mean_and_covariance(columns)
    covariance = _shrink_covariance(covariance, encoder.rows, distinct)
    outputs = encoder.linear.weight.shape[0]
    # Finding only the strongest components takes less time than a full decomposition; with 32 more than needed, the
    # randomised search misses only some millionths of what `outputs` components can hold.
    enough = min(outputs + 32, len(mean))
    _, _, found = torch.svd_lowrank(covariance.cpu(), q=enough)  # on the CPU: not every GPU backend has it
    strongest = found[:, :outputs].to(mean.device)
    components = torch.zeros(len(mean), outputs, device=mean.device)
    components[:, _component_order(outputs, encoder.rows)[: strongest.shape[1]]] = strongest
    encoder.linear.start_from(components.T, -components.T @ mean)
    decoder.linear.start_from(components, mean)


def _mean_and_covariance(columns: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean `[M·16]` and covariance `[M·16, M·16]` of all columns, of which there is at least one."""
    columns = iter(columns)
    first = next(some for some in columns if len(some))
    near = first.mean(dim=0)  # a provisional mean: sums of squares about it stay small, and so precise in float32
    total, squares, count = torch.zeros_like(near), near.new_zeros(len(near), len(near)), 0
    for some in itertools.chain([first], columns):
        away = some - near
        total, count = total + away.sum(dim=0), count + len(some)
        for at in range(0, len(near), _ROWS_AT_ONCE):  # the upper half suffices: the matrix is symmetric
            squares[at : at + _ROWS_AT_ONCE, at:].addmm_(away[:, at : at + _ROWS_AT_ONCE].T, away[:, at:])
    shift = total / count
    return near + shift, (squares.triu() + squares.triu(1).T) / count - torch.outer(shift, shift)


def _shrink_covariance(covariance: Tensor, rows: int, distinct: int) -> Tensor:
    """Shrink the covariance `[rows·256, rows·256]` toward one in which rows are uncorrelated and all patches alike.

    A few sounds say much about what a patch of a mel looks like, but little about whole columns: twenty drum hits have
    too few of these to tell 2,048 directions apart. The shrinkage is that of Ledoit and Wolf 2004, with a fixed weight
    of the prior in place of their estimate.
    """
    cells = len(covariance) // rows
    patch = covariance.reshape(rows, cells, rows, cells).diagonal(dim1=0, dim2=2).mean(dim=-1)
    energy = covariance.diagonal().reshape(rows, -1).sum(dim=1)
    share = (energy / patch.trace().clamp(min=1e-12)).diag()
    prior = torch.kron(share, patch)
    return torch.lerp(covariance, prior, _PRIOR_COLUMNS / (_PRIOR_COLUMNS + distinct))


def _component_order(count: int, rows: int) -> Tensor:
    """The index of each component in the vectors of a column, row by row, strongest first: int64 `[count]`."""
    dim = count // rows
    row = torch.arange(rows).expand(dim, rows).clone()
    row[1::2] = row[1::2].flip(1)  # back again, or the first row would get the strongest of every round
    return (row * dim + torch.arange(dim)[:, None]).flatten()
