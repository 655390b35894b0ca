"""The way back from mels that have detail: a phase search that is held to what both of their windows show."""

import torch
from torch import Tensor, nn

from distill.audio.limiter import fade_in, limit_peaks
from distill.audio.mel import MelScale
from distill.audio.settings import DETAIL_RATIO
from distill.audio.starting_phases import StartingPhases
from distill.audio.stft import Resynthesis, istft, magnitudes, stft
from distill.audio.vocoder import (
    BIN_STEPS,
    MEL_STEPS,
    MOMENTUM,
    Known,
    PhaseSearch,
    keep_phases,
    nonnegative_least_squares,
    set_bands,
    set_bins,
)

_HELD_BINS = 3  # the lowest, which keep their starting phases: tones meet their mirror images, and the search drifts
_DETAIL_WEIGHT = 0.4  # of the short window's estimate in the mean of both, at least
_UNRESOLVED_DB = (12.0, 24.0)  # that a moment is softer than the next 21 ms: from none to all of it is the short's
_AHEAD = 8  # moments within the reach of the long window
_LEVEL_FRAMES = 17  # over which the level is compared: a gain that follows single frames would flutter
_MAX_LEVEL_GAIN = 2.0


class TwoWindowSearch(PhaseSearch):
    """A `PhaseSearch` for mels with detail, whose short window is not predicted but known.

    A long window shows pitch, a short one when things happen; a sound that looks right through both has little freedom
    left (consistent spectrograms at two resolutions; compare Le Roux et al. 2008). But the mean of two estimates that
    disagree has the bands of neither, and is too soft. So the last steps are the long window's, first alone, then
    with the short one where it must decide, and in the end the level is set to that of the mel.
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

    @torch.no_grad()
    def between(self, mel: Tensor, before: Tensor, after: Tensor) -> Tensor:
        """As `PhaseSearch.between`, in [-1, 1]."""
        sound = limit_peaks(super().between(mel, before, after))
        return sound if before.shape[-1] else fade_in(sound)

    def band_magnitudes(self, mel: Tensor) -> Tensor:
        """Magnitudes `[B, T, M]` of all rows of a mel `[B, 1, M, T]`."""
        bands, detail = self._split(mel.squeeze(1).float().mT)
        return torch.cat([self.mel_scale.magnitudes(bands), self.detail_scale.magnitudes(detail)], dim=-1)

    def _split(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        return rows[..., : self.mel_scale.config.n_mels], rows[..., self.mel_scale.config.n_mels :]

    def search(self, bands: Tensor, known: Known | None = None) -> Tensor:
        """Sound `[B, (T - 1) · hop]` of magnitudes `[B, T, M]`, of which some phases may be `known`."""
        bands, moments = self._split(bands)
        moments = moments.reshape(len(moments), bands.shape[1] * DETAIL_RATIO, -1)  # [B, 4 · T, bands of the detail]
        long_magnitude = nonnegative_least_squares(bands, self.mel_scale)
        short_magnitude = nonnegative_least_squares(moments, self.detail_scale)
        start = self.starting_phases(bands, known)
        hop = self.mel_scale.config.hop_length
        unresolved = self._unresolved(moments, hop * (bands.shape[1] - 1))
        both = _DETAIL_WEIGHT + (1 - _DETAIL_WEIGHT) * unresolved
        sound = estimate = istft(start * long_magnitude, self.window, hop)
        samples = sound.shape[-1]
        through_long = Resynthesis(self.window, hop, samples)
        # To the end of the last frame, as in the mel.
        through_short = Resynthesis(self.detail_window, hop // DETAIL_RATIO, samples + hop - 1)
        held = keep_phases(set_bins(long_magnitude), start[..., :_HELD_BINS])
        to_bins = held, set_bins(short_magnitude)
        to_bands = set_bands(bands, self.mel_scale), set_bands(moments, self.detail_scale)
        steps = BIN_STEPS + MEL_STEPS
        changes = [to_bins] * BIN_STEPS + [to_bands] * (MEL_STEPS + 2)
        for step, ((long, short), weight) in enumerate(zip(changes, [both] * steps + [None, unresolved])):
            if known is not None:
                long = known.kept(long, bands.shape[1])
            last, estimate = estimate, through_long(sound, long)
            if weight is not None:
                from_short = through_short(nn.functional.pad(sound, (0, hop - 1)), short)[:, :samples]
                estimate = torch.lerp(estimate, from_short, weight)
            if step <= steps:
                # Within full scale, as sounds are: phases that pile up to higher peaks would only be turned down. Not
                # in the end, or a peak would be cut flat.
                estimate = estimate.clamp(-1, 1)
            sound = torch.lerp(last, estimate, 1 + MOMENTUM) if step < steps - 1 else estimate
        return estimate * self._level_gain(estimate, bands)

    def _unresolved(self, moments: Tensor, samples: int) -> Tensor:
        """The share `[B, samples]` of the short window's estimate where it must decide, given its `[B, moments, M']`.

        It is all before an attack: the long window sees the attack already, and would smear it to there.
        """
        energy = self.detail_scale.energy(moments).clamp(min=1e-12)
        loudest = nn.functional.pad(energy, (0, _AHEAD)).unfold(1, _AHEAD + 1, 1).amax(dim=-1)
        low, high = _UNRESOLVED_DB
        share = ((10 * (loudest / energy).log10() - low) / (high - low)).clamp(0, 1)
        return _stretched(share[:, : 1 + samples // self.detail_scale.config.hop_length], samples)

    def _level_gain(self, sound: Tensor, bands: Tensor) -> Tensor:
        """The slowly changing gain `[B, S]` with which `sound` has the level of `bands` `[B, T, M]`."""
        made = self.mel_scale.band_magnitudes(magnitudes(stft(sound, self.window, self.mel_scale.config.hop_length)))
        wanted, found = (_smoothed(self.mel_scale.energy(magnitude)) for magnitude in (bands, made.mT))
        gain = (wanted / found.clamp(min=1e-12)).sqrt().clamp(1 / _MAX_LEVEL_GAIN, _MAX_LEVEL_GAIN)
        return _stretched(gain, sound.shape[-1])


def _smoothed(energy: Tensor) -> Tensor:
    """The moving sum, up to a factor, of `[B, T]` over `_LEVEL_FRAMES`."""
    return nn.functional.avg_pool1d(energy, _LEVEL_FRAMES, stride=1, padding=_LEVEL_FRAMES // 2)


def _stretched(values: Tensor, samples: int) -> Tensor:
    """`[B, T]` as `[B, samples]`, linear in between."""
    stretched = nn.functional.interpolate(values.unsqueeze(1), size=samples, mode="linear", align_corners=True)
    return stretched.squeeze(1)
