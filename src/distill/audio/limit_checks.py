"""Checks of a sound file against limits; also for the worker process, which gets them validated and imports little."""

import math
from dataclasses import dataclass

from distill.errors import AudioError, RaiseLimit

_GIB = 1 << 30
_SAMPLE_BYTES = 4  # float32


@dataclass(frozen=True)
class LimitChecks:
    """The limits that `AudioLimits` validates; the methods raise `AudioError` and say which one is exceeded."""

    hours: float
    gib: float
    channels: int
    min_hz: int
    max_hz: int
    min_dbfs: float

    def check_format(self, sample_rate: int, channels: int) -> None:
        """Refuse a rate in Hz or a number of channels outside the limits."""
        if channels > self.channels:
            raise _refusal(f"has {channels} channels", f"{self.channels}", "channels", channels)
        if sample_rate > self.max_hz:
            raise _refusal(f"has a rate of {sample_rate} Hz", f"{self.max_hz} Hz", "max_hz", sample_rate)
        if sample_rate < self.min_hz:
            raise _refusal(f"has a rate of {sample_rate} Hz", f"{self.min_hz} Hz", "min_hz", sample_rate)

    def check_claim(self, frames: int, sample_rate: int, channels: int) -> None:
        """Refuse a header that promises more frames than the limits allow."""
        hours, gib = frames / sample_rate / 3600, self._gib(frames, channels)
        if hours > self.hours:
            raise _refusal(f"claims to last {hours:.4g} h", f"{self.hours:g} h", "hours", math.ceil(hours))
        if gib > self.gib:
            raise _refusal(f"claims {gib:.3g} GiB of samples", f"{self.gib:g} GiB", "gib", math.ceil(gib))

    def check_decoded(self, frames: int, sample_rate: int, channels: int) -> None:
        """Refuse a file once more than the limits allow has been decoded of it, whatever its header says."""
        # How much it would take is unknown, because the rest is never decoded; hence no number in the remedy.
        if frames > self.hours * 3600 * sample_rate:
            raise AudioError(f"lasts longer than the limit of {self.hours:g} h", RaiseLimit("hours", "HOURS"))
        if self._gib(frames, channels) > self.gib:
            raise AudioError(f"holds more samples than the limit of {self.gib:g} GiB", RaiseLimit("gib", "GIB"))

    @staticmethod
    def _gib(frames: int, channels: int) -> float:
        return frames * channels * _SAMPLE_BYTES / _GIB


def _refusal(found: str, limit: str, name: str, needed: int) -> AudioError:
    return AudioError(f"{found}; the limit is {limit}", RaiseLimit(name, f"{needed}"))
