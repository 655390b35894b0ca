"""Limits on the amount of sound in one file, so that no file, wherever it comes from, uses up the machine's memory."""

from pydantic import Field
from pydantic.dataclasses import dataclass

from distill.audio.limit_checks import LimitChecks
from distill.errors import ConfigError
from distill.schema import VALIDATED, Validated


@dataclass(frozen=True, config=VALIDATED)
class AudioLimits(Validated, LimitChecks):
    """Limits on the length, size, channels, rate and level of a sound file; `gib` counts samples decoded to float32.

    A sound whose peak is below `min_dbfs` is left out; one that only a lower limit lets in has its level raised.

    Raises `ConfigError` for a bad value. The methods raise `AudioError` for a file that exceeds a limit, and say which.
    """

    hours: float = Field(default=2.0, gt=0, allow_inf_nan=False)
    gib: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    channels: int = Field(default=8, ge=1)
    min_hz: int = Field(default=4_000, ge=1)
    max_hz: int = Field(default=384_000, ge=1)
    min_dbfs: float = Field(default=-60, ge=-150, le=0, allow_inf_nan=False)

    def __post_init__(self) -> None:
        if self.min_hz > self.max_hz:
            raise ConfigError(f"min_hz is {self.min_hz}, more than max_hz, which is {self.max_hz}", "swap them")
