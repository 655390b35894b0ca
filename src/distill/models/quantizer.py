"""The residual vector quantizer: Q codebooks, each coding what the levels before it left over.

Codebooks follow the encoder by exponential moving averages (van den Oord et al. 2017, appendix A.1; the residual
form is SoundStream's, Zeghidour et al. 2021). Everything that changes is in buffers, so a state dict is the whole
state, and nothing in a training step waits for the device.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from distill.distributed import all_gather, all_reduce

NO_CODE = -1  # the index where there is nothing to code: padding and digital silence
_EPSILON = 1e-5
_DEAD_SHARE = 0.5  # of the mean usage: the small-batch form of the absolute dead-code threshold
_SMALL_SHARE = 0.7  # of the mean size: a cluster below it has its centre moved while k-means is at it
_ROWS_AT_ONCE = 1024
_SEARCHED_AT_ONCE = 128  # vectors whose distances, beam and all, a processor's cache holds: more take twice the time
_KMEANS_VECTORS_PER_CODE = 64  # more do not change the clusters, only the time
_KMEANS_VECTORS = 40_000  # but components, too, are found from them


class Quantized(NamedTuple):
    """One pass: `vectors` float `[B, N, D]`, `indices` int64 `[B, N, Q]`, `commitment` float `[Q]`, unweighted."""

    vectors: Tensor
    indices: Tensor
    commitment: Tensor


class ResidualQuantizer(nn.Module):
    """Quantizes float `[B, N, D]` with `levels` codebooks of `size` codes."""

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
        self.beam = beam  # how many sums of codes are followed from level to level
        start = torch.randn(levels, size, dim) / dim**0.5
        self.register_buffer("codebooks", start)  # [Q, K, D]
        self.register_buffer("usage", torch.ones(levels, size))  # [Q, K]: moving average of vectors per step
        self.register_buffer("sums", start.clone())  # [Q, K, D]: moving average of the sum of those vectors
        self.register_buffer("initialized", torch.tensor(not kmeans_init))
        self._ready: bool | None = None  # `initialized`, read once, so that no step waits for the device

    @property
    def ready(self) -> bool:
        """Whether the codebooks hold more than random numbers."""
        if self._ready is None:
            self._ready = bool(self.initialized)
        return self._ready

    @property
    def kmeans_vectors(self) -> int:
        """How many vectors k-means has use for."""
        return max(_KMEANS_VECTORS, _KMEANS_VECTORS_PER_CODE * self.size)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._ready = None

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Quantized:
        """Quantize float `[B, N, D]`; where bool `mask` `[B, N]` is False nothing is coded, learnt or counted.

        In training mode the codebooks take a step after the batch. The gradient passes straight through once, over
        the sum of the levels; each level's commitment sees its own residual, undisturbed by the others.
        """
        coded = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device) if mask is None else mask
        if self.training and not self.ready:
            self.initialize(x.detach()[coded])
        flat, weight = x.flatten(0, 1), coded.flatten().to(x.dtype)
        found = None if self.training else self._search(flat.detach())
        total, residuals, chosen, errors = torch.zeros_like(flat), [flat.detach()], [], []
        for level, codebook in enumerate(self.codebooks):
            chosen.append(_nearest(residuals[level], codebook) if found is None else found[level])
            total = total + codebook[chosen[level]]
            rest = flat - total
            residuals.append(rest.detach())
            errors.append(rest.square().sum(dim=-1) * weight)
        indices, error = torch.stack(chosen), torch.stack(errors)
        if self.training:
            self._learn(residuals[:-1], indices, error.detach(), coded.flatten())
        straight = (flat + (total - flat).detach()) * weight.unsqueeze(-1)
        return Quantized(
            vectors=straight.view_as(x),
            indices=indices.T.reshape(*x.shape[:-1], self.levels).masked_fill(~coded.unsqueeze(-1), NO_CODE),
            commitment=error.sum(dim=-1) / (all_reduce(weight.sum()).clamp(min=1) * self.dim),
        )

    def embed(self, indices: Tensor) -> Tensor:
        """The vectors float `[..., D]` that int64 `indices` `[..., q]` stand for; q ≤ Q codes the first q levels."""
        coded = (indices != NO_CODE).unsqueeze(-1)
        levels = torch.arange(indices.shape[-1], device=indices.device)
        return (self.codebooks[levels, indices.clamp(min=0)] * coded).sum(dim=-2)

    def _search(self, x: Tensor) -> Tensor:
        """Codes `[Q, N]` whose sum comes near to `[N, D]`: a beam search (Babenko and Lempitsky 2014, sec. 3.2).

        The nearest code of one level can leave more to the next levels than another would. In training each level takes
        its nearest: codebooks that learn from a search come out no better.
        """
        at_once = _SEARCHED_AT_ONCE if x.device.type == "cpu" else max(1, len(x))
        return torch.cat([self._search_part(part) for part in torch.split(x, at_once)], dim=1)

    def _search_part(self, x: Tensor) -> Tensor:
        residual = x.unsqueeze(1)
        codes = torch.zeros(len(x), 1, 0, dtype=torch.int64, device=x.device)
        for codebook in self.codebooks:
            apart = _distances(residual.flatten(0, 1), codebook).add_(residual.square().sum(dim=-1).view(-1, 1))
            parent, code = _smallest(apart.view(len(x), -1, self.size), self.beam)
            residual = residual.take_along_dim(parent.unsqueeze(-1), dim=1) - codebook[code]
            codes = torch.cat([codes.take_along_dim(parent.unsqueeze(-1), dim=1), code.unsqueeze(-1)], dim=-1)
        return codes[:, 0].T

    @torch.no_grad()
    def _learn(self, residuals: list[Tensor], indices: Tensor, error: Tensor, coded: Tensor) -> None:
        """Move the codebooks toward the vectors that chose their codes, then revive the codes that died.

        `residuals` `Q × [N, D]` is what each level was to code, `indices` `[Q, N]` the codes it chose, `error` `[Q, N]`
        how far it was from it, squared; bool `coded` `[N]` says which vectors count.
        """
        bins = torch.where(coded, indices, self.size)  # one more bin, for those that do not
        sums = torch.stack([_sums_of(rest, index, self.size + 1) for rest, index in zip(residuals, bins)])
        counts = torch.zeros(self.levels, self.size + 1, device=error.device)
        counts.scatter_add_(1, bins, torch.ones_like(error))
        self.sums.lerp_(all_reduce(sums)[:, :-1], 1 - self.decay)
        self.usage.lerp_(all_reduce(counts)[:, :-1], 1 - self.decay)
        self.codebooks.copy_(self.sums / self._smoothed(self.usage).unsqueeze(-1))
        seen = all_gather(torch.cat([torch.stack(residuals, dim=1), error.T.unsqueeze(-1)], dim=-1))  # [N, Q, D + 1]
        self._revive(list(seen[..., :-1].unbind(dim=1)), seen[..., -1].T.contiguous())

    def _smoothed(self, usage: Tensor) -> Tensor:
        # Laplace smoothing, which keeps a code without vectors from a division by zero.
        total = usage.sum(dim=-1, keepdim=True)
        return (usage + _EPSILON) / (total + self.size * _EPSILON) * total

    def _revive(self, residuals: list[Tensor], error: Tensor) -> None:
        """Give dead codes some of the vectors `Q × [N, D]`, with mean usage so that they outlive the step.

        Dead is a usage under the threshold, or under a share of the mean where the batch is too small for that. They
        are drawn at random from those with an error in `[Q, N]`: so codes go to where vectors are, until all are used
        about alike. Drawn by that error, as in k-means++, they would be outliers, whose codes soon are dead again.
        """
        mean = self.usage.mean(dim=-1, keepdim=True)
        dead = self.usage < torch.clamp(_DEAD_SHARE * mean, max=self.dead_threshold)
        drawn = torch.rand_like(error).masked_fill(error <= 0, -1.0)
        picks = drawn.topk(min(error.shape[1], self.size)).indices
        # The n-th dead code takes the n-th pick; where the picks run out, or are padding, the code waits.
        rank = dead.long().cumsum(dim=-1) - 1
        pick = picks.gather(1, rank.clamp(0, picks.shape[1] - 1))
        dead = dead & (rank < picks.shape[1]) & (error.gather(1, pick) > 0)
        picked = torch.stack([rest[chosen] for rest, chosen in zip(residuals, pick)])
        self.codebooks.copy_(torch.where(dead.unsqueeze(-1), picked, self.codebooks))
        self.usage.copy_(torch.where(dead, mean, self.usage))
        self.sums.copy_(torch.where(dead.unsqueeze(-1), self.codebooks * self.usage.unsqueeze(-1), self.sums))

    @torch.no_grad()
    def initialize(self, x: Tensor, batches: float = 1, check_cancelled: Callable[[], None] = lambda: None) -> None:
        """Place all codebooks by k-means on float `[N, D]` from so many batches, each on the residual of the last.

        What `check_cancelled` raises, called every now and then, leaves them to be placed anew.
        """
        x = x[x.isfinite().all(dim=-1)]  # one damaged sample must not decide over the codebooks
        if len(x) == 0:
            return
        limit = self.kmeans_vectors
        residual = x if len(x) <= limit else x[torch.randperm(len(x), device=x.device)[:limit]]
        for level in range(self.levels):
            self.codebooks[level], counts = kmeans(residual, self.size, self.kmeans_iters, check_cancelled)
            self.usage[level] = counts / batches * (len(x) / len(residual))
            self.sums[level] = self.codebooks[level] * self.usage[level].unsqueeze(-1)
            residual = residual - self.codebooks[level][_clusters_of(residual, self.codebooks[level])]
        self.initialized.fill_(True)
        self._ready = True

    def get_codebook_utilization(self, indices: Tensor) -> dict[str, dict[str, float]]:
        """Health per level over all of int64 `indices` `[..., Q]`, entries without a code left out.

        Utilization is used codes / K, perplexity exp(entropy of the code histogram), dead_codes the unused.
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
        """How often each code occurs in int64 `indices` `[..., q]`: int64 `[q, K]`."""
        flat = indices.reshape(-1, indices.shape[-1]).T + 1  # NO_CODE counts in a column of its own
        counts = torch.zeros(len(flat), self.size + 1, dtype=torch.int64, device=indices.device)
        return counts.scatter_add_(1, flat, torch.ones_like(flat))[:, 1:]


def _nearest(x: Tensor, codebook: Tensor) -> Tensor:
    """Index of the nearest code: `[N, D]` → `[N]`."""
    return _distances(x, codebook).argmin(dim=-1)


def _distances(x: Tensor, codebook: Tensor) -> Tensor:
    """Squared distances `[N, K]` of `[N, D]` from the codes, less the square of x, which is the same for all codes."""
    return torch.addmm(codebook.square().sum(dim=-1), x, codebook.T, alpha=-2)


def _smallest(distances: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Where `[N, P, K]` has its `count` smallest, smallest first: their places among P and among K, `[N, count]` each.

    They are in the columns whose own smallest are the smallest: so few numbers have to be sorted.
    """
    columns = distances.amin(dim=1).topk(min(count, distances.shape[2]), largest=False, sorted=False).indices
    among = distances.take_along_dim(columns.unsqueeze(1), dim=2).flatten(1)
    best = among.topk(min(count, among.shape[1]), largest=False).indices
    width = columns.shape[1]
    return best // width, columns.take_along_dim(best % width, dim=1)


def _sums_of(x: Tensor, index: Tensor, size: int) -> Tensor:
    """The sums `[size, D]` of the vectors `[N, D]` with the same index `[N]`."""
    if x.is_cuda:  # where additions come in any order, but products of matrices in the same one every time
        return nn.functional.one_hot(index, size).to(x.dtype).T @ x
    return x.new_zeros(size, x.shape[-1]).index_add_(0, index, x)


def _running_sum(x: Tensor) -> Tensor:
    """The sums `[N]` of `[N]` up to each place."""
    return x.expand(2, -1).cumsum(dim=1)[0] if x.is_cuda else x.cumsum(dim=0)  # a single row it adds up in any order


def kmeans(
    x: Tensor, clusters: int, iterations: int, check_cancelled: Callable[[], None] = lambda: None
) -> tuple[Tensor, Tensor]:
    """Lloyd's algorithm on `[N, D]` from a k-means++ start: centres `[K, D]` and their sizes `[K]`."""
    centres = _kmeans_plus_plus(x, clusters, check_cancelled)
    for iteration in range(iterations):
        check_cancelled()
        index = _clusters_of(x, centres)
        counts = torch.bincount(index, minlength=clusters).to(x.dtype)
        sums = _sums_of(x, index, clusters)
        centres = torch.where(counts.unsqueeze(-1) > 0, sums / counts.clamp(min=1).unsqueeze(-1), centres)
        if iteration < iterations // 2:  # the little used ones begin anew where the vectors are
            picks = torch.randint(len(x), (clusters,), device=x.device)
            centres = torch.where((counts < _SMALL_SHARE * counts.mean()).unsqueeze(-1), x[picks], centres)
    return centres, torch.bincount(_clusters_of(x, centres), minlength=clusters).to(x.dtype)


def _clusters_of(x: Tensor, centres: Tensor) -> Tensor:
    """The nearest of `[K, D]` to each of `[N, D]`: int64 `[N]`; in parts, whose distances a cache can hold."""
    return torch.cat([_nearest(part, centres) for part in torch.split(x, _ROWS_AT_ONCE)])


def _kmeans_plus_plus(x: Tensor, clusters: int, check_cancelled: Callable[[], None]) -> Tensor:
    """Starting centres `[K, D]` drawn from `[N, D]` in proportion to the squared distance from those before."""
    picks = [torch.randint(len(x), (1,), device=x.device)]
    size = x.square().sum(dim=-1)
    distance = torch.full_like(size, torch.inf)
    for share in torch.rand(clusters - 1, 1, device=x.device):
        check_cancelled()
        pick = picks[-1]
        distance = torch.minimum(distance, torch.addmv(size + size[pick], x, x[pick[0]], alpha=-2).clamp(min=1e-12))
        reached = _running_sum(distance)
        picks.append(torch.searchsorted(reached, share * reached[-1]).clamp(max=len(x) - 1))  # repeat, where too few
    return x[torch.cat(picks)]
