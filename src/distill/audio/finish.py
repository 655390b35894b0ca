"""A sound made ready for a sampler: at the rate asked for, cut where nothing is heard any more, faded, and levelled."""

from dataclasses import dataclass

import numpy as np

from distill.audio.recording import Samples, peak_of, within_full_scale
from distill.errors import ConfigError

_INAUDIBLE = 10 ** (-60 / 20)  # of the peak
_FADE_IN_S, _FADE_OUT_S = 0.001, 0.010
LOWEST_PEAK = -60.0  # dBFS
LOWEST_RATE, HIGHEST_RATE = 8_000, 192_000  # Hz


@dataclass(frozen=True)
class Finish:
    """What is done to a sound before it becomes a file; raises `ConfigError` for impossible values.

    `peak` is in dBFS; without one, a sound stays as loud as it is, but within full scale. `rate` is in Hz, the sound's
    own if None; `stereo` puts a mono sound on both sides.
    """

    peak: float | None = None
    rate: int | None = None
    stereo: bool = False
    trim: bool = True
    fade: bool = True

    def __post_init__(self) -> None:
        if self.peak is not None and not LOWEST_PEAK <= self.peak <= 0:
            raise ConfigError(f"peak is {self.peak}", f"it must be from {LOWEST_PEAK:.0f} to 0 dBFS")
        if self.rate is not None and not LOWEST_RATE <= self.rate <= HIGHEST_RATE:
            raise ConfigError(f"rate is {self.rate}", f"it must be from {LOWEST_RATE} to {HIGHEST_RATE} Hz")


def finished(samples: Samples, rate: int, finish: Finish, *, seamless: bool = False) -> Samples:
    """Float32 `[S]` or `[S, channels]` at `rate` Hz, finished; what is `seamless` is neither cut nor faded."""
    wanted = finish.rate or rate
    made = within_full_scale(np.asarray(samples, np.float32), rate, wanted)
    if finish.trim and not seamless:
        made = _trimmed(made)
    if finish.fade and not seamless:
        made = _faded(made, wanted)
    peak = peak_of(made)
    if finish.peak is not None and peak > 0:
        made = made * np.float32(10 ** (finish.peak / 20) / peak)
    return np.stack([made, made], axis=1) if finish.stereo and made.ndim == 1 else made


def _trimmed(samples: Samples) -> Samples:
    """Up to the last sample that is heard; a silent sound as it is."""
    loudness = np.abs(samples) if samples.ndim == 1 else np.abs(samples).max(axis=1)
    heard = np.flatnonzero(loudness > _INAUDIBLE * loudness.max())
    return samples[: int(heard[-1]) + 1] if len(heard) else samples


def _faded(samples: Samples, rate: int) -> Samples:
    gain = np.ones(len(samples), np.float32)
    for seconds, part in ((_FADE_IN_S, gain), (_FADE_OUT_S, gain[::-1])):
        length = min(len(gain), round(seconds * rate))
        part[:length] *= np.sin(np.linspace(0, np.pi / 2, length, dtype=np.float32)) ** 2
    return samples * (gain if samples.ndim == 1 else gain[:, None])
