"""The short-time Fourier transform and its inverse, made fast for the phase search."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

_CACHED_SAMPLES = (
    2**18
)  # in frames that are changed at once: more do not fit a processor's cache, and take twice as long

Change = Callable[[Tensor, int], Tensor]  # of spectra, from the number of their first frame on


def stft(sound: Tensor, window: Tensor, hop: int) -> Tensor:
    """Spectrum complex64 `[B, F, T]` of `[B, S]`, T = 1 + S // hop: frames centred, zeros beyond the ends."""
    return torch.stft(
        sound, len(window), hop, window=window, center=True, pad_mode="constant", return_complex=True
    )  # fmt: skip


def istft(spectra: Tensor, window: Tensor, hop: int) -> Tensor:
    """Sound float32 `[B, (T - 1) · hop]` whose spectra come closest to `[B, T, F]`."""
    silence = torch.zeros(len(spectra), (spectra.shape[1] - 1) * hop, device=spectra.device)
    return Resynthesis(window, hop, silence.shape[-1])(
        silence, lambda part, start: spectra[:, start : start + part.shape[1]]
    )


class Resynthesis:
    """The way from sounds `[B, samples]` to their spectra through a window, and back from others in their place.

    The result is the least-squares estimate of Griffin and Lim (1984): the sum of frames, divided by the sum of squared
    windows, which is computed once for any number of sounds.
    """

    def __init__(self, window: Tensor, hop: int, samples: int) -> None:
        self.window, self.hop = window, hop
        self.count = 1 + samples // hop
        self._hops = -(-len(window) // hop)  # that a frame reaches
        weight = window.new_zeros(1, self.count + self._hops - 1, hop)
        _overlap_add(weight, window.square().expand(1, self.count, -1))
        self._scale = self._centred(weight).clamp(min=1e-8).reciprocal()

    def __call__(self, sound: Tensor, change: Change) -> Tensor:
        """Sound float32 `[B, (count - 1) · hop]` whose spectra come closest to those of `[B, samples]` with a change.

        Spectra are complex64 `[B, T, F]`; `change` is called with a part `[B, T', F]` of them and the number of its
        first frame, and returns others in their place.
        """
        length = len(self.window)
        frames = nn.functional.pad(sound, (length // 2, length - length // 2)).unfold(1, length, self.hop)
        total = sound.new_zeros(len(sound), self.count + self._hops - 1, self.hop)
        at_once = max(1, _CACHED_SAMPLES // (length * len(sound)))
        for start in range(0, self.count, at_once):
            part = frames[:, start : min(self.count, start + at_once)]
            spectra = change(torch.fft.rfft(part * self.window), start)
            _overlap_add(total[:, start:], torch.fft.irfft(spectra, n=length).mul_(self.window))
        return self._centred(total) * self._scale

    def _centred(self, total: Tensor) -> Tensor:
        """The samples `[B, (count - 1) · hop]` between the centres of the first frame and the last."""
        begin = len(self.window) // 2
        return total.flatten(1)[:, begin : begin + (self.count - 1) * self.hop]


def hann_response(bins: Tensor) -> Tensor:
    """How strong a sine is in bins of a long Hann window that lie `bins` beside its frequency; 1 in the middle.

    The Fourier transform of a Hann window is a sum of three sinc functions.
    """
    return bins.sinc() + (bins - 1).sinc() / 2 + (bins + 1).sinc() / 2


def magnitudes(spectrum: Tensor) -> Tensor:
    """Absolute values of a complex tensor, in half the time of `abs`, which guards against overflows."""
    return (spectrum.real.square() + spectrum.imag.square()).sqrt()


def with_magnitudes(spectrum: Tensor, magnitude: Tensor) -> Tensor:
    """The phases of a complex `spectrum` with other magnitudes, of the same shape."""
    power = spectrum.real.square() + spectrum.imag.square()
    return spectrum * power.clamp_(min=1e-20).rsqrt_().mul_(magnitude)


def _overlap_add(total: Tensor, frames: Tensor) -> None:
    """Add frames `[B, T, N]`, each beginning one hop after the last, to the hops of a sound `[B, at least T, hop]`."""
    batch, count, length = frames.shape
    hop = total.shape[-1]
    if length % hop:
        frames = nn.functional.pad(frames, (0, -length % hop))
    # A few additions of long tensors, one for each hop within a frame, rather than one for each frame.
    for number, piece in enumerate(frames.reshape(batch, count, -1, hop).unbind(dim=2)):
        total[:, number : number + count] += piece
