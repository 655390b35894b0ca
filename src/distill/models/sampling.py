"""Sampling of codes from a `CodePrior`, a pure function of the prior, the seed and what is asked for.

One mechanism serves new sounds, variations and morphs: the probabilities of codes are weighted by how near the code
lies to a target, from not at all (a new sound) to only (the target's own codes).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from distill.models.prior import CodePrior, Conditions, embed, features_at, is_sounding
from distill.models.quantizer import NO_CODE

_OVERTIME = 2  # columns that a sound may last longer than asked


@dataclass(frozen=True)
class Target:
    """Vectors `[B, W, H, D]` that sounds are to be near to, `nearness` 0 (of no weight) to 1 (nothing else counts)."""

    vectors: Tensor
    sounding: Tensor | None  # bool [B, W]; None where the prior decides
    nearness: float


@dataclass(frozen=True)
class Draw:
    """What is drawn: how many columns at most, under which conditions, how boldly, and from which random numbers.

    With a `temperature` below 1, likely codes are drawn more often than they occur. Each of `seeds` has random numbers
    of its own, so that but for rounding a sound does not depend on those drawn with it. What is `endless` sounds in
    every column.
    """

    columns: int
    asked: Conditions
    seeds: tuple[int, ...]
    temperature: float = 1.0
    endless: bool = False


@dataclass(frozen=True)
class Kept:
    """Codes int64 `[W, H, Q]`, or `[H, Q]` of a column, that a draw keeps unless they are `free`, a bool for each."""

    codes: Tensor
    free: Tensor

    def column(self, number: int) -> "Kept":
        """What is kept of a column."""
        return Kept(self.codes[number], self.free[number])

    @property
    def sounds(self) -> bool:
        """True if there are codes in what is kept."""
        return bool(((self.codes != NO_CODE) & ~self.free).any())

    def instead(self, drawn: Tensor, row: int | slice, level: int) -> Tensor:
        """Codes `[B]` of a row, or `[B, H]` of all, that were drawn, with those that are kept in their place."""
        return torch.where(self.free[row, level], drawn, self.codes[row, level])


@torch.no_grad()
def sample(
    prior: CodePrior,
    codebooks: Tensor,
    draw: Draw,
    prefix: Tensor | None = None,
    target: Target | None = None,
    kept: Kept | None = None,
) -> Tensor:
    """Codes int64 `[B, W, H, Q]`, W = `draw.columns`, that go on from a `prefix` `[B, W', H, Q]` and never change it.

    Without a prefix, they begin with a silent column, after which the sound sets in. What is `kept` counts for
    everything that is drawn after it: for later columns, and in its column for further levels and rows below.
    """
    prior.eval()  # a dropout would make it forget
    batch, device = len(draw.seeds), codebooks.device
    codes = torch.full((batch, draw.columns, prior.rows, prior.levels), NO_CODE, device=device)
    known = 1 if prefix is None else min(prefix.shape[1], draw.columns)
    if prefix is not None:
        codes[:, :known] = prefix[:, :known]
    noise = [np.random.default_rng(seed) for seed in draw.seeds]
    sampler = _Sampler(prior, codebooks, draw.temperature)
    place = torch.zeros(batch, device=device)
    memory, heard = None, None
    anywhere = torch.zeros(batch, prior.rows, codebooks.shape[-1], device=device), torch.zeros(batch, device=device)
    before = torch.zeros(batch, prior.rows, codebooks.shape[-1] + 1, device=device)
    sounded = torch.zeros(batch, device=device)
    for column in range(draw.columns):
        place = torch.where((place > 0) | (sounded > 0), place + 1, place)
        heard, memory = prior.advance(
            before.unsqueeze(1), sounded.unsqueeze(1), features_at(place.unsqueeze(1), draw.asked), memory
        )
        if column >= known:
            draws = torch.from_numpy(np.stack([one.random((1 + prior.levels, prior.rows)) for one in noise]))
            draws = draws.to(device, torch.float32)
            sounds = sampler.sounds(heard[:, 0], draws[:, 0, 0], place, draw.asked)
            if draw.endless:
                sounds = torch.ones_like(sounds)
            if target is not None and target.sounding is not None:
                sounds = _as_target(sounds, target.sounding, target.nearness, column)
            here = None if kept is None else kept.column(column)
            if here is not None and here.sounds:
                sounds = torch.ones_like(sounds)
            near = anywhere if target is None or column >= target.vectors.shape[1] else _target_at(target, column)
            drawn = sampler.column(heard[:, 0], before, draws[:, 1:], near, here)
            codes[:, column] = torch.where(sounds[:, None, None], drawn, NO_CODE)
        before = prior.normalized(embed(codes[:, column], codebooks))
        sounded = is_sounding(codes[:, column : column + 1])[:, 0].float()
    return codes


@dataclass(frozen=True)
class _Sampler:
    """Draws columns. What makes a code likely, and how near it lies to a target, is one product with `_codes`."""

    prior: CodePrior
    codebooks: Tensor
    temperature: float

    @cached_property
    def _codes(self) -> list[Tensor]:
        """The features, the vectors and the squares of all codes, `[hidden + D + 1, K]` for each level."""
        features = self.prior.features(self.codebooks)
        parts = zip(features, self.codebooks, self.codebooks.square().sum(dim=-1, keepdim=True))
        return [torch.cat(part, dim=-1).T.contiguous() for part in parts]

    @cached_property
    def _frequencies(self) -> Tensor:
        return self.prior.frequencies / self.temperature

    def sounds(self, heard: Tensor, draws: Tensor, place: Tensor, asked: Conditions) -> Tensor:
        """Bool `[B]`: whether the next column sounds. A sound sets in at once, and does not last far beyond its end."""
        probability: Tensor = self.prior.to_end(heard).squeeze(-1).sigmoid()
        over = (asked.columns > 0) & (place >= asked.columns + _OVERTIME)
        sounds: Tensor = ((draws < probability) | (place == 0)) & ~over
        return sounds

    def column(
        self, heard: Tensor, before: Tensor, draws: Tensor, near: tuple[Tensor, Tensor], kept: Kept | None
    ) -> Tensor:
        """The codes `[B, H, Q]` of a column, given uniform `draws` `[B, Q, H]`."""
        prior = self.prior
        rows = prior.rows_from(heard, before)
        pull = self._pull(*near)
        above, first = torch.zeros_like(rows[:, 0]), []
        for row in range(prior.rows):
            wanted = torch.cat([prior.sought(0, rows[:, row] + above) / self.temperature, pull[:, row]], dim=-1)
            code = _picked(torch.addmm(self._frequencies[row, 0], wanted, self._codes[0]), draws[:, 0, row])
            code = code if kept is None else kept.instead(code, row, 0)
            first.append(code)
            vector = embed(code.unsqueeze(-1), self.codebooks)
            above = above + prior.normalized(vector, row) @ prior.from_above[row]
        codes = torch.stack(first, dim=1).unsqueeze(-1)
        for level in range(1, prior.levels):
            partial = embed(codes, self.codebooks)
            state = prior.with_levels(level, rows, prior.normalized(partial))
            wanted = torch.cat([prior.sought(level, state) / self.temperature, self._pull(*near, partial)], dim=-1)
            code = _picked(wanted @ self._codes[level] + self._frequencies[:, level], draws[:, level])
            code = code if kept is None else kept.instead(code, slice(None), level)
            codes = torch.cat([codes, code.unsqueeze(-1)], dim=-1)
        return codes

    def _pull(self, vectors: Tensor, weight: Tensor, partial: Tensor | float = 0.0) -> Tensor:
        """Factors `[B, H, D + 1]` of the vectors and the squares of codes: minus the weighted distance of a code.

        The distance is that to what is left of `vectors` `[B, H, D]` after `partial`, without the square of what is
        left, which is the same for all codes.
        """
        scale = weight.view(-1, 1, 1) / self.prior.row_scale.square()  # [B, H, 1]
        return torch.cat([2 * scale * (vectors - partial), -scale], dim=-1)


def _picked(logits: Tensor, draws: Tensor) -> Tensor:
    """Codes `[…]` of logits `[…, K]`, by inversion of their distribution at `draws` `[…]`."""
    total = logits.softmax(dim=-1).cumsum(dim=-1)
    place = torch.searchsorted(total, (draws * total[..., -1]).unsqueeze(-1))
    return place.squeeze(-1).clamp(max=total.shape[-1] - 1)


def _target_at(target: Target, column: int) -> tuple[Tensor, Tensor]:
    """The vectors `[B, H, D]` that a column is to be near to, and the weights `[B]` of their distances."""
    # From nothing to all: at 0.5 a distance as large as a vector takes one nat for each of its numbers.
    nearness = min(target.nearness, 1 - 1e-4)
    weight = (nearness / (1 - nearness)) ** 2 / 2
    vectors = target.vectors[:, column]
    return vectors, weight * (vectors != 0).flatten(1).any(dim=1)  # where the target is silent, the prior decides


def _as_target(sounds: Tensor, sounding: Tensor, nearness: float, column: int) -> Tensor:
    """What sounds, `[B]`, but as in the target, `[B, W]`, where that counts for more than half."""
    if nearness <= 0.5:
        return sounds
    if column >= sounding.shape[1]:
        return torch.zeros_like(sounds)
    return sounding[:, column]
