"""The encoder and decoder of both families: a lapped transform of the mel, whose columns overlap by half.

Each column of the grid is 16 frames under a sine window, of which the next column shares eight, so that no border is
heard between them. The transform is separable, because a small collection says much about which bands sound together,
and little about whole columns: the bands of a frame become their principal components, each component's course over a
column its cosine series, and what is left of correlation is taken out by principal components once more. All three are
linear, and none has a constant term, so silence is 0 and stays 0. Training goes on from there.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distill.models.blocks import ScaledLinear

HOP = 8  # frames from one column to the next
SPAN = 2 * HOP  # frames of a column
COMPONENTS = 128  # of the bands of a frame, at most
_PRIOR_COLUMNS = 64  # number of columns of evidence that the prior, in which nothing is correlated, counts as
_SPARE = 32  # components more than needed, without which the randomised search would miss some of the last


class LappedEncoder(nn.Module):
    """Linear map of each column: float `[B, 1, M, 8·(W - 1)]`, with silence at 0, → `[B, D, H, W]`."""

    series: Tensor

    def __init__(self, bands: int, rows: int, dim: int) -> None:
        super().__init__()
        self.rows, components = rows, min(COMPONENTS, bands)
        self.spectral = ScaledLinear(bands, components, bias=False)
        self.linear = ScaledLinear(components * SPAN, rows * dim, bias=False)
        self.register_buffer("series", cosine_series(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Encode float `[B, 1, M, 8·(W - 1)]`."""
        vectors: Tensor = self.linear(self.courses(x)).unflatten(-1, (self.rows, -1))
        return vectors.permute(0, 3, 2, 1)

    def courses(self, x: Tensor) -> Tensor:
        """The cosine series of the components in each column: `[B, W, components · 16]`."""
        components = F.pad(self.spectral(x.squeeze(1).mT), (0, 0, HOP, HOP))
        return (components.unfold(1, SPAN, HOP) @ self.series).flatten(2)


class LappedDecoder(nn.Module):
    """The inverse of a `LappedEncoder`, as far as there is one: float `[B, D, H, W]` → `[B, 1, M, 8·(W - 1)]`."""

    series: Tensor

    def __init__(self, bands: int, rows: int, dim: int) -> None:
        super().__init__()
        components = min(COMPONENTS, bands)
        self.linear = ScaledLinear(rows * dim, components * SPAN, bias=False)
        self.spectral = ScaledLinear(components, bands, bias=False)
        self.register_buffer("series", cosine_series(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Decode float `[B, D, H, W]`."""
        columns = self.linear(x.permute(0, 3, 2, 1).flatten(2)).unflatten(-1, (-1, SPAN)) @ self.series.mT
        components = columns[:, :-1, :, HOP:] + columns[:, 1:, :, :HOP]  # [B, W - 1, components, 8]
        mel: Tensor = self.spectral(components.mT.flatten(1, 2))
        return mel.mT.unsqueeze(1)


def cosine_series() -> Tensor:
    """The map from 16 frames to the coefficients of their cosine series under a sine window: float32 `[16, 16]`.

    The squares of the windows of neighbouring columns add up to 1, so the transposed map, overlapped and added, inverts
    it.
    """
    place = torch.arange(SPAN) + 0.5
    cosines = torch.cos(math.pi * place[:, None] * torch.arange(SPAN) / SPAN) * math.sqrt(2 / SPAN)
    cosines[:, 0] /= math.sqrt(2)
    return torch.sin(math.pi * place / SPAN)[:, None] * cosines


@torch.no_grad()
def start_from_components(
    encoder: LappedEncoder,
    decoder: LappedDecoder,
    mels: Sequence[Tensor],
    check_cancelled: Callable[[], None] = lambda: None,
) -> None:
    """Start the linear maps as principal components, and their inverse, of mels `[B, 1, M, 8·n]` with silence at 0.

    `check_cancelled` is called now and then. Components of columns are dealt to the rows of the grid in turn, there and
    back, so that each row gets strong and weak ones and all can share their codebooks.
    """

    def each() -> Iterator[Tensor]:
        for mel in mels:
            check_cancelled()
            yield mel

    bands = _strongest(_moment(mel.squeeze(1).mT.flatten(0, 1) for mel in each())[0], encoder.spectral.outputs)
    encoder.spectral.start_from(bands.T)
    decoder.spectral.start_from(bands)
    moment, columns = _moment(encoder.courses(mel).flatten(0, 1) for mel in each())
    # A few sounds say little about how 2,048 numbers depend on each other (Ledoit and Wolf 2004, with a fixed weight).
    shrunk = torch.lerp(moment, moment.diagonal().diag(), _PRIOR_COLUMNS / (_PRIOR_COLUMNS + columns))
    strongest = _strongest(shrunk, encoder.linear.outputs)
    components = torch.zeros_like(strongest)
    components[:, _component_order(encoder.linear.outputs, encoder.rows)] = strongest
    encoder.linear.start_from(components.T)
    decoder.linear.start_from(components)


def _moment(vectors: Iterator[Tensor]) -> tuple[Tensor, int]:
    """The mean outer product `[N, N]` of vectors, which come as `[n, N]`, and the number of those that are not 0."""
    total, count = None, 0
    for some in vectors:
        if total is None:
            total = some.new_zeros(some.shape[1], some.shape[1])
        total.addmm_(some.T, some)  # in place: the matrix is larger than most batches
        count += int(some.any(dim=1).sum())
    assert total is not None
    return total / max(1, count), count


def _strongest(moment: Tensor, count: int) -> Tensor:
    """The `count` strongest eigenvectors of a symmetric matrix `[N, N]`, as columns `[N, count]`."""
    moment = moment.cpu()  # not every GPU backend has the decomposition
    if 2 * (count + _SPARE) < len(moment):
        found = torch.svd_lowrank(moment, q=count + _SPARE)[2][:, :count]
    else:
        found = torch.linalg.eigh(moment)[1].flip(1)[:, :count]
    return F.pad(found, (0, count - found.shape[1])).to(moment.device)


def _component_order(count: int, rows: int) -> Tensor:
    """The index of each component in the vectors of a column, row by row, strongest first: int64 `[count]`."""
    dim = count // rows
    row = torch.arange(rows).expand(dim, rows).clone()
    row[1::2] = row[1::2].flip(1)  # back again, or the first row would get the strongest of every round
    return (row * dim + torch.arange(dim)[:, None]).flatten()
