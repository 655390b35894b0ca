"""How much sound one file may hold, so that no file, however it came about, takes the machine's memory."""

import math

from pydantic import Field
from pydantic.dataclasses import dataclass

from distill.errors import AudioError, ConfigError
from distill.schema import VALIDATED, Validated

_GIB = 1 << 30
_SAMPLE_BYTES = 4  # float32


@dataclass(frozen=True, config=VALIDATED)
class AudioLimits(Validated):
    """The longest, largest, slowest and fastest file that is read; `gib` counts samples decoded to float32.

    Raises `ConfigError` for a bad value. The methods raise `AudioError` for a file that exceeds a limit, and say which.
    """

    hours: float = Field(default=2.0, gt=0, allow_inf_nan=False)
    gib: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    channels: int = Field(default=8, ge=1)
    min_hz: int = Field(default=4_000, ge=1)
    max_hz: int = Field(default=384_000, ge=1)

    def __post_init__(self) -> None:
        if self.min_hz > self.max_hz:
            raise ConfigError(f"min_hz is {self.min_hz}, more than max_hz, which is {self.max_hz}; swap them")

    def check_format(self, sample_rate: int, channels: int) -> None:
        """Refuse a rate in Hz or a number of channels outside the limits."""
        if channels > self.channels:
            raise AudioError(f"has {channels} channels; {_raise(self.channels, '', 'channels', channels)}")
        if sample_rate > self.max_hz:
            raise AudioError(f"has a rate of {sample_rate} Hz; {_raise(self.max_hz, ' Hz', 'max_hz', sample_rate)}")
        if sample_rate < self.min_hz:
            raise AudioError(
                f"has a rate of {sample_rate} Hz; the limit is {self.min_hz} Hz; "
                f"lower it with --limit min_hz={sample_rate}"
            )

    def check_claim(self, frames: int, sample_rate: int, channels: int) -> None:
        """Refuse a header that promises more frames than the limits allow."""
        hours, gib = frames / sample_rate / 3600, self._gib(frames, channels)
        if hours > self.hours:
            raise AudioError(f"claims to last {hours:.4g} h; {_raise(self.hours, ' h', 'hours', math.ceil(hours))}")
        if gib > self.gib:
            raise AudioError(f"claims {gib:.3g} GiB of samples; {_raise(self.gib, ' GiB', 'gib', math.ceil(gib))}")

    def check_decoded(self, frames: int, sample_rate: int, channels: int) -> None:
        """Refuse a file of which so many frames have been decoded, when that is too much already."""
        if frames > self.hours * 3600 * sample_rate:
            raise AudioError(f"lasts longer than the limit of {self.hours:g} h; raise it with --limit hours=HOURS")
        if self._gib(frames, channels) > self.gib:
            raise AudioError(f"holds more samples than the limit of {self.gib:g} GiB; raise it with --limit gib=GIB")

    @staticmethod
    def _gib(frames: int, channels: int) -> float:
        return frames * channels * _SAMPLE_BYTES / _GIB


def _raise(limit: float, unit: str, name: str, needed: object) -> str:
    return f"the limit is {limit:g}{unit}; raise it with --limit {name}={needed}"
