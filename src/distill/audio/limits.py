"""Limits on the amount of sound in one file, so that no file, wherever it comes from, uses up the machine's memory."""

import math

from pydantic import Field
from pydantic.dataclasses import dataclass

from distill.errors import AudioError, ConfigError, RaiseLimit
from distill.schema import VALIDATED, Validated

_GIB = 1 << 30
_SAMPLE_BYTES = 4  # float32


@dataclass(frozen=True, config=VALIDATED)
class AudioLimits(Validated):
    """Limits on the length, size, channels and rate of a sound file; `gib` counts samples decoded to float32.

    Raises `ConfigError` for a bad value. The methods raise `AudioError` for a file that exceeds a limit, and say which.
    """

    hours: float = Field(default=2.0, gt=0, allow_inf_nan=False)
    gib: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    channels: int = Field(default=8, ge=1)
    min_hz: int = Field(default=4_000, ge=1)
    max_hz: int = Field(default=384_000, ge=1)

    def __post_init__(self) -> None:
        if self.min_hz > self.max_hz:
            raise ConfigError(f"min_hz is {self.min_hz}, more than max_hz, which is {self.max_hz}", "swap them")

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
