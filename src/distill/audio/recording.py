"""A decoded sound file."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import soxr

Samples = npt.NDArray[np.float32]

_LEAST_OFFSET = 0.01  # of the peak
_OFFSET_PARTS, _OFFSET_FRAMES = 8, 2048
_CANCELLED = 0.1  # of the power that the channels would have together if they had nothing to do with each other


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
    unfinished: bool = False  # its header gives no length, or too little; all that is there was read

    @property
    def truncated(self) -> bool:
        """True if the header promised at least 0.1 s more than could be decoded."""
        return self.declared_frames - len(self.samples) > 0.1 * self.sample_rate

    @cached_property
    def centred(self) -> Samples:
        """The samples without a constant offset (`without_offset`)."""
        return without_offset(self.samples)

    @property
    def has_offset(self) -> bool:
        """True if a channel had a constant offset."""
        return self.centred is not self.samples

    @cached_property
    def cancels(self) -> bool:
        """True if the channels cancel each other out, so that some are turned round where they are mixed."""
        return bool((_signs(self.centred) < 0).any())

    @cached_property
    def mixed(self) -> Samples:
        """The channels mixed (`mix`): float32 `[frames]`."""
        return mix(self.centred)

    def mono(self, sample_rate: int) -> Samples:
        """Float32 `[frames]` at `sample_rate` Hz: the channels mixed, scaled down if that exceeds ±1."""
        return within_full_scale(self.mixed, self.sample_rate, sample_rate)

    def mono_or_stereo(self, sample_rate: int) -> Samples:
        """Float32 `[frames, 2]` at `sample_rate` Hz of a stereo recording; `mono`, `[frames]`, of any other."""
        if self.samples.shape[1] != 2:
            return self.mono(sample_rate)
        return within_full_scale(self.centred, self.sample_rate, sample_rate)


def without_offset(samples: Samples) -> Samples:
    """Float32 `[frames, channels]` without the constant offset (DC) of a channel; as they are where none has any."""
    if len(samples) < _OFFSET_FRAMES:  # too few to tell
        return samples
    offsets = np.array([_offset(channel) for channel in samples.T], np.float32)
    return samples - offsets if offsets.any() else samples


def _offset(channel: Samples) -> float:
    mean, least = float(channel.mean(dtype=np.float64)), _LEAST_OFFSET * peak_of(channel)
    if abs(mean) <= least:
        return 0.0
    # A kick has a mean as well. What is there all the time is the offset.
    medians = (float(np.median(part)) for part in np.array_split(channel, _OFFSET_PARTS))
    return mean if all(median * np.sign(mean) > least for median in medians) else 0.0


def mix(samples: Samples) -> Samples:
    """Float32 `[frames, channels]` as `[frames]`: the mean of the channels.

    Where they cancel each other out, those against the strongest one are turned round first: of stereo, that is half
    the difference.
    """
    channels = samples.shape[1]
    # A matrix product takes a tenth of the time of `mean` over so short an axis.
    return samples[:, 0] if channels == 1 else samples @ (_signs(samples) / np.float32(channels))


def _signs(samples: Samples) -> Samples:
    """The sign float32 `[channels]` with which each channel is mixed."""
    alike = samples.T @ samples
    powers = alike.diagonal()
    if alike.sum() >= _CANCELLED * powers.sum():
        return np.ones(len(alike), np.float32)
    return np.where(alike[powers.argmax()] < 0, -1, 1).astype(np.float32)


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
