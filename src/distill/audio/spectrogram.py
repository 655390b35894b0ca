"""Waveform ⇄ mel: the log-magnitude mel spectrogram every model here reads and writes, and its inverse.

Mel values are linear in decibels and scaled to about [-1, 1]. Two levels have a meaning of their own:

- `SILENCE` (just above -1): a frame of real sound in which nothing reaches the floor;
- `PADDING` (exactly -1, in every band): a frame after the end of the sound. It is no part of the sound, so it
  counts in no loss, no codebook and no health figure. A waveform ends at its last sample that is not zero.
"""

import math

import torch
from torch import Tensor, nn

from distill.audio.settings import SpectrogramConfig as SpectrogramConfig

PADDING = -1.0
SILENCE = -0.999

_TINY = 1e-9  # -180 dB: not zero, and not heard
_INVERSION_STEPS = 8  # of the non-negative least squares from mel to magnitude
_EXACT_STEPS = 16  # of the search for a sound, in which every bin is to have its magnitude
_FREE_STEPS = 8  # in which only the mel has to come out right
_MOMENTUM = 0.9
_LARGEST_GAIN = 100.0  # of a bin in one step
_SHORT = 4  # the second window of the search is so many times shorter, and so is its hop
_SHORT_SHARE = 0.25
_BLOCK_FRAMES = 1024  # what one phase search sees of a long sound (11 s at 48 kHz)
_OVERLAP_FRAMES = 64
_FRAMES_AT_ONCE = 128  # of the inversion from mel to magnitude, for the same reason as:
_CACHED_SAMPLES = 200_000  # whose spectrum a processor's cache holds: more at once are twice as slow


def mel_filters(sample_rate: int, n_fft: int, n_mels: int) -> Tensor:
    """Slaney's area-normalised triangular filters from 0 Hz to half the rate: float32 `[n_mels, n_fft/2 + 1]`."""
    top = _hz_to_mel(torch.tensor(sample_rate / 2, dtype=torch.float64))
    edges = _mel_to_hz(torch.linspace(0, float(top), n_mels + 2, dtype=torch.float64))
    bins = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1, dtype=torch.float64)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    triangles = torch.minimum(rising, falling).clamp(min=0)
    return (triangles * (2 / (edges[2:] - edges[:-2]))[:, None]).float()


def _blocks(filters: Tensor) -> list[tuple[slice, slice]]:
    """Which bins a few neighbouring rows of `[M, F]` reach: so four small products do for one large one of zeros."""
    found = []
    for rows in torch.arange(len(filters)).chunk(4):
        reached = filters[rows].any(dim=0).nonzero().flatten().tolist() or [0]
        found.append((slice(int(rows[0]), int(rows[-1]) + 1), slice(reached[0], reached[-1] + 1)))
    return found


def _hz_to_mel(hz: Tensor) -> Tensor:
    # Slaney's Auditory Toolbox: linear below 1 kHz, logarithmic above.
    return torch.where(hz < 1000, hz * 3 / 200, 15 + torch.log(hz.clamp(min=1e-9) / 1000) * 27 / math.log(6.4))


def _mel_to_hz(mel: Tensor) -> Tensor:
    return torch.where(mel < 15, mel * 200 / 3, 1000 * torch.exp((mel - 15) * math.log(6.4) / 27))


def mark_end(waveform: Tensor) -> Tensor:
    """Float `[..., S]` whose last sample is not zero, so that silence at its end is sound and not padding."""
    last = waveform[..., -1:]
    return torch.cat([waveform[..., :-1], torch.where(last == 0, _TINY, last)], dim=-1)


def real_frames(mel: Tensor) -> Tensor:
    """Which frames of `[B, 1, M, T]` belong to the sound, not to padding: bool `[B, 1, 1, T]`."""
    return (mel != PADDING).any(dim=2, keepdim=True)


class AudioSpectrogram(nn.Module):
    """Waveforms `[B, 1, S]` in [-1, 1] to mels `[B, 1, M, T]` with T = 1 + S // hop, and back."""

    filters: Tensor
    shares: Tensor
    window: Tensor
    short_window: Tensor
    spread: Tensor

    def __init__(self, config: SpectrogramConfig | None = None) -> None:
        super().__init__()
        self.config = config or SpectrogramConfig()
        filters = mel_filters(self.config.sample_rate, self.config.n_fft, self.config.n_mels)
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("shares", filters / filters.sum(dim=0).clamp(min=1e-10), persistent=False)
        self.register_buffer("window", torch.hann_window(self.config.n_fft), persistent=False)
        short = self.config.n_fft // _SHORT
        self.register_buffer("short_window", torch.hann_window(short), persistent=False)
        self.register_buffer("spread", _spread(self.config.n_fft, short), persistent=False)
        self._blocks = _blocks(filters)
        self._log_floor = math.log(self.config.magnitude_floor)
        self._log_range = math.log(self.config.magnitude_ceiling) - self._log_floor

    def frames(self, samples: int) -> int:
        """How many mel frames a waveform of so many samples has."""
        return 1 + samples // self.config.hop_length

    @torch.no_grad()
    def waveform_to_mel(self, waveform: Tensor) -> Tensor:
        """Log mel of float `[B, 1, S]`: float32 `[B, 1, M, T]`, frames after a waveform's end set to `PADDING`."""
        sounds = waveform.squeeze(1).float()
        at_once = max(1, _CACHED_SAMPLES // sounds.shape[-1]) if sounds.device.type == "cpu" else len(sounds)
        return torch.cat([self._log_mel(some) for some in torch.split(sounds, at_once)]).unsqueeze(1)

    def mel_of_frames(self, waveform: Tensor, first: int, stop: int) -> Tensor:
        """Frames [first, stop) of the mel of float `waveform` `[S]`, all of it sound: `[1, 1, M, stop - first]`."""
        hop = self.config.hop_length
        reach = -(-self.config.n_fft // (2 * hop))  # frames whose windows touch the first one's
        begin = max(0, first - reach)
        end = min(len(waveform), (stop + reach) * hop)
        mel = self.waveform_to_mel(mark_end(waveform[begin * hop : end])[None, None])
        return mel[..., first - begin : stop - begin]

    def whole_mel(self, waveform: Tensor) -> Tensor:
        """The mel of float `waveform` `[S]` of any length, all of it sound: float32 `[1, 1, M, T]`."""
        frames, step = self.frames(len(waveform)), -(-_CACHED_SAMPLES // self.config.hop_length)
        starts = range(0, frames, step)
        return torch.cat([self.mel_of_frames(waveform, at, min(frames, at + step)) for at in starts], dim=-1)

    def louder(self, mel: Tensor, gain: Tensor) -> Tensor:
        """Mels, of any shape, of the same sounds `gain` times as loud; what was below the floor stays there."""
        moved = (mel + gain.log() * (2 / self._log_range)).clamp(min=SILENCE)
        return torch.where(mel > SILENCE, moved, mel)

    def _log_mel(self, sounds: Tensor) -> Tensor:
        """`waveform_to_mel` of float `[B, S]`: `[B, M, T]`."""
        magnitude = _magnitude(self._stft(sounds))
        mel = torch.cat([self.filters[rows, bins] @ magnitude[:, bins] for rows, bins in self._blocks], dim=1)
        level = (mel.clamp(min=self.config.magnitude_floor).log() - self._log_floor) * (2 / self._log_range) - 1
        return level.clamp(min=SILENCE).masked_fill(self._after_end(sounds), PADDING)

    def _after_end(self, sounds: Tensor) -> Tensor:
        """Bool `[B, 1, T]`: the frames that lie wholly after the last sample that is not zero."""
        position = torch.arange(1, sounds.shape[-1] + 1, device=sounds.device, dtype=torch.int32)
        length = ((sounds != 0) * position).amax(dim=-1)[:, None, None]
        frame = torch.arange(self.frames(sounds.shape[-1]), device=sounds.device)
        return (frame * self.config.hop_length > length) | (length == 0)

    def mel_to_waveform(self, mel: Tensor, length: int | None = None) -> Tensor:
        """Sound float32 `[B, 1, S]` for mels `[B, 1, M, T]`; S = `length`, or (T - 1) · hop when it is not given.

        Non-negative least squares from mel to magnitude, then Griffin-Lim with momentum (Perraudin, Balazs and
        Søndergaard 2013), a short window beside the long one, and at the end with no more than the mel to hold to.
        Long mels go in overlapping blocks whose phases continue each other.
        A learnt vocoder has its place here: it would replace this one function.
        """
        hop = self.config.hop_length
        samples = (mel.shape[-1] - 1) * hop if length is None else length
        missing = max(-(-samples // hop), self.config.n_fft // hop) + 1 - mel.shape[-1]
        with torch.no_grad():
            mel = nn.functional.pad(mel, (0, max(0, missing), 0, 0), mode="replicate")
            step = _BLOCK_FRAMES - _OVERLAP_FRAMES
            starts = range(0, max(1, mel.shape[-1] - _OVERLAP_FRAMES), step)
            sound = torch.zeros(mel.shape[0], 0, device=mel.device)
            for start in starts:
                sound = self._append(sound, self._mel_magnitude(mel[..., start : start + _BLOCK_FRAMES]), start)
        return sound[:, None, :samples]

    def _append(self, sound: Tensor, mel: Tensor, start: int) -> Tensor:
        """Add the block of mel magnitudes `[B, T, M]` that begins at frame `start` to `sound` `[B, S]`, fading over."""
        if start == 0:
            return self._search(mel)
        hop = self.config.hop_length
        done = sound[:, start * hop :]
        whole = done.shape[-1] // hop - self.config.n_fft // hop  # frames that the sound so far settles
        block = self._search(mel, self._stft(done)[..., :whole].sgn())
        fade = torch.ones(done.shape[-1], device=sound.device)  # over the middle half of what is settled
        fade[: whole * hop // 4] = 0
        fade[whole * hop // 4 : whole * hop * 3 // 4] = torch.linspace(0, 1, whole * hop * 3 // 4 - whole * hop // 4)
        joined = done * (1 - fade) + block[:, : done.shape[-1]] * fade
        return torch.cat([sound[:, : -done.shape[-1]], joined, block[:, done.shape[-1] :]], dim=-1)

    def mel_to_magnitude(self, mel: Tensor) -> Tensor:
        """STFT magnitude `[B, F, T]` whose mel is nearest to `[B, 1, M, T]`, by Lee and Seung's updates (2001)."""
        return self._unmixed(self._mel_magnitude(mel))

    def _mel_magnitude(self, mel: Tensor) -> Tensor:
        """Mel magnitudes `[B, T, M]`, frame by frame as spectra lie in memory, of a mel `[B, 1, M, T]`."""
        level = mel.squeeze(1).float().mT
        magnitude = ((level.clamp(PADDING, 1.5) + 1) * (self._log_range / 2) + self._log_floor).exp()
        return torch.where(level <= SILENCE, 0.0, magnitude)

    def _unmixed(self, mel: Tensor) -> Tensor:
        """`mel_to_magnitude` of mel magnitudes `[B, T, M]`."""
        return torch.cat([self._unmixed_part(part) for part in torch.split(mel, _FRAMES_AT_ONCE, dim=1)], dim=1).mT

    def _unmixed_part(self, mel: Tensor) -> Tensor:
        """Magnitudes `[B, T, F]` for mel magnitudes `[B, T, M]`."""
        wanted = mel @ self.filters
        magnitude = wanted / self.filters.sum(dim=0).square().clamp(min=1e-10)
        for _ in range(_INVERSION_STEPS):
            found = torch.zeros_like(wanted)
            for rows, bins in self._blocks:
                part = self.filters[rows, bins]
                found[..., bins] += magnitude[..., bins] @ part.T @ part
            magnitude *= torch.div(wanted, found.clamp_(min=1e-10), out=found)
        return magnitude

    def _search(self, mel: Tensor, settled: Tensor | None = None) -> Tensor:
        """Sound `[B, (T - 1) · hop]` whose mel magnitudes are near `[B, T, M]`; `settled` are the first frames' phases.

        Griffin and Lim's rounds, which set the bins of its spectrum to `mel_to_magnitude`, put its overtones where they
        belong. Yet magnitudes for every bin are more than a mel says, and no sound has them all: the last rounds scale
        the bins as their bands demand, and leave the rest to the sound.

        One long window leaves it open how the energy lies within a frame, where a search would let it lie in clicks and
        gaps, and noise, above all, has neither. So a short window has its say, too: it shall see what the long one lets
        expect.
        """
        magnitude = self._unmixed(mel)
        phase = torch.ones_like(magnitude, dtype=torch.complex64)
        whole = 0 if settled is None else settled.shape[-1]
        if settled is not None:
            phase[..., :whole] = settled
        wanted = _twice(magnitude)
        sound = found = self._istft(_scaled(phase, wanted))
        hop = self.config.hop_length // _SHORT
        length = -(-sound.shape[-1] // hop) * hop
        expected = _twice(self._short_magnitude(magnitude, 1 + length // hop))
        for step in range(_EXACT_STEPS + _FREE_STEPS):
            spectrum = self._stft(sound)
            spectrum = _scaled(spectrum.sgn(), wanted) if step < _EXACT_STEPS else self._with_mel(spectrum, mel)
            if settled is not None:
                spectrum[..., :whole] = _magnitude(spectrum[..., :whole]) * settled
            padded = nn.functional.pad(sound, (0, length - sound.shape[-1]))
            fine = _istft(_scaled(_stft(padded, self.short_window, hop).sgn(), expected), self.short_window, hop)
            before, found = found, torch.lerp(self._istft(spectrum), fine[:, : sound.shape[-1]], _SHORT_SHARE)
            sound = torch.lerp(before, found, 1 + _MOMENTUM)
        return found

    def _with_mel(self, spectrum: Tensor, mel: Tensor) -> Tensor:
        """Complex `spectrum` `[B, F, T]`, each bin scaled as the bands around it need to come to `mel` `[B, T, M]`."""
        magnitude = _magnitude(spectrum).mT
        gain = torch.zeros_like(magnitude)
        for rows, bins in self._blocks:
            found = magnitude[..., bins] @ self.filters[rows, bins].T
            ratio = (mel[..., rows] / found.clamp_(min=1e-10)).clamp_(max=_LARGEST_GAIN)
            gain[..., bins] += ratio @ self.shares[rows, bins]
        return _scaled(spectrum, _twice(gain.mT))

    def _short_magnitude(self, magnitude: Tensor, frames: int) -> Tensor:
        """What a short window would see where the long one sees `magnitude` `[B, F, T]`: `[B, F', frames]`."""
        power = (self.spread @ magnitude.square()).clamp(min=1e-14)
        level = nn.functional.interpolate(power.log(), size=frames, mode="linear", align_corners=True)
        return (level / 2).exp()

    def _stft(self, sound: Tensor) -> Tensor:
        return _stft(sound, self.window, self.config.hop_length)

    def _istft(self, spectrum: Tensor) -> Tensor:
        return _istft(spectrum, self.window, self.config.hop_length)


def _stft(sound: Tensor, window: Tensor, hop: int) -> Tensor:
    return torch.stft(
        sound, len(window), hop, window=window, center=True, pad_mode="constant", return_complex=True
    )  # fmt: skip


def _istft(spectrum: Tensor, window: Tensor, hop: int) -> Tensor:
    """What `torch.istft` gives, in half its time: sound `[B, (T - 1) · hop]` of `[B, F, T]`."""
    frames = torch.fft.irfft(spectrum.mT, n=len(window)) * window
    overlap = window.square().expand(1, spectrum.shape[-1], -1)
    around = slice(len(window) // 2, -(len(window) // 2))
    return _overlap_add(frames, hop)[:, around] / _overlap_add(overlap, hop)[:, around].clamp(min=1e-8)


def _overlap_add(frames: Tensor, hop: int) -> Tensor:
    """`[B, (T - 1) · hop + N]` of frames `[B, T, N]` that begin `hop` samples apart."""
    batch, count, length = frames.shape
    if length % hop:
        frames = nn.functional.pad(frames, (0, -length % hop))
    pieces = frames.reshape(batch, count, -1, hop)
    sound = frames.new_zeros(batch, count + pieces.shape[2] - 1, hop)
    for number, piece in enumerate(pieces.unbind(dim=2)):
        sound[:, number : number + count] += piece
    return sound.flatten(1)[:, : (count - 1) * hop + length]


def _spread(n_fft: int, short: int) -> Tensor:
    """Power per bin of a short Hann window for that of a long one, of steady noise: `[short/2 + 1, n_fft/2 + 1]`."""
    bins = torch.arange(n_fft // 2 + 1) * (short / n_fft) - torch.arange(short // 2 + 1)[:, None]
    response = bins.sinc() + (bins - 1).sinc() / 2 + (bins + 1).sinc() / 2
    power = response.square()
    return power / power.sum(dim=1, keepdim=True) * (short / n_fft)


def _magnitude(spectrum: Tensor) -> Tensor:
    return (spectrum.real.square() + spectrum.imag.square()).sqrt()  # half the time of `abs`, which fears overflows


def _twice(magnitude: Tensor) -> Tensor:
    """Magnitudes `[B, F, T]` for the real and the imaginary part, `[B, F, T, 2]`, in memory as spectra are."""
    return magnitude.mT.unsqueeze(-1).expand(-1, -1, -1, 2).contiguous().transpose(1, 2)


def _scaled(phase: Tensor, magnitude: Tensor) -> Tensor:
    """Unit complex `phase` `[B, F, T]` times `magnitude` `[B, F, T, 2]`; a real one would be made complex each time."""
    return torch.view_as_complex(torch.view_as_real(phase) * magnitude)
