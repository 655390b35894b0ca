"""Whether `vary`, `extend` and `inpaint` do what they say, on held-out sounds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bench.generation.figures import log_mel
from bench.quality.mel_distance import RATE
from bench.quality.split import at_48_khz
from distill.errors import ConfigError
from distill.models.loaded import LoadedFamily

STRENGTHS = (0.1, 0.3, 0.5, 0.8)
_RECOGNISED = 0.5  # the strength up to which a sound stays nearer to its source than to any other
_SEEDS = 2
_AROUND = 8  # frames on either side of a border: a column of codes, of 16 frames, lies across it
_LEAST_S = 0.6  # of a sound that is cut or filled
_HEARD_S = 0.25  # after a cut, in which the level counts
_FAINT = 1e-8  # -80 dB, below which nothing counts as softer


@dataclass(frozen=True)
class Variations:
    """The distances of varied sounds from their sources, in nats of 32 log-mel bands."""

    distances: list[float]  # mean, at each of `STRENGTHS`
    rising: float  # share of the sounds whose distance rises each time
    recognised: float  # share of the variations up to 0.5 that are nearer to their source than to any other sound


@dataclass(frozen=True)
class Borders:
    """How what is drawn joins on to a sound: medians over sounds.

    `extend` and `inpaint` are the step at a border over the usual one, relative to the original's at the same place;
    the levels are those of what was drawn over what the original has there, in dB: a sound that falls silent behind a
    smooth border has a low one.
    """

    extend: float
    inpaint: float
    extend_level: float
    inpaint_level: float


def variations(loaded: LoadedFamily, sources: Sequence[Tensor], others: Sequence[Tensor]) -> Variations:
    """Vary sounds `[S]` at 48 kHz, each at all strengths, and compare with all `others`, the sources among them."""
    spectra = [log_mel(other) for other in others]
    found, recognised = [], []
    for source in sources:
        own = log_mel(source)
        rivals = [one for one in spectra if one.shape != own.shape or not torch.equal(one, own)]
        distances = []
        for strength in STRENGTHS:
            made = [log_mel(one) for one in _varied(loaded, source, strength)]
            distances.append(float(np.mean([_distance(one, own) for one in made])))
            if strength <= _RECOGNISED:
                recognised += [_distance(one, own) < min(_distance(one, rival) for rival in rivals) for one in made]
        found.append(distances)
    table = np.array(found)
    return Variations(
        table.mean(axis=0).tolist(), float((np.diff(table) > 0).all(axis=1).mean()), float(np.mean(recognised))
    )


def borders(loaded: LoadedFamily, sounds: Sequence[Tensor]) -> Borders | None:
    """Cut held-out sounds in the middle and go on, and fill a gap there; None where the model can do neither."""
    found = []
    for sound in sounds:
        seconds = len(sound) / RATE
        if seconds < _LEAST_S:
            continue
        heard = loaded.waveform(sound.numpy(), RATE)
        half, begin, end = seconds / 2, 0.4 * seconds, 0.6 * seconds
        try:
            made = loaded.extend(heard[: len(heard) // 2], half), loaded.inpaint(heard, begin, end)
        except ConfigError:
            return None
        longer, mended = (at_48_khz(torch.from_numpy(one), loaded.sample_rate) for one in made)
        found.append(
            (
                _step_at(longer, [half]) / _step_at(sound, [half]),
                _step_at(mended, [begin, end]) / _step_at(sound, [begin, end]),
                _level(longer, half, half + _HEARD_S) - _level(sound, half, half + _HEARD_S),
                _level(mended, begin, end) - _level(sound, begin, end),
            )
        )
    return Borders(*np.median(found, axis=0).tolist()) if found else None


def _varied(loaded: LoadedFamily, source: Tensor, strength: float) -> list[Tensor]:
    made = loaded.vary(loaded.waveform(source.numpy(), RATE), strength, count=_SEEDS)
    return [at_48_khz(torch.from_numpy(one), loaded.sample_rate) for one in made]


def _distance(first: Tensor, second: Tensor) -> float:
    """The mean difference of log mels `[32, T]`, the shorter one followed by silence."""
    length = max(first.shape[1], second.shape[1])
    ends = (torch.nn.functional.pad(one, (0, length - one.shape[1]), value=np.log(1e-5)) for one in (first, second))
    return float((next(ends) - next(ends)).abs().mean())


def _level(sound: Tensor, begin: float, end: float) -> float:
    """The level in dB of a part of a sound `[S]` at 48 kHz, from `begin` to `end` in seconds."""
    part = sound[round(begin * RATE) : round(end * RATE)]
    return 10 * float((part.square().mean() + _FAINT).log10())


def _step_at(sound: Tensor, places: Sequence[float]) -> float:
    """The largest change from frame to frame around places in seconds, over the median of such around other places."""
    change = log_mel(sound).diff(dim=1).abs().mean(dim=0)
    width = 2 * _AROUND
    largest = change.unfold(0, width, 1).amax(dim=1) if len(change) >= width else change.amax()[None]
    starts = [min(max(0, round(place * RATE / 512) - _AROUND), len(largest) - 1) for place in places]
    return float(largest[starts].max() / largest.median().clamp(min=1e-6))
