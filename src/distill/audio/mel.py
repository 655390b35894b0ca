"""The mel scale: the bands of a mel, and its values, compressed magnitudes scaled to about [-1, 1].

Two values have a special meaning, so that a mel needs no mask beside it:

- `SILENCE` (just above -1): a frame of real sound in which nothing reaches the floor;
- `PADDING` (exactly -1, in every band): a frame after the end of the sound. It is not part of the sound, so it
  counts in no loss, no codebook and no health figure. A waveform ends at its last sample that is not zero.
"""

import math

import torch
from torch import Tensor, nn

from distill.audio.settings import SpectrogramConfig

PADDING = -1.0
SILENCE = -0.999

_MAX_VALUE = 1.5  # 30 dB above the ceiling by default: a model may overshoot a little, but no sound is that loud


def band_edges(sample_rate: int, n_mels: int) -> Tensor:
    """Frequencies in Hz, float64 `[n_mels + 2]`: band b rises from edge b to b + 1, and falls to b + 2."""
    top = _hz_to_mel(torch.tensor(sample_rate / 2, dtype=torch.float64))
    return _mel_to_hz(torch.linspace(0, float(top), n_mels + 2, dtype=torch.float64))


def mel_filters(sample_rate: int, n_fft: int, n_mels: int) -> Tensor:
    """Slaney's area-normalised triangular filters from 0 Hz to half the rate: float32 `[n_mels, n_fft/2 + 1]`."""
    edges = band_edges(sample_rate, n_mels)
    bins = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1, dtype=torch.float64)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    triangles = torch.minimum(rising, falling).clamp(min=0)
    return (triangles * (2 / (edges[2:] - edges[:-2]))[:, None]).float()


class MelScale(nn.Module):
    """The mel filters float32 `[M, F]` of a `SpectrogramConfig`, and the scale between band magnitudes and mel values.

    `blocks` are pairs of slices (bands, bins); outside of them, all filters are zero. `shares` `[M, F]` are the
    filters, scaled so that those of each bin add up to 1.
    """

    filters: Tensor
    shares: Tensor

    def __init__(self, config: SpectrogramConfig) -> None:
        super().__init__()
        self.config = config
        filters = mel_filters(config.sample_rate, config.n_fft, config.n_mels)
        self.register_buffer("filters", filters, persistent=False)  # not saved: they follow from the configuration
        self.register_buffer("shares", filters / filters.sum(dim=0).clamp(min=1e-10), persistent=False)
        self.blocks = _blocks(filters)
        self._log_floor = math.log(config.magnitude_floor)
        self._log_range = math.log(config.magnitude_ceiling) - self._log_floor

    def band_magnitudes(self, bin_magnitudes: Tensor) -> Tensor:
        """Band magnitudes `[B, M, T]` of STFT magnitudes `[B, F, T]`."""
        return torch.cat([self.filters[bands, bins] @ bin_magnitudes[:, bins] for bands, bins in self.blocks], dim=1)

    def energy(self, band_magnitudes: Tensor) -> Tensor:
        """About the energy `[...]` of bands `[..., M]`: the square of the mean over a filter, times its width."""
        return (band_magnitudes.square() / self.filters.sum(dim=1)).sum(dim=-1)

    def values(self, band_magnitudes: Tensor) -> Tensor:
        """Convert band magnitudes, of any shape, to mel values; never below `SILENCE`."""
        floor, power = self.config.magnitude_floor, self.config.power
        if power is None:
            log = band_magnitudes.clamp(min=floor).log()
            return ((log - self._log_floor) * (2 / self._log_range) - 1).clamp(min=SILENCE)
        above = (band_magnitudes + floor).pow(power) - floor**power
        value: Tensor = above * (2 / self.config.magnitude_ceiling**power) - 1
        return value.clamp(min=SILENCE)

    def magnitudes(self, values: Tensor) -> Tensor:
        """Convert mel values, of any shape, to band magnitudes: 0 for `SILENCE` and below."""
        floor, power = self.config.magnitude_floor, self.config.power
        above = values.clamp(PADDING, _MAX_VALUE) + 1
        if power is None:
            magnitude = (above * (self._log_range / 2) + self._log_floor).exp()
        else:
            root: Tensor = above * (self.config.magnitude_ceiling**power / 2) + floor**power
            magnitude = root.pow(1 / power) - floor
        return torch.where(values <= SILENCE, 0.0, magnitude)

    def louder(self, values: Tensor, gain: Tensor) -> Tensor:
        """Mel values, of any shape, of the same sounds `gain` times as loud; silence and padding stay as they are."""
        if self.config.power is None:
            # An addition instead of another spectrogram, because the values are logarithmic.
            moved = (values + gain.log() * (2 / self._log_range)).clamp(min=SILENCE)
        else:
            moved = self.values(self.magnitudes(values) * gain)
        return torch.where(values > SILENCE, moved, values)


def _blocks(filters: Tensor) -> list[tuple[slice, slice]]:
    """Split the filters `[M, F]` into four groups of neighbouring bands, each with the bins it reaches: (bands, bins).

    Four small matrix products are faster than one large one, most of whose factors would be zero.
    """
    found = []
    for bands in torch.arange(len(filters)).chunk(4):
        reached = filters[bands].any(dim=0).nonzero().flatten().tolist() or [0]
        found.append((slice(int(bands[0]), int(bands[-1]) + 1), slice(reached[0], reached[-1] + 1)))
    return found


def _hz_to_mel(hz: Tensor) -> Tensor:
    # Slaney's Auditory Toolbox: linear below 1 kHz, logarithmic above.
    return torch.where(hz < 1000, hz * 3 / 200, 15 + torch.log(hz.clamp(min=1e-9) / 1000) * 27 / math.log(6.4))


def _mel_to_hz(mel: Tensor) -> Tensor:
    return torch.where(mel < 15, mel * 200 / 3, 1000 * torch.exp((mel - 15) * math.log(6.4) / 27))
