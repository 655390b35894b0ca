"""The way back from mels that have detail: a phase search that is held to what both of their windows show."""

import torch
from torch import Tensor, nn

from distill.audio.limiter import fade_in, limit_peaks
from distill.audio.mel import MelScale
from distill.audio.settings import DETAIL_RATIO
from distill.audio.starting_phases import StartingPhases
from distill.audio.stft import istft, magnitudes, resynthesized, scaled, stft
from distill.audio.vocoder import (
    BIN_STEPS,
    MEL_STEPS,
    MOMENTUM,
    PhaseSearch,
    keep_phases,
    nonnegative_least_squares,
    set_bands,
    set_bins,
)

_HELD_BINS = 3  # the lowest, which keep their starting phases: tones meet their mirror images, and the search drifts
_DETAIL_WEIGHT = 0.4  # of the short window's estimate in the mean of both
_LEVEL_FRAMES = 17  # over which the level is compared: a gain that follows single frames would flutter
_MAX_LEVEL_GAIN = 2.0


class TwoWindowSearch(PhaseSearch):
    """A `PhaseSearch` for mels with detail, whose short window is not predicted but known.

    A long window shows pitch, a short one when things happen; a sound that looks right through both has little freedom
    left (consistent spectrograms at two resolutions; compare Le Roux et al. 2008). In the end its level is set to that
    of the mel, because the mean of estimates that disagree is too soft.
    """

    detail_window: Tensor

    def __init__(self, mel_scale: MelScale, detail_scale: MelScale) -> None:
        super().__init__(mel_scale)
        self.detail_scale = detail_scale
        self.starting_phases = StartingPhases(mel_scale)
        self.register_buffer("detail_window", torch.hann_window(detail_scale.config.n_fft), persistent=False)

    @torch.no_grad()
    def forward(self, mel: Tensor, length: int | None = None) -> Tensor:
        """Sound float32 `[B, 1, S]` in [-1, 1] of mels `[B, 1, M, T]`; S is `length`, or (T - 1) · hop if None."""
        return fade_in(limit_peaks(super().forward(mel, length)))

    def band_magnitudes(self, mel: Tensor) -> Tensor:
        """Magnitudes `[B, T, M]` of all rows of a mel `[B, 1, M, T]`."""
        bands, detail = self._split(mel.squeeze(1).float().mT)
        return torch.cat([self.mel_scale.magnitudes(bands), self.detail_scale.magnitudes(detail)], dim=-1)

    def _split(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        return rows[..., : self.mel_scale.config.n_mels], rows[..., self.mel_scale.config.n_mels :]

    def search(self, bands: Tensor, fixed_phases: Tensor | None = None) -> Tensor:
        """Sound `[B, (T - 1) · hop]` of magnitudes `[B, T, M]`, its first frames with `fixed_phases` `[B, T', F]`."""
        bands, moments = self._split(bands)
        moments = moments.reshape(len(moments), bands.shape[1] * DETAIL_RATIO, -1)  # [B, 4 · T, bands of the detail]
        long_magnitude = nonnegative_least_squares(bands, self.mel_scale)
        short_magnitude = nonnegative_least_squares(moments, self.detail_scale)
        start = self.starting_phases(bands, fixed_phases)
        hop = self.mel_scale.config.hop_length
        sound = estimate = istft(scaled(start, long_magnitude), self.window, hop)
        for step in range(BIN_STEPS + MEL_STEPS):
            if step < BIN_STEPS:
                long, short = set_bins(long_magnitude), set_bins(short_magnitude)
                long = keep_phases(long, start[..., :_HELD_BINS])
            else:
                long, short = set_bands(bands, self.mel_scale), set_bands(moments, self.detail_scale)
            if fixed_phases is not None:
                long = keep_phases(long, fixed_phases)
            from_long = resynthesized(sound, self.window, hop, long)
            padded = nn.functional.pad(sound, (0, hop - 1))  # to the end of the last frame, as in the mel
            from_short = resynthesized(padded, self.detail_window, hop // DETAIL_RATIO, short)[:, : sound.shape[-1]]
            last, estimate = estimate, torch.lerp(from_long, from_short, _DETAIL_WEIGHT)
            if step < BIN_STEPS + MEL_STEPS - 1:
                # Within full scale, as sounds are: phases that pile up to higher peaks would only be turned down. Not
                # in the end, or a peak would be cut flat.
                estimate = estimate.clamp(-1, 1)
            sound = torch.lerp(last, estimate, 1 + MOMENTUM)
        return estimate * self._level_gain(estimate, bands)

    def _level_gain(self, sound: Tensor, bands: Tensor) -> Tensor:
        """The slowly changing gain `[B, S]` with which `sound` has the level of `bands` `[B, T, M]`."""
        made = self.mel_scale.band_magnitudes(magnitudes(stft(sound, self.window, self.mel_scale.config.hop_length)))
        # The mean over a filter squared, times its width: about the energy that a band has.
        width = 1 / self.mel_scale.filters.sum(dim=1)
        wanted, found = (_smoothed((magnitude.square() * width).sum(dim=-1)) for magnitude in (bands, made.mT))
        gain = (wanted / found.clamp(min=1e-12)).sqrt().clamp(1 / _MAX_LEVEL_GAIN, _MAX_LEVEL_GAIN)
        spread = nn.functional.interpolate(gain.unsqueeze(1), size=sound.shape[-1], mode="linear", align_corners=True)
        return spread.squeeze(1)


def _smoothed(energy: Tensor) -> Tensor:
    """The moving sum, up to a factor, of `[B, T]` over `_LEVEL_FRAMES`."""
    return nn.functional.avg_pool1d(energy, _LEVEL_FRAMES, stride=1, padding=_LEVEL_FRAMES // 2)
