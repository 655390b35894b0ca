"""How loud a recording is to a model, at the model's rate, and what training gets of it."""

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from distill.audio.limits import AudioLimits
from distill.audio.recording import Recording, Samples, peak_of, within_full_scale

SILENT_DBFS = -80.0  # nothing in the sound is louder: the noise of 16 bits is not far below
_RAISED_PEAK = 0.5
_LOST = 0.03  # of the peak: what is left at the model's rate is not what was recorded


class Level(StrEnum):
    """The level of a sound: only sounds that are heard, or raised until they are, can be trained on."""

    HEARD = "heard"
    RAISED = "raised"  # below the usual limit, but not below the one that was set
    QUIET = "quiet"  # below the limit
    INAUDIBLE = "inaudible"  # at the model's rate, above half of which all of it lies
    SILENT = "silent"


@dataclass(frozen=True)
class Heard:
    """What a model hears of a recording: float32 `samples` `[frames]` at `sample_rate` Hz, their level and peak."""

    samples: Samples
    sample_rate: int
    level: Level
    peak: float

    @property
    def usable(self) -> bool:
        """True if it can be trained on."""
        return self.level in (Level.HEARD, Level.RAISED)

    def at(self, sample_rate: int) -> Samples:
        """Float32 `[frames]` in [-1, 1] at another rate in Hz, its level raised where it has to be."""
        return at_level(within_full_scale(self.samples, self.sample_rate, sample_rate), self.level)


def heard(recording: Recording, model_rate: int, limits: AudioLimits | None = None) -> Heard:
    """What a model of `model_rate` Hz hears of a recording; at the recording's own rate if that is not higher."""
    limits = limits or AudioLimits()
    rate = min(recording.sample_rate, model_rate)
    samples = recording.mixed if rate == recording.sample_rate else recording.mono(rate)
    before, peak = peak_of(recording.mixed), peak_of(samples)
    return Heard(samples, rate, _level(peak, before, limits.min_dbfs), peak)


def is_silent(recording: Recording) -> bool:
    """True if nothing in the mix of its channels reaches `SILENT_DBFS`."""
    return peak_of(recording.mixed) < amplitude(SILENT_DBFS)


def _level(peak: float, before: float, limit: float) -> Level:
    """The level of a sound with this peak, and this one before it was resampled; `limit` in dBFS."""
    if before < amplitude(min(limit, SILENT_DBFS)):
        return Level.SILENT
    if peak >= amplitude(limit):
        return Level.HEARD if peak >= amplitude(AudioLimits().min_dbfs) else Level.RAISED
    return Level.INAUDIBLE if peak < _LOST * before else Level.QUIET


def at_level(samples: Samples, level: Level) -> Samples:
    """The samples of a sound of this level as training gets them."""
    return samples * np.float32(_RAISED_PEAK / peak_of(samples)) if level is Level.RAISED else samples


def amplitude(dbfs: float) -> float:
    """The peak that a level in dBFS stands for."""
    return float(10 ** (dbfs / 20))


def dbfs(peak: float) -> float:
    """The level of a peak in dBFS."""
    return 20 * math.log10(peak) if peak > 0 else -math.inf
