"""The residual vector quantizer: Q codebooks, each coding what the levels before it left over.

Codebooks follow the encoder by exponential moving averages (van den Oord et al. 2017, appendix A.1; the residual
form is SoundStream's, Zeghidour et al. 2021). Everything that changes is in buffers, so a state dict is the whole
state, and nothing in a training step waits for the device.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

NO_CODE = -1  # the index where there is nothing to code: padding and digital silence
_EPSILON = 1e-5
_DEAD_SHARE = 0.25  # of the mean usage: the small-batch form of the absolute dead-code threshold
_SMALL_SHARE = 0.5  # of the mean size: a cluster below it has its centre moved while k-means is at it
_KMEANS_VECTORS_PER_CODE = 64  # more do not change the clusters, only the time


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
        return _KMEANS_VECTORS_PER_CODE * self.size

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
        weight = coded.to(x.dtype).unsqueeze(-1)
        total, count = torch.zeros_like(x), weight.sum().clamp(min=1) * self.dim
        residual, indices, commitment = x, [], []
        for level, index in enumerate(self._search(x.detach()).unbind(dim=-1)):
            chosen = self.codebooks[level][index]
            commitment.append(((residual - chosen).square() * weight).sum() / count)
            if self.training:
                self._learn(level, residual.detach().flatten(0, 1), index.flatten(), weight.flatten())
            total, residual = total + chosen, residual - chosen
            indices.append(index.masked_fill(~coded, NO_CODE))
        straight = (x + (total - x).detach()) * weight
        return Quantized(straight, torch.stack(indices, dim=-1), torch.stack(commitment))

    def embed(self, indices: Tensor) -> Tensor:
        """The vectors float `[..., D]` that int64 `indices` `[..., q]` stand for; q ≤ Q codes the first q levels."""
        coded = (indices != NO_CODE).unsqueeze(-1)
        levels = torch.arange(indices.shape[-1], device=indices.device)
        return (self.codebooks[levels, indices.clamp(min=0)] * coded).sum(dim=-2)

    @staticmethod
    def _nearest(x: Tensor, codebook: Tensor) -> Tensor:
        """Index of the nearest code, by squared distance less the term that all codes share: `[..., D]` → `[...]`."""
        return (codebook.square().sum(dim=-1) - 2 * (x @ codebook.T)).argmin(dim=-1)

    def _search(self, x: Tensor) -> Tensor:
        """Codes `[..., Q]` whose sum comes near to `[..., D]`: a beam search (Babenko and Lempitsky 2014, sec. 3.2).

        The nearest code of one level can leave more to the next levels than another would. In training each level takes
        its nearest: codebooks that learn from a search come out no better.
        """
        width = 1 if self.training else self.beam
        residual = x.reshape(-1, 1, self.dim)
        codes = torch.zeros(len(residual), 1, 0, dtype=torch.int64, device=x.device)
        for codebook in self.codebooks:
            shared = residual.square().sum(dim=-1, keepdim=True)
            distance = (shared + codebook.square().sum(dim=-1) - 2 * (residual @ codebook.T)).flatten(1)
            best = distance.topk(min(width, distance.shape[1]), largest=False).indices
            parent, code = best // self.size, best % self.size
            residual = residual.take_along_dim(parent.unsqueeze(-1), dim=1) - codebook[code]
            codes = torch.cat([codes.take_along_dim(parent.unsqueeze(-1), dim=1), code.unsqueeze(-1)], dim=-1)
        return codes[:, 0].reshape(*x.shape[:-1], self.levels)

    @torch.no_grad()
    def _learn(self, level: int, x: Tensor, index: Tensor, weight: Tensor) -> None:
        """Move one codebook toward the vectors `[N, D]` that chose its codes, then revive the codes that died."""
        chosen = torch.zeros(len(x), self.size, dtype=x.dtype, device=x.device)
        chosen.scatter_(1, index.unsqueeze(1), weight.unsqueeze(1))
        self.usage[level].lerp_(chosen.sum(dim=0), 1 - self.decay)
        self.sums[level].lerp_(chosen.T @ x, 1 - self.decay)
        self.codebooks[level] = self.sums[level] / self._smoothed(self.usage[level]).unsqueeze(-1)
        self._revive(level, x, index, weight)

    def _smoothed(self, usage: Tensor) -> Tensor:
        # Laplace smoothing, which keeps a code without vectors from a division by zero.
        total = usage.sum()
        return (usage + _EPSILON) / (total + self.size * _EPSILON) * total

    def _revive(self, level: int, x: Tensor, index: Tensor, weight: Tensor) -> None:
        """Give dead codes the vectors of this batch that are coded worst, with mean usage so that they outlive it.

        Dead is a usage under the threshold, or under a share of the mean where the batch is too small for that.
        Vectors are drawn in proportion to their squared error (Gumbel top-k), as k-means++ would.
        """
        usage, mean = self.usage[level], self.usage[level].mean()
        dead = usage < torch.clamp(_DEAD_SHARE * mean, max=self.dead_threshold)
        error = (x - self.codebooks[level][index]).square().sum(dim=-1) * weight
        gumbel = -torch.empty_like(error).exponential_().log()
        picks = (error.clamp(min=1e-30).log() + gumbel).topk(min(len(x), self.size)).indices
        # The n-th dead code takes the n-th pick; where the picks run out, or are padding, the code waits.
        rank = dead.long().cumsum(0) - 1
        pick = picks[rank.clamp(0, len(picks) - 1)]
        dead = dead & (rank < len(picks)) & (error[pick] > 0)
        self.codebooks[level] = torch.where(dead.unsqueeze(-1), x[pick], self.codebooks[level])
        self.usage[level] = torch.where(dead, mean, usage)
        revived = self.codebooks[level] * self.usage[level].unsqueeze(-1)
        self.sums[level] = torch.where(dead.unsqueeze(-1), revived, self.sums[level])

    @torch.no_grad()
    def initialize(self, x: Tensor, batches: float = 1, go_on: Callable[[], None] = lambda: None) -> None:
        """Place all codebooks by k-means on float `[N, D]` from so many batches, each on the residual of the last.

        What `go_on` raises, called every now and then, leaves them to be placed anew.
        """
        x = x[x.isfinite().all(dim=-1)]  # one damaged sample must not decide over the codebooks
        if len(x) == 0:
            return
        limit = self.kmeans_vectors
        residual = x if len(x) <= limit else x[torch.randperm(len(x), device=x.device)[:limit]]
        for level in range(self.levels):
            self.codebooks[level], counts = kmeans(residual, self.size, self.kmeans_iters, go_on)
            self.usage[level] = counts / batches * (len(x) / len(residual))
            self.sums[level] = self.codebooks[level] * self.usage[level].unsqueeze(-1)
            residual = residual - self.codebooks[level][self._nearest(residual, self.codebooks[level])]
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


def kmeans(
    x: Tensor, clusters: int, iterations: int, go_on: Callable[[], None] = lambda: None
) -> tuple[Tensor, Tensor]:
    """Lloyd's algorithm on `[N, D]` from a k-means++ start: centres `[K, D]` and their sizes `[K]`."""
    centres = _kmeans_plus_plus(x, clusters, go_on)
    for iteration in range(iterations):
        go_on()
        index = ResidualQuantizer._nearest(x, centres)
        counts = torch.bincount(index, minlength=clusters).to(x.dtype)
        sums = torch.zeros_like(centres).index_add_(0, index, x)
        centres = torch.where(counts.unsqueeze(-1) > 0, sums / counts.clamp(min=1).unsqueeze(-1), centres)
        if iteration < iterations // 2:
            centres = _split_the_worst(x, index, centres, counts)
    return centres, torch.bincount(ResidualQuantizer._nearest(x, centres), minlength=clusters).to(x.dtype)


def _split_the_worst(x: Tensor, index: Tensor, centres: Tensor, counts: Tensor) -> Tensor:
    """Centres `[K, D]` of which the little used ones have moved into clusters with much squared error in all."""
    error = torch.zeros_like(counts).index_add_(0, index, (x - centres[index]).square().sum(dim=-1))
    member = (error / counts.clamp(min=1))[index]  # so a cluster is drawn by its error, any of its vectors alike
    picks = torch.multinomial(member + 1e-12, len(centres), replacement=True)
    return torch.where((counts < _SMALL_SHARE * counts.mean()).unsqueeze(-1), x[picks], centres)


def _kmeans_plus_plus(x: Tensor, clusters: int, go_on: Callable[[], None]) -> Tensor:
    """Starting centres `[K, D]` drawn from `[N, D]` in proportion to the squared distance from those before."""
    picks = [torch.randint(len(x), (1,), device=x.device)]
    distance = (x - x[picks[0]]).square().sum(dim=-1)
    for _ in range(clusters - 1):
        go_on()
        picks.append(torch.multinomial(distance + 1e-12, 1))  # fewer distinct vectors than codes: repeat some
        distance = torch.minimum(distance, (x - x[picks[-1]]).square().sum(dim=-1))
    return x[torch.cat(picks)]
