"""New sounds for the page: drawn, like a sound, between two or going on from one, and unlike what was thrown away."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from distill.audio.likeness import Portrait, difference, portrait
from distill.audio.recording import Samples
from distill.errors import ConfigError
from distill.models.loaded import LoadedFamily

How = Literal["draw", "vary", "extend", "morph"]

_STARTS = {"draw": 0, "vary": 1, "extend": 1, "morph": 2}  # how many sounds each starts from
_BATCHES = (1, 5, 10)  # drawn together: the first alone, so that it is soon there; the last again and again
_FAR_DB = 24.0  # about the median difference of two new sounds; those that lean on one of the collection differ by 5
_TRIES = 4  # for each sound that is asked for, to find one far enough from what is to be avoided


@dataclass(frozen=True)
class Avoided:
    """A sound that new ones are to be unlike, from `distance` 0 (anything will do) to 1 (as two sounds usually are)."""

    portrait: Portrait
    distance: float

    def margin(self, other: Portrait) -> float:
        """How much further away than it has to be another sound is, in decibels."""
        return difference(self.portrait, other) - _FAR_DB * self.distance


@dataclass(frozen=True)
class Wish:
    """What new sounds are asked for; they start from `sounds`, float `[S]` each at the model's rate."""

    how: How
    count: int
    seed: int
    sounds: Sequence[Samples] = ()
    strength: float = 0.5
    seconds: float | None = None
    temperature: float | None = None
    loop: bool = False
    moves: Mapping[str, float] = field(default_factory=dict)
    avoided: Sequence[Avoided] = ()

    def __post_init__(self) -> None:
        if len(self.sounds) != _STARTS[self.how]:
            raise ConfigError(f"{len(self.sounds)} sounds are given to start from", f"{_STARTS[self.how]} are expected")


@dataclass(frozen=True)
class NewSound:
    """A sound that was made, float32 `[S]`, its seed, and for a morph its share of the second sound."""

    samples: Samples
    seed: int
    share: float | None = None


def new_sounds(model: LoadedFamily, wish: Wish) -> Iterator[NewSound]:
    """The sounds of a wish, one after another; raises `ConfigError` where the model cannot make them."""
    if wish.how == "morph":
        shares = [step / (wish.count + 1) for step in range(1, wish.count + 1)]
        made = model.morph(wish.sounds[0], wish.sounds[1], shares, seed=wish.seed)
        return (NewSound(samples, wish.seed, share) for samples, share in zip(made, shares))
    if not wish.avoided:
        return itertools.islice(_drawn(model, wish), wish.count)
    return _apart(_drawn(model, wish), wish, model.sample_rate)


def _drawn(model: LoadedFamily, wish: Wish) -> Iterator[NewSound]:
    """Sounds without end, each of the next seed."""
    seed = wish.seed
    for size in itertools.chain(_BATCHES, itertools.repeat(_BATCHES[-1])):
        seeds = range(seed, seed + size)
        yield from map(NewSound, _batch(model, wish, seeds), seeds)
        seed += size


def _batch(model: LoadedFamily, wish: Wish, seeds: range) -> Iterator[Samples]:
    if wish.how == "draw":
        return model.generate(
            len(seeds), wish.seconds, seeds[0], wish.moves, temperature=wish.temperature, loop=wish.loop
        )
    if wish.how == "vary":
        return model.vary(wish.sounds[0], wish.strength, len(seeds), seed=seeds[0])
    return (model.extend(wish.sounds[0], wish.seconds or 1.0, seed=seed) for seed in seeds)


def _apart(candidates: Iterator[NewSound], wish: Wish, sample_rate: int) -> Iterator[NewSound]:
    """As many candidates as are asked for: those far enough from all that is to be avoided, else the farthest."""
    found, near = 0, list[tuple[float, NewSound]]()
    for candidate in itertools.islice(candidates, _TRIES * wish.count):
        seen = portrait(candidate.samples, sample_rate)
        margin = min(avoided.margin(seen) for avoided in wish.avoided)
        if margin < 0:
            near.append((margin, candidate))
            continue
        yield candidate
        found += 1
        if found == wish.count:
            return
    for _, candidate in sorted(near, key=lambda one: -one[0])[: wish.count - found]:
        yield candidate
