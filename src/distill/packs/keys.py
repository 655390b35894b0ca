"""Which keys of a keyboard play which sound."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from distill.packs.sounds import SoundFile

FIRST_KEY, LAST_KEY = 36, 127  # MIDI: C1, where drum pads begin, and the last there is
ONE_SHOTS = LAST_KEY - FIRST_KEY + 1  # that fit on a keyboard


@dataclass(frozen=True)
class Zone:
    """The MIDI keys from `low` to `high` that play a sound, at its own pitch on `root`, `cents` off."""

    sound: SoundFile
    low: int
    high: int
    root: int
    cents: float = 0.0
    one_shot: bool = True


def zones(sounds: Sequence[SoundFile]) -> list[Zone]:
    """A key for each of at most `ONE_SHOTS` sounds, from `FIRST_KEY` up.

    Sounds of clear and different pitches are spread around their own keys instead, as one instrument.
    """
    keys = [sound.key for sound in sounds if sound.key is not None]
    if len(keys) == len(sounds) and len({round(key) for key in keys}) == len(keys):
        return _spread(sounds)
    return [Zone(sound, key, key, key) for key, sound in enumerate(sounds, FIRST_KEY)]


def _spread(sounds: Sequence[SoundFile]) -> list[Zone]:
    """Each sound from half way to the next lower one to half way to the next higher."""
    placed = sorted((sound.key, number) for number, sound in enumerate(sounds) if sound.key is not None)
    roots = [round(key) for key, _ in placed]
    starts = [0, *((low + high) // 2 + 1 for low, high in itertools.pairwise(roots)), LAST_KEY + 1]
    return [
        Zone(sounds[number], low, stop - 1, root, 100 * (root - key), one_shot=False)
        for (key, number), root, low, stop in zip(placed, roots, starts, starts[1:])
    ]
