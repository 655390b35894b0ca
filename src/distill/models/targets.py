"""What sounds are led towards while they are drawn: vectors between those of other sounds, and beside or after them."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from distill.models.prior import CodePrior, embed
from distill.models.sampling import Target

_USUAL_COLUMNS = 12.0  # of a new sound, where no sound of the collection has an end
_OTHERS = 8  # sounds of the collection, of which the one that begins most alike is the second
_CROSSED = 0.4  # of the way from one to the other, at most
_TREND = 4  # columns from which it is told how fast a sound grows softer


def near_to(vectors: Tensor, nearness: float, count: int) -> Target:
    """The target that `count` sounds are near to `[W, H, D]`, and sound where it is not 0."""
    sounding = (vectors != 0).flatten(1).any(dim=1)
    return Target(vectors.expand(count, *vectors.shape), sounding.expand(count, *sounding.shape), nearness)


def between(first: Tensor, second: Tensor, share: float) -> Tensor:
    """Vectors `[W, H, D]` at a `share` of the way from `[W1, H, D]` to `[W2, H, D]`, and of the way between lengths."""
    columns = round((1 - share) * len(first) + share * len(second))
    start, end = (one[torch.linspace(0, len(one) - 1, columns).round().long()] for one in (first, second))
    return torch.lerp(start, end, share)


def bridge(vectors: Tensor, first: int, stop: int) -> Tensor | None:
    """`[W, H, D]`, but columns [first, stop) lead from the one before to the one after; None unless both sound."""
    if first == 0 or stop == len(vectors) or not (vectors[first - 1].any() and vectors[stop].any()):
        return None
    shares = torch.linspace(0, 1, stop - first + 2, device=vectors.device)[1:-1, None, None]
    lead = torch.lerp(vectors[first - 1], vectors[stop], shares)
    return torch.cat([vectors[:first], lead, vectors[stop:]])


def crossed(prior: CodePrior, sounds: Sequence[Tensor], codebooks: Tensor, seed: int) -> Tensor:
    """Vectors `[W, H, D]` between those of two sounds `[W, H, Q]`, nearer to the first and as long as it."""
    if not sounds:
        return torch.zeros(int(_USUAL_COLUMNS), prior.rows, codebooks.shape[-1], device=codebooks.device)
    draw = np.random.default_rng([seed, 1])
    # In a shuffled order, so that seeds in a row begin with different sounds.
    order = np.random.default_rng(0).permutation(len(sounds))
    numbers = [order[seed % len(order)], *draw.integers(len(sounds), size=_OTHERS)]
    first, *others = (embed(sounds[int(number)], codebooks) for number in numbers)
    # The one that begins most alike: else an attack could be softened by what has none, or has it a little later.
    second = min((padded(other, len(first))[1:] for other in others), key=lambda one: _difference(first[:2], one[:2]))
    return torch.lerp(first, second, float(draw.uniform(0, _CROSSED)))


def _difference(first: Tensor, second: Tensor) -> float:
    return float((first - second).square().sum())


def padded(vectors: Tensor, columns: int) -> Tensor:
    """`[W, H, D]` after a silent column, in so many columns after it."""
    made = vectors.new_zeros(1 + columns, *vectors.shape[1:])
    kept = vectors[:columns]
    made[1 : 1 + len(kept)] = kept
    return made


def going_on(known: Tensor, columns: int) -> Tensor:
    """`known` vectors `[W, H, D]`, then the last again and again, softer as they have grown: `[columns, H, D]`."""
    loud = known[-_TREND:].flatten(1).norm(dim=1).clamp(min=1e-6)
    softer = float(loud[-1] / loud[0]) ** (1 / max(1, len(loud) - 1))
    number = torch.arange(1, columns - len(known) + 1, device=known.device)
    return torch.cat([known, known[-1] * (min(1.0, softer) ** number)[:, None, None]])
