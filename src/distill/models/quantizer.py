"""The residual vector quantizer: Q codebooks, each coding the residual of the levels before it.

Codebooks follow the encoder by exponential moving averages (van den Oord et al. 2017, appendix A.1; the residual
form is SoundStream's, Zeghidour et al. 2021). Everything that changes is in buffers, so a state dict is the whole
state. Once initialised, no training step waits for the device: it indexes by no mask and branches on no value.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from distill.distributed import all_gather, all_reduce

NO_CODE = -1  # the index where there is nothing to code: padding and digital silence
_EPSILON = 1e-5
_DEAD_SHARE = 0.02  # of the mean usage: a code for what is loud and rare lives on few vectors, and must not die of it
_SMALL_SHARE = 0.7  # of the mean size: a smaller cluster has its centre redrawn during k-means
_ROWS_AT_ONCE = 1024  # vectors whose distances from all codes fit a processor's cache
_SEARCHED_AT_ONCE = 192  # vectors whose beams, with all their distances, fit that cache: more take twice the time
_KMEANS_VECTORS_PER_CODE = 32  # more cost time without changing the clusters
_SEED_VECTORS_PER_CODE = 4  # that its centres are drawn from
_KMEANS_VECTORS = 40_000  # at least, because the principal components are found from the same sounds


class Quantized(NamedTuple):
    """The result of a pass: `vectors` `[B, N, D]`, `indices` int64 `[B, N, Q]`, unweighted `commitment` `[Q]`."""

    vectors: Tensor
    indices: Tensor
    commitment: Tensor


class ResidualQuantizer(nn.Module):
    """Quantizes float `[B, N, D]` with `levels` codebooks of `size` codes."""

    # Buffers, not parameters: moving averages update them, no optimizer does.

    codebooks: Tensor
    usage: Tensor
    sums: Tensor
    initialized: Tensor

    def __init__(
        self,
        dim: int,
        size: int,
        levels: int,
        *,
        decay: float = 0.95,
        dead_threshold: float = 2.0,
        kmeans_init: bool = True,
        kmeans_iters: int = 10,
        beam: int = 8,
    ) -> None:
        super().__init__()
        self.dim, self.size, self.levels = dim, size, levels
        self.decay, self.dead_threshold, self.kmeans_iters = decay, dead_threshold, kmeans_iters
        self.beam = beam  # number of partial sums of codes that are kept from level to level
        start = torch.randn(levels, size, dim) / dim**0.5
        self.register_buffer("codebooks", start)  # [Q, K, D]
        self.register_buffer("usage", torch.ones(levels, size))  # [Q, K]: moving average of vectors per step
        self.register_buffer("sums", start.clone())  # [Q, K, D]: moving average of the sum of those vectors
        self.register_buffer("initialized", torch.tensor(not kmeans_init))
        self._ready: bool | None = None  # `initialized`, read only once: each reading waits for the device

    @property
    def ready(self) -> bool:
        """True once the codebooks hold more than random numbers."""
        if self._ready is None:
            self._ready = bool(self.initialized)
        return self._ready

    @property
    def kmeans_vectors(self) -> int:
        """The number of vectors that k-means uses at most."""
        return max(_KMEANS_VECTORS, _KMEANS_VECTORS_PER_CODE * self.size)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._ready = None  # the loaded state may date from before k-means

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Quantized:
        """Quantize float `[B, N, D]`; where bool `mask` `[B, N]` is False, nothing is coded, learnt or counted.

        In training mode, the codebooks are updated from the batch. The gradient passes straight through once, over the
        sum of the levels; each level's commitment pulls on its own residual, unaffected by the others.
        """
        coded = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device) if mask is None else mask
        if self.training and not self.ready:
            self.initialize(x.detach()[coded])
        flat, weight = x.flatten(0, 1), coded.flatten().to(x.dtype)
        found = None if self.training else self._search_coded(flat.detach(), coded.flatten())
        total, residuals, chosen, errors = torch.zeros_like(flat), [flat.detach()], [], []
        for level, codebook in enumerate(self.codebooks):
            chosen.append(_nearest(residuals[level], codebook) if found is None else found[level])
            total = total + codebook[chosen[level]]
            rest = flat - total
            residuals.append(rest.detach())  # the gradient of each commitment goes through its own `rest` alone
            errors.append(rest.square().sum(dim=-1) * weight)
        indices, error = torch.stack(chosen), torch.stack(errors)
        if self.training:
            self._learn(residuals[:-1], indices, error.detach(), coded.flatten())
        # The straight-through estimator: the value of `total`, the gradient of `flat`.
        straight = (flat + (total - flat).detach()) * weight.unsqueeze(-1)
        return Quantized(
            vectors=straight.view_as(x),
            indices=indices.T.reshape(*x.shape[:-1], self.levels).masked_fill(~coded.unsqueeze(-1), NO_CODE),
            commitment=error.sum(dim=-1) / (all_reduce(weight.sum()).clamp(min=1) * self.dim),
        )

    def embed(self, indices: Tensor) -> Tensor:
        """The vectors float `[..., D]` that int64 `indices` `[..., q]` stand for; q ≤ Q takes the first q levels."""
        coded = (indices != NO_CODE).unsqueeze(-1)
        levels = torch.arange(indices.shape[-1], device=indices.device)
        # NO_CODE is no index: it is looked up as code 0, then multiplied by zero.
        return (self.codebooks[levels, indices.clamp(min=0)] * coded).sum(dim=-2)

    def _search_coded(self, x: Tensor, coded: Tensor) -> Tensor:
        """Codes `[Q, N]` of those of `[N, D]` that are `coded`; the others get code 0, unlooked for."""
        found = torch.zeros(self.levels, len(x), dtype=torch.int64, device=x.device)
        if coded.any():
            found[:, coded] = self._search(x[coded])
        return found

    def _greedy(self, residual: Tensor) -> Tensor:
        """Codes `[Q, N]` of `[N, D]`, each the nearest to what the levels before it have left."""
        chosen = []
        for codebook in self.codebooks:
            chosen.append(_nearest(residual, codebook))
            residual = residual - codebook[chosen[-1]]
        return torch.stack(chosen)

    def _search(self, x: Tensor) -> Tensor:
        """Codes `[Q, N]` whose sum is close to `[N, D]`, by beam search (Babenko and Lempitsky 2014, sec. 3.2).

        The nearest code of one level can leave a larger error after the next levels than another code would. In
        training, and with a beam of 1, each level takes its nearest code: codebooks that learn from a search come out
        no better, and less evenly used.
        """
        if self.beam == 1:
            return self._greedy(x)
        parts = torch.split(x, _SEARCHED_AT_ONCE if x.device.type == "cpu" else len(x))
        return torch.cat([self.search_at_once(part) for part in parts], dim=1)

    def search_at_once(self, x: Tensor) -> Tensor:
        """The search for few vectors, as a function without branches, which can be exported."""
        count = x.shape[0]  # not `len`, which an export would take for a constant
        residual = x.unsqueeze(1)
        codes = torch.zeros(count, 1, 0, dtype=torch.int64, device=x.device)
        for codebook in self.codebooks:
            distances = _distances(residual.flatten(0, 1), codebook)
            parent, code = _smallest(distances.view(count, -1, self.size), self.beam)
            residual = _taken(residual, parent) - codebook[code]
            codes = torch.cat([_taken(codes, parent), code.unsqueeze(-1)], dim=-1)
        return codes[:, 0].T

    @torch.no_grad()
    def _learn(self, residuals: list[Tensor], indices: Tensor, error: Tensor, coded: Tensor) -> None:
        """Move the codebooks toward the vectors that chose their codes, then revive dead codes.

        `residuals` `Q × [N, D]` are the inputs of the levels, `indices` `[Q, N]` the codes they chose, `error` `[Q, N]`
        the squared distances that remained; bool `coded` `[N]` says which vectors count.
        """
        # An extra bin takes the vectors that do not count: selecting the others by a mask would wait for the device.
        bins = torch.where(coded, indices, self.size)
        sums = torch.stack([_sum_by_index(rest, index, self.size + 1) for rest, index in zip(residuals, bins)])
        counts = torch.zeros(self.levels, self.size + 1, device=error.device)
        counts.scatter_add_(1, bins, torch.ones_like(error))
        self.sums.lerp_(all_reduce(sums)[:, :-1], 1 - self.decay)
        self.usage.lerp_(all_reduce(counts)[:, :-1], 1 - self.decay)
        self.codebooks.copy_(self.sums / self._smoothed(self.usage).unsqueeze(-1))
        # Residuals and errors of all ranks in one exchange; revived last, so that the average does not undo it.
        seen = all_gather(torch.cat([torch.stack(residuals, dim=1), error.T.unsqueeze(-1)], dim=-1))  # [N, Q, D + 1]
        self._revive(list(seen[..., :-1].unbind(dim=1)), seen[..., -1].T.contiguous())

    def _smoothed(self, usage: Tensor) -> Tensor:
        # Laplace smoothing, so that there is no division by zero for a code without vectors.
        total = usage.sum(dim=-1, keepdim=True)
        return (usage + _EPSILON) / (total + self.size * _EPSILON) * total

    def _revive(self, residuals: list[Tensor], error: Tensor) -> None:
        """Move dead codes to some of the vectors `Q × [N, D]`, with mean usage so that they outlive the next steps.

        A code is dead if its usage is under the threshold, or under a share of the mean if that is lower. The vectors
        are drawn in proportion to their errors in `[Q, N]`, as in k-means++: codes go to where most is lost.
        """
        mean = self.usage.mean(dim=-1, keepdim=True)
        dead = self.usage < torch.clamp(_DEAD_SHARE * mean, max=self.dead_threshold)
        # Draw without replacement, and in fixed shapes: the earliest of random times. Padding has no error.
        drawn = (torch.rand_like(error).clamp(min=1e-30).log() / error.clamp(min=1e-30)).masked_fill(
            error <= 0, -torch.inf
        )
        picks = drawn.topk(min(error.shape[1], self.size)).indices
        # The n-th dead code takes the n-th pick; where picks run out, or have no error, it waits for a later step.
        rank = dead.long().cumsum(dim=-1) - 1
        pick = picks.gather(1, rank.clamp(0, picks.shape[1] - 1))
        dead = dead & (rank < picks.shape[1]) & (error.gather(1, pick) > 0)
        picked = torch.stack([rest[chosen] for rest, chosen in zip(residuals, pick)])
        self.codebooks.copy_(torch.where(dead.unsqueeze(-1), picked, self.codebooks))
        self.usage.copy_(torch.where(dead, mean, self.usage))
        self.sums.copy_(torch.where(dead.unsqueeze(-1), self.codebooks * self.usage.unsqueeze(-1), self.sums))

    @torch.no_grad()
    def initialize(self, x: Tensor, batches: float = 1, check_cancelled: Callable[[], None] = lambda: None) -> None:
        """Place all codebooks by k-means on float `[N, D]` from `batches` batches, each on the residual of the last.

        `check_cancelled` is called now and then; if it raises, all codebooks are to be placed anew.
        """
        x = x[x.isfinite().all(dim=-1)]  # one damaged sample would spoil all codebooks
        if len(x) == 0:
            return
        limit = self.kmeans_vectors
        residual = x if len(x) <= limit else x[torch.randperm(len(x), device=x.device)[:limit]]
        for level in range(self.levels):
            self.codebooks[level], counts = kmeans(residual, self.size, self.kmeans_iters, check_cancelled)
            # Usage is counted per batch; where k-means took a sample, its counts stand for all vectors.
            self.usage[level] = counts / batches * (len(x) / len(residual))
            self.sums[level] = self.codebooks[level] * self.usage[level].unsqueeze(-1)
            residual = residual - self.codebooks[level][_nearest(residual, self.codebooks[level])]
        self.initialized.fill_(True)
        self._ready = True

    def get_codebook_utilization(self, indices: Tensor) -> dict[str, dict[str, float]]:
        """Codebook health per level over int64 `indices` `[..., Q]`; entries without a code are left out.

        Utilization is used codes / K, perplexity exp(entropy of the code histogram), dead_codes the number of unused
        codes. Means of batches would not do: a small batch cannot use all codes, so pass the indices of the whole set.
        """
        counts = self.code_counts(indices)
        share = counts / counts.sum(dim=-1, keepdim=True).clamp(min=1)
        perplexity = torch.special.entr(share).sum(dim=-1).exp()
        used = (counts > 0).sum(dim=-1)
        return {
            f"level_{level}": {"utilization": n / self.size, "perplexity": p, "dead_codes": self.size - n}
            for level, (n, p) in enumerate(zip(used.tolist(), perplexity.tolist()))
        }

    def code_counts(self, indices: Tensor) -> Tensor:
        """Counts of the codes in int64 `indices` `[..., q]`: int64 `[q, K]`."""
        flat = indices.reshape(-1, indices.shape[-1]).T + 1  # NO_CODE, -1, is counted in column 0, which is dropped
        counts = torch.zeros(len(flat), self.size + 1, dtype=torch.int64, device=indices.device)
        return counts.scatter_add_(1, flat, torch.ones_like(flat))[:, 1:]


def _nearest(x: Tensor, codebook: Tensor) -> Tensor:
    """Indices int64 `[N]` of the nearest of the codes `[K, D]` to each of `[N, D]`."""
    parts = torch.split(x, _ROWS_AT_ONCE if x.device.type == "cpu" else max(1, len(x)))
    squares, codes = codebook.square().sum(dim=-1), codebook.T
    # Distances without the square of x, which is the same for all codes. Not `argmin`, which is not vectorised on a CPU
    # and takes four times as long.
    return torch.cat([torch.addmm(squares, part, codes, alpha=-2).min(dim=-1).indices for part in parts])


def _distances(x: Tensor, codebook: Tensor) -> Tensor:
    """Squared distances `[N, K]` of `[N, D]` from codes `[K, D]`.

    They come from one matrix product, |x|² - 2·x·c + |c|², whose two squares are further columns of the factors: to add
    them to so large a product would take longer than to compute it.
    """
    rows = torch.cat([x * -2, x.square().sum(dim=-1, keepdim=True), torch.ones_like(x[:, :1])], dim=-1)
    squares = codebook.square().sum(dim=-1, keepdim=True)
    return rows @ torch.cat([codebook, torch.ones_like(squares), squares], dim=-1).T


def _smallest(distances: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Indices of the `count` smallest of `[N, P, K]`, smallest first: along P and along K, `[N, count]` each.

    They lie in the `count` columns with the smallest minima, so only those have to be sorted.
    """
    columns = distances.amin(dim=1).topk(min(count, distances.shape[2]), largest=False, sorted=False).indices
    among = distances.gather(2, columns.unsqueeze(1).expand(-1, distances.shape[1], -1)).flatten(1)
    best = among.topk(min(count, among.shape[1]), largest=False).indices
    width = columns.shape[1]
    row = best // width
    return row, columns.gather(1, best - row * width)


def _taken(x: Tensor, index: Tensor) -> Tensor:
    """The rows `[N, P, D]` of `[N, P', D]` at `[N, P]`; `take_along_dim` computes a remainder for each, far slower."""
    return x.gather(1, index.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


def _sum_by_index(x: Tensor, index: Tensor, size: int) -> Tensor:
    """Sums `[size, D]` of the vectors `[N, D]` that have the same index `[N]`."""
    if x.is_cuda:  # `index_add_` adds in any order there; a matrix product gives the same result every time
        return nn.functional.one_hot(index, size).to(x.dtype).T @ x
    return x.new_zeros(size, x.shape[-1]).index_add_(0, index, x)


def _deterministic_cumsum(x: Tensor) -> Tensor:
    """Cumulative sum `[N]` of `[N]`, the same every time."""
    # On a GPU, the cumulative sum of a single row is added up in any order, that of several rows is not.
    return x.expand(2, -1).cumsum(dim=1)[0] if x.is_cuda else x.cumsum(dim=0)


def kmeans(
    x: Tensor, clusters: int, iterations: int, check_cancelled: Callable[[], None] = lambda: None
) -> tuple[Tensor, Tensor]:
    """Lloyd's algorithm on `[N, D]` from a k-means++ start: centres `[K, D]` and the sizes `[K]` of their clusters."""
    sample = x[torch.randperm(len(x), device=x.device)[: _SEED_VECTORS_PER_CODE * clusters]]
    centres = _kmeans_plus_plus(sample, clusters, check_cancelled)
    for iteration in range(iterations):
        check_cancelled()
        index = _nearest(x, centres)
        counts = torch.bincount(index, minlength=clusters).to(x.dtype)
        sums = _sum_by_index(x, index, clusters)
        centres = torch.where(counts.unsqueeze(-1) > 0, sums / counts.clamp(min=1).unsqueeze(-1), centres)
        # Redrawn from the vectors, the centres of small clusters go to where the vectors are: codes are used more
        # evenly, at no cost in distance.
        if iteration < iterations // 2:
            picks = torch.randint(len(x), (clusters,), device=x.device)
            centres = torch.where((counts < _SMALL_SHARE * counts.mean()).unsqueeze(-1), x[picks], centres)
    return centres, torch.bincount(_nearest(x, centres), minlength=clusters).to(x.dtype)


def _kmeans_plus_plus(x: Tensor, clusters: int, check_cancelled: Callable[[], None]) -> Tensor:
    """Draw starting centres `[K, D]` from `[N, D]`, each in proportion to the squared distance from those before."""
    picks = [torch.randint(len(x), (1,), device=x.device)]
    size = x.square().sum(dim=-1)
    distance = torch.full_like(size, torch.inf)
    for share in torch.rand(clusters - 1, 1, device=x.device):
        check_cancelled()
        pick = picks[-1]
        distance = torch.minimum(distance, torch.addmv(size + size[pick], x, x[pick[0]], alpha=-2).clamp(min=1e-12))
        reached = _deterministic_cumsum(distance)
        # Inverse sampling: a search in the cumulative sums. Where there are too few vectors, some are drawn again.
        picks.append(torch.searchsorted(reached, share * reached[-1]).clamp(max=len(x) - 1))
    return x[torch.cat(picks)]
