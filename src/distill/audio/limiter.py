"""The last step on the way back to sound: nothing is cut flat at full scale, and nothing begins with a click."""

import torch
from torch import Tensor
from torch.nn import functional as F

_WIDTHS = 13, 37  # a window of 13 * 37 samples as one of windows: 50 steps for each sample in place of 481
# Samples on either side of a peak over which the gain falls and rises: 5 ms at 48 kHz.
_AROUND = _WIDTHS[0] * _WIDTHS[1] // 2
_FADE = 24  # samples from silence: 0.5 ms at 48 kHz, too short to soften an attack


def limit_peaks(sound: Tensor) -> Tensor:
    """Turn float `[B, 1, S]` down around every peak beyond full scale, to within [-1, 1]."""
    loudness = sound.abs()
    if loudness.max() <= 1:
        return sound
    reduction = 1 - _peak_around(loudness).clamp(min=1).reciprocal()
    # The mean of reductions each of which suffices for the peak in the middle suffices for it, too.
    return (sound * (1 - _mean_around(reduction))).clamp(-1, 1)  # of rounding


def _peak_around(values: Tensor) -> Tensor:
    """The largest of float `[B, 1, S]`, which are 0 or more, over `_AROUND` samples on either side."""
    of_few, of_most = _WIDTHS
    peaks = F.max_pool1d(F.pad(values, (_AROUND, _AROUND)), of_few, stride=1)
    return F.max_pool1d(peaks, of_most, stride=1, dilation=of_few)


def _mean_around(values: Tensor) -> Tensor:
    """The mean of float `[B, 1, S]` over `_AROUND` samples on either side, as if the ends went on."""
    width = 2 * _AROUND + 1
    padded = F.pad(values, (_AROUND + 1, _AROUND), mode="replicate")
    # On the CPU: not every GPU backend has the double precision that a sum over a whole sound takes.
    sums = padded.cpu().double().cumsum(dim=-1)
    return ((sums[..., width:] - sums[..., :-width]) / width).to(values)


def fade_in(sound: Tensor) -> Tensor:
    """Begin float `[B, 1, S]` at 0."""
    ramp = torch.hann_window(2 * _FADE, device=sound.device)[: min(_FADE, sound.shape[-1])]
    return torch.cat([sound[..., :_FADE] * ramp, sound[..., _FADE:]], dim=-1)
