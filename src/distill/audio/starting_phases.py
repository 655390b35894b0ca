"""Where a phase search starts: with tones of the right pitch, which it could not find from bands alone.

A band of the mel is as wide as the main lobe of the window, so the lowest tones reach three or four bands, and how
strong each of them is tells the frequency to a hertz. A search that starts from phases of zero does not see that, and
ends up to a third of an octave off. Compare phase-gradient heap integration (Průša, Balazs and Søndergaard 2017), which
takes the frequencies from the magnitudes of single bins; a mel has none.
"""

import math

import torch
from torch import Tensor, nn

from distill.audio.mel import MelScale, band_edges
from distill.audio.stft import hann_response
from distill.audio.vocoder import Known

_HIGHEST = 1000.0  # Hz: above, bands are wider than the lobe, and tell nothing about where in them a tone is
_CANDIDATES = 128  # frequencies tried in each band
_REACH = 3  # bins beside its frequency that a tone is measured in


class StartingPhases(nn.Module):
    """Phases with which the spectrum of a `MelScale` begins a search: below 1 kHz those of one sine in each band."""

    around: Tensor
    candidates: Tensor
    patterns: Tensor
    band_of_bin: Tensor
    sign: Tensor

    def __init__(self, scale: MelScale) -> None:
        super().__init__()
        config = scale.config
        edges = band_edges(config.sample_rate, config.n_mels).float()
        low = max(1, int((edges[2:] < min(_HIGHEST, config.sample_rate / 4)).sum()))
        share = torch.linspace(0, 1, _CANDIDATES)
        candidates = edges[:low, None] + (edges[2 : low + 2] - edges[:low])[:, None] * share  # [bands, candidates]
        bins = torch.arange(scale.filters.shape[1])
        places = candidates.unsqueeze(-1) * (config.n_fft / config.sample_rate)  # in bins
        reached = min(len(bins), int(places.max()) + _REACH + 1)  # none above is near a candidate
        beside = bins[:reached] - places
        lobes = hann_response(beside).abs() * (beside.abs() < _REACH)
        around = (torch.arange(low)[:, None] + torch.arange(-1, 2)).clamp(min=0)  # each band with its neighbours
        patterns = torch.einsum("bcf,bnf->bcn", lobes, scale.filters[around, :reached])
        self._hop_turns = config.hop_length / config.sample_rate  # turns from one frame to the next, per Hz
        self.register_buffer("around", around, persistent=False)
        self.register_buffer("candidates", candidates, persistent=False)
        self.register_buffer("patterns", nn.functional.normalize(patterns, dim=-1), persistent=False)
        low_bins = int((bins * scale.filters[:low].any(dim=0)).max()) + 1
        self.register_buffer("band_of_bin", scale.shares[:low, :low_bins].argmax(dim=0), persistent=False)
        # Frames are centred on their moment: there, the bins of one tone have the same phase, seen from the start of
        # the window every other one the opposite.
        self.register_buffer("sign", 1.0 - 2.0 * (bins % 2), persistent=False)

    def forward(self, bands: Tensor, known: Known | None = None) -> Tensor:
        """Phases complex64 `[B, T, F]`, of magnitude 1, for `bands` `[B, T, M]`; from `known` ones they go on."""
        phases = self.sign.to(torch.complex64).expand(*bands.shape[:2], -1).clone()
        low = len(self.band_of_bin)
        frequency = self.frequencies(bands)[..., self.band_of_bin]
        turns = (frequency * self._hop_turns).cumsum(dim=1)
        if known is None:
            return _turned(phases, turns, phases[:, :1, :low])
        begin, end = known.first.shape[1], phases.shape[1] - known.last.shape[1]
        phases[:, :begin], phases[:, end:] = known.first, known.last
        origin = max(0, begin - 1)
        turns, start = turns - turns[:, origin : origin + 1], phases[:, origin : origin + 1, :low]
        if end < phases.shape[1]:
            # A tone arrives at the phase that it is to end with by a slightly different frequency all the way, or,
            # where nothing comes before it, by beginning with another phase.
            missing = (
                known.last[:, :1, :low] * torch.polar(torch.ones_like(turns), -2 * math.pi * turns)[:, end : end + 1]
            )
            missing = (missing * start.conj()).angle() / (2 * math.pi)
            way = torch.arange(turns.shape[1], device=turns.device).sub(origin) / (end - origin)
            turns = turns + missing * (way[:, None] if begin else 1.0)
        phases[:, begin:end] = _turned(phases, turns, start)[:, begin:end]
        return phases

    def frequencies(self, bands: Tensor) -> Tensor:
        """The frequency in Hz of the tone that each low band belongs to: float `[B, T, low]` of bands `[B, T, M]`."""
        low = len(self.candidates)
        near = nn.functional.normalize(bands[..., self.around], dim=-1)  # [B, T, low, 3]
        fit = torch.einsum("btln,lcn->btlc", near, self.patterns).argmax(dim=-1)
        frequency = self.candidates.expand(*fit.shape, -1).gather(-1, fit.unsqueeze(-1)).squeeze(-1)
        # A band on the slope of a tone takes over the frequency that its stronger neighbour found.
        stronger = near.argmax(dim=-1) - 1 + torch.arange(low, device=bands.device)
        for _ in range(2):
            frequency = frequency.gather(-1, stronger.clamp(0, low - 1))
        return frequency


def _turned(phases: Tensor, turns: Tensor, start: Tensor) -> Tensor:
    """`phases` complex64 `[B, T, F]`, their lowest bins those of `start` `[B, 1, low]`, `turns` `[B, T, low]` later."""
    low = start * torch.polar(torch.ones_like(turns), 2 * math.pi * turns)
    return torch.cat([low, phases[..., low.shape[-1] :]], dim=-1)
