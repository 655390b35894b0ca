"""Vocoders, from a mel back to sound: the `Vocoder` protocol, and `PhaseSearch`, used unless another is given."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from distill.audio.mel import MelScale
from distill.audio.stft import Change, Resynthesis, hann_response, istft, magnitudes, stft, with_magnitudes

_NNLS_STEPS = 8
_NNLS_FRAMES = 128  # solved at once: more do not fit a processor's cache, and take twice as long
BIN_STEPS = 16  # of Griffin-Lim, which set every bin to its magnitude
MEL_STEPS = 8  # after those, which set only the bands
MOMENTUM = 0.9
_MAX_GAIN = 100.0  # of a bin in one of the mel steps
_SHORT_RATIO = 4  # of the long window's length to the short one's, and of their hops
_SHORT_WEIGHT = 0.25  # of the short window's estimate in the mean of both
_BLOCK_FRAMES = 1024  # searched at once (11 s at 48 kHz), so that memory does not grow with the sound
_OVERLAP_FRAMES = 64


class Vocoder(Protocol):
    """Anything that turns mels into sound: a function or module with this signature."""

    def __call__(self, mel: Tensor, length: int | None, /) -> Tensor:
        """Sound float32 `[B, 1, S]` of log mels float `[B, 1, M, T]`; S is `length`, or (T - 1) · hop if None."""


@dataclass(frozen=True)
class Known:
    """Phases complex64 `[B, T', F]` of magnitude 1 that a search keeps, those of the `first` and the `last` frames."""

    first: Tensor
    last: Tensor

    def kept(self, change: Change, frames: int) -> Change:
        """Make a change of spectra `[B, frames, F]`, but keep these phases."""
        return keep_phases(keep_phases(change, self.first), self.last, frames - self.last.shape[1])


class PhaseSearch(nn.Module):
    """A vocoder that needs no training: least squares for the magnitudes, then a search for the phases.

    The search is Griffin and Lim's (1984) with the momentum of Perraudin, Balazs and Søndergaard (2013), a short window
    beside the long one, and final steps that are constrained by the mel alone. Long mels are searched in overlapping
    blocks, each of which continues the phases of the one before. No random numbers are drawn.
    """

    window: Tensor
    short_window: Tensor
    short_response: Tensor

    def __init__(self, mel_scale: MelScale) -> None:
        super().__init__()
        self.mel_scale = mel_scale
        n_fft, self._hop = mel_scale.config.n_fft, mel_scale.config.hop_length
        short = n_fft // _SHORT_RATIO
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        self.register_buffer("short_window", torch.hann_window(short), persistent=False)
        self.register_buffer("short_response", _short_response(n_fft, short), persistent=False)

    @torch.no_grad()
    def forward(self, mel: Tensor, length: int | None = None) -> Tensor:
        """Sound float32 `[B, 1, S]` of log mels `[B, 1, M, T]`; S is `length`, or (T - 1) · hop if None."""
        samples = (mel.shape[-1] - 1) * self._hop if length is None else length
        # The search needs frames for all samples, and for at least one window, so the last frame is repeated.
        missing = max(-(-samples // self._hop), len(self.window) // self._hop) + 1 - mel.shape[-1]
        mel = nn.functional.pad(mel, (0, max(0, missing), 0, 0), mode="replicate")
        sound = self.search(self.band_magnitudes(mel[..., :_BLOCK_FRAMES]))
        step = _BLOCK_FRAMES - _OVERLAP_FRAMES
        for start in range(step, mel.shape[-1] - _OVERLAP_FRAMES, step):
            sound = self._append_block(sound, self.band_magnitudes(mel[..., start : start + _BLOCK_FRAMES]), start)
        return sound[:, None, :samples]

    def band_magnitudes(self, mel: Tensor) -> Tensor:
        """Band magnitudes `[B, T, M]` of a mel `[B, 1, M, T]`: frames first, as products with the filters need them."""
        return self.mel_scale.magnitudes(mel.squeeze(1).float().mT)

    def _append_block(self, sound: Tensor, bands: Tensor, start: int) -> Tensor:
        """Continue `sound` `[B, S]` with a block of band magnitudes `[B, T, M]` from frame `start` on, cross-faded."""
        before, overlap = sound[:, : start * self._hop], sound[:, start * self._hop :]
        return torch.cat([before, self._joined(bands, overlap, overlap[:, :0])], dim=-1)

    @torch.no_grad()
    def between(self, mel: Tensor, before: Tensor, after: Tensor) -> Tensor:
        """Sound float32 `[B, 1, (T - 1) · hop]` of a mel `[B, 1, M, T]` that begins and ends as other sounds do.

        `before` and `after` are float `[B, 1, whole hops]`, which the mel describes as well; 8 hops or more, or none.
        """
        return self._joined(self.band_magnitudes(mel), before[:, 0], after[:, 0])[:, None]

    def _joined(self, bands: Tensor, before: Tensor, after: Tensor) -> Tensor:
        """The sound `[B, (T - 1) · hop]` of band magnitudes `[B, T, M]`, cross-faded with its beginning and its end."""
        spectra = [stft(sound, self.window, self._hop).mT.sgn() for sound in (before, after)]
        first, last = (self._whole_frames(sound) for sound in (before, after))
        sound = self.search(bands, Known(spectra[0][:, :first], spectra[1][:, spectra[1].shape[1] - last :]))
        sound = self._faded(sound, before, first)
        return self._faded(sound.flip(-1), after.flip(-1), last).flip(-1)

    def _whole_frames(self, sound: Tensor) -> int:
        """The number of frames at one end of a sound `[B, S]` whose windows do not reach its other end."""
        return max(0, sound.shape[-1] // self._hop - len(self.window) // self._hop)

    def _faded(self, sound: Tensor, known: Tensor, frames: int) -> Tensor:
        """`sound` `[B, S]`, faded in from `known` `[B, S']` within so many frames, where both have the same phases."""
        begin, end = frames * self._hop // 4, frames * self._hop * 3 // 4  # the middle half: ends lack what is beyond
        fade = torch.linspace(0, 1, end - begin, device=sound.device)
        joined = torch.lerp(known[:, begin:end], sound[:, begin:end], fade)
        return torch.cat([known[:, :begin], joined, sound[:, end:]], dim=-1)

    def search(self, bands: Tensor, known: Known | None = None) -> Tensor:
        """Sound `[B, (T - 1) · hop]` of band magnitudes `[B, T, M]`, of which some phases may be `known`.

        Steps that set every bin to its least-squares magnitude put overtones where they belong. But those magnitudes
        are more detailed than the mel they come from, and no sound has exactly these: the final steps only scale the
        bins so that their bands match.

        A long window does not show how the energy is distributed within a frame, so the search could gather it in
        clicks and gaps. Therefore the spectrum through a short window is held to what the long one predicts for it.
        """
        magnitude = nonnegative_least_squares(bands, self.mel_scale)
        # Phases of zero rather than random ones, so that a mel always gives the same sound.
        start = magnitude.to(torch.complex64)
        if known is not None:
            start = known.kept(lambda spectra, _: spectra, start.shape[1])(start, 0)
        hop, short_hop = self._hop, self._hop // _SHORT_RATIO
        sound = estimate = istft(start, self.window, hop)
        samples = sound.shape[-1]
        short_frames = -(-samples // short_hop)
        short = set_bins(self._short_magnitude(magnitude, 1 + short_frames))
        through_long = Resynthesis(self.window, hop, samples)
        through_short = Resynthesis(self.short_window, short_hop, short_frames * short_hop)
        for step in range(BIN_STEPS + MEL_STEPS):
            long = set_bins(magnitude) if step < BIN_STEPS else set_bands(bands, self.mel_scale)
            if known is not None:
                long = known.kept(long, magnitude.shape[1])
            padded = nn.functional.pad(sound, (0, short_frames * short_hop - samples))
            from_short = through_short(padded, short)[:, :samples]
            last, estimate = estimate, torch.lerp(through_long(sound, long), from_short, _SHORT_WEIGHT)
            sound = torch.lerp(last, estimate, 1 + MOMENTUM)  # momentum: beyond the estimate, where it was heading
        return estimate

    def _short_magnitude(self, magnitude: Tensor, frames: int) -> Tensor:
        """Magnitudes `[B, frames, F']` expected through the short window, given the long one's `[B, T, F]`."""
        power = (magnitude.square() @ self.short_response.T).clamp(min=1e-14)
        log = nn.functional.interpolate(power.log().mT, size=frames, mode="linear", align_corners=True)
        return (log.mT / 2).exp()


def set_bins(magnitude: Tensor) -> Change:
    """Set every bin of spectra to a magnitude, of `[B, T, F]` in all."""
    return lambda spectra, start: with_magnitudes(spectra, magnitude[:, start : start + spectra.shape[1]])


def set_bands(bands: Tensor, mel_scale: MelScale) -> Change:
    """Scale the bins of spectra so that their bands come close to `[B, T, M]`."""

    def change(spectra: Tensor, start: int) -> Tensor:
        magnitude = magnitudes(spectra)
        wanted = bands[:, start : start + spectra.shape[1]]
        gain = torch.zeros_like(magnitude)
        for rows, bins in mel_scale.blocks:
            current = magnitude[..., bins] @ mel_scale.filters[rows, bins].T
            ratio = (wanted[..., rows] / current.clamp_(min=1e-10)).clamp_(max=_MAX_GAIN)
            gain[..., bins] += ratio @ mel_scale.shares[rows, bins]
        return spectra * gain

    return change


def keep_phases(change: Change, phases: Tensor, first: int = 0) -> Change:
    """Make a change, but give frames from `first` on, in their lowest bins, the `phases` `[B, T', F']`."""
    count, bins = phases.shape[1:]

    def kept(spectra: Tensor, start: int) -> Tensor:
        spectra = change(spectra, start)
        begin, end = max(first, start), min(first + count, start + spectra.shape[1])
        if begin < end:
            of_part = spectra[:, begin - start : end - start, :bins]
            of_part.copy_(phases[:, begin - first : end - first] * magnitudes(of_part))
        return spectra

    return kept


def nonnegative_least_squares(bands: Tensor, mel_scale: MelScale) -> Tensor:
    """STFT magnitudes `[B, T, F]` whose bands come closest to `[B, T, M]`, by Lee and Seung's updates (2001)."""
    return torch.cat([_nnls(part, mel_scale) for part in torch.split(bands, _NNLS_FRAMES, dim=1)], dim=1)


def _nnls(bands: Tensor, mel_scale: MelScale) -> Tensor:
    """STFT magnitudes `[B, T, F]` of band magnitudes `[B, T, M]`, all frames at once."""
    filters = mel_scale.filters
    target = bands @ filters
    magnitude = target / filters.sum(dim=0).square().clamp(min=1e-10)
    for _ in range(_NNLS_STEPS):
        current = torch.zeros_like(target)
        for rows, bins in mel_scale.blocks:
            part = filters[rows, bins]
            current[..., bins] += magnitude[..., bins] @ part.T @ part
        magnitude *= torch.div(target, current.clamp_(min=1e-10), out=current)  # a product, so nothing turns negative
    return magnitude


def _short_response(n_fft: int, short: int) -> Tensor:
    """Map of steady noise's power in the bins of a long Hann window to a short one's: `[short/2 + 1, n_fft/2 + 1]`."""
    bins = torch.arange(n_fft // 2 + 1) * (short / n_fft) - torch.arange(short // 2 + 1)[:, None]
    power = hann_response(bins).square()
    return power / power.sum(dim=1, keepdim=True) * (short / n_fft)
