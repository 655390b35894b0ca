"""The settings that define a mel; part of every model file. Imports no torch."""

from dataclasses import replace

from pydantic import Field
from pydantic.dataclasses import dataclass

from distill.audio.rates import LOWEST_RATE, USUAL_RATE
from distill.errors import ConfigError
from distill.schema import VALIDATED, Validated

DETAIL_RATIO = 4  # of the long window's length to that of the detail, and of their hops
BEFORE = {"power": None, "detail_mels": 0}  # settings that files of 0.1.0 do not have, and what was done then
_DETAIL_SHARE = 0.5  # of the weight of a row of detail in a mel, beside a row of the long window


@dataclass(frozen=True, config=VALIDATED)
class SpectrogramConfig(Validated):
    """The settings of a mel; stored in every model file, so that a model is always used with its own.

    Without `power`, a magnitude m becomes 2 · log(m / floor) / log(ceiling / floor) - 1, so floor → -1, ceiling → +1.
    With `power` p it becomes 2 · ((m + floor)^p - floor^p) / ceiling^p - 1, so 0 → -1 and ceiling → about +1.

    With `detail_mels`, each frame has further rows below its `n_mels`: the bands, through a window and a hop a quarter
    as long, of the four moments from the frame on.
    """

    sample_rate: int = Field(default=48_000, ge=4_000, le=384_000)  # Hz
    n_fft: int = Field(default=2048, ge=64, le=16_384)
    hop_length: int = Field(default=512, ge=16, le=8_192)
    n_mels: int = Field(default=128, ge=16, le=512, multiple_of=16)
    magnitude_floor: float = Field(default=1e-5, gt=0, lt=1, allow_inf_nan=False)
    magnitude_ceiling: float = Field(default=10.0, ge=1, le=1e6, allow_inf_nan=False)
    power: float | None = Field(default=None, ge=0.1, le=1, allow_inf_nan=False)
    detail_mels: int = Field(default=0, ge=0, le=128, multiple_of=16)

    def __post_init__(self) -> None:
        if self.hop_length > self.n_fft // 2:  # windows would leave gaps between them, and no mel could be inverted
            raise ConfigError(f"hop_length is {self.hop_length}", f"it must be at most half of n_fft, {self.n_fft}")
        if self.n_fft > 32 * self.hop_length:  # one window would span the overlap of two blocks of the phase search
            raise ConfigError(f"n_fft is {self.n_fft}", f"it must be at most 32 times hop_length, {self.hop_length}")
        if self.detail_mels and (self.power is None or self.hop_length % DETAIL_RATIO or self.n_fft % DETAIL_RATIO):
            raise ConfigError(
                f"detail_mels is {self.detail_mels}",
                f"that needs a power, and an n_fft and a hop_length that are multiples of {DETAIL_RATIO}",
            )

    def at_rate(self, sample_rate: int) -> "SpectrogramConfig":
        """These settings for a lower rate in Hz; raises `ConfigError` for one that no new model has.

        At half the rate and below, the windows have half as many samples, so that time keeps its detail. Between, that
        would give more frames in a second, and so more codes, than there are now.
        """
        if not LOWEST_RATE <= sample_rate <= USUAL_RATE:
            raise ConfigError(f"sample_rate is {sample_rate}", f"it must be from {LOWEST_RATE} to {USUAL_RATE}")
        share = 2 if 2 * sample_rate <= self.sample_rate else 1
        return replace(self, sample_rate=sample_rate, n_fft=self.n_fft // share, hop_length=self.hop_length // share)

    @property
    def frame_rate(self) -> float:
        """Frames in a second."""
        return self.sample_rate / self.hop_length

    @property
    def rows(self) -> int:
        """The number of rows of a mel: its bands, and those of the detail."""
        return self.n_mels + DETAIL_RATIO * self.detail_mels

    @property
    def detail(self) -> "SpectrogramConfig | None":
        """The settings of the detail as a mel of its own, or None."""
        if not self.detail_mels or self.power is None:
            return None
        return SpectrogramConfig(
            sample_rate=self.sample_rate,
            n_fft=self.n_fft // DETAIL_RATIO,
            hop_length=self.hop_length // DETAIL_RATIO,
            n_mels=self.detail_mels,
            magnitude_floor=self.magnitude_floor,
            # A higher ceiling gives smaller values, and so these rows a smaller share in errors and components.
            magnitude_ceiling=self.magnitude_ceiling * _DETAIL_SHARE ** (-1 / self.power),
            power=self.power,
        )
