"""The settings that define a mel; part of every model file. Imports no torch."""

from pydantic import Field
from pydantic.dataclasses import dataclass

from distill.errors import ConfigError
from distill.schema import VALIDATED, Validated


@dataclass(frozen=True, config=VALIDATED)
class SpectrogramConfig(Validated):
    """The settings of a mel; stored in every model file, so that a model is always used with its own.

    A magnitude m becomes 2 · log(m / floor) / log(ceiling / floor) - 1, so floor → -1 and ceiling → +1.
    """

    sample_rate: int = Field(default=48_000, ge=4_000, le=384_000)  # Hz
    n_fft: int = Field(default=2048, ge=64, le=16_384)
    hop_length: int = Field(default=512, ge=16, le=8_192)
    n_mels: int = Field(default=128, ge=16, le=512, multiple_of=16)
    magnitude_floor: float = Field(default=1e-5, gt=0, lt=1, allow_inf_nan=False)
    magnitude_ceiling: float = Field(default=10.0, ge=1, le=1e6, allow_inf_nan=False)

    def __post_init__(self) -> None:
        if self.hop_length > self.n_fft // 2:  # windows would leave gaps between them, and no mel could be inverted
            raise ConfigError(f"hop_length is {self.hop_length}", f"it must be at most half of n_fft, {self.n_fft}")
        if self.n_fft > 32 * self.hop_length:  # one window would span the overlap of two blocks of the phase search
            raise ConfigError(f"n_fft is {self.n_fft}", f"it must be at most 32 times hop_length, {self.hop_length}")
