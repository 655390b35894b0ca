"""A decoded sound file."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import soxr

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Header:
    """The facts known about a file before it is decoded: it should have `frames` frames at `sample_rate` Hz."""

    sample_rate: int
    channels: int
    format: str
    frames: int


@dataclass(frozen=True)
class Recording:
    """A decoded file: `samples` float32 `[frames, channels]` at the file's own `sample_rate` in Hz."""

    samples: Samples
    sample_rate: int
    format: str
    declared_frames: int

    @property
    def truncated(self) -> bool:
        """True if the header promised at least 0.1 s more than could be decoded."""
        return self.declared_frames - len(self.samples) > 0.1 * self.sample_rate

    @cached_property
    def mixed(self) -> Samples:
        """The mean of the channels: float32 `[frames]`."""
        channels = self.samples.shape[1]
        # A matrix product takes a tenth of the time of `mean` over so short an axis.
        return self.samples[:, 0] if channels == 1 else self.samples @ np.full(channels, 1 / channels, np.float32)

    def mono(self, sample_rate: int) -> Samples:
        """Float32 `[frames]` at `sample_rate` Hz: the mean of the channels, scaled down if it exceeds ±1."""
        return within_full_scale(self.mixed, self.sample_rate, sample_rate)

    def mono_or_stereo(self, sample_rate: int) -> Samples:
        """Float32 `[frames, 2]` at `sample_rate` Hz of a stereo recording; `mono`, `[frames]`, of any other."""
        if self.samples.shape[1] != 2:
            return self.mono(sample_rate)
        return within_full_scale(self.samples, self.sample_rate, sample_rate)


def within_full_scale(samples: Samples, sample_rate: int, wanted_rate: int) -> Samples:
    """Float32 `[frames]` or `[frames, channels]` from one rate in Hz to another, scaled down if it exceeds ±1."""
    resampled = np.asarray(soxr.resample(samples, sample_rate, wanted_rate), dtype=np.float32)
    resampled = resampled if len(resampled) else samples[:1]  # a few frames at a high rate: keep one
    peak = peak_of(resampled)
    # Scaled down as a whole, because clipping would distort it, and a factor for each channel would move the sound.
    return resampled / np.float32(peak) if peak > 1 else resampled


def peak_of(samples: Samples) -> float:
    """The largest distance of float32 `samples` of any shape from zero; 0 where there are none."""
    return float(max(samples.max(initial=0.0), -samples.min(initial=0.0)))
