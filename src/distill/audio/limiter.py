"""The last step on the way back to sound: nothing is cut flat at full scale, and nothing begins with a click."""

import torch
from torch import Tensor
from torch.nn import functional as F

_AROUND = 240  # samples on either side of a peak over which the gain falls and rises: 5 ms at 48 kHz
_FADE = 24  # samples from silence: 0.5 ms at 48 kHz, too short to soften an attack


def limit_peaks(sound: Tensor) -> Tensor:
    """Turn float `[B, 1, S]` down around every peak beyond full scale, to within [-1, 1]."""
    loudness = sound.abs()
    if loudness.max() <= 1:
        return sound
    window = 2 * _AROUND + 1
    needed = F.max_pool1d(loudness, window, 1, _AROUND).clamp(min=1).reciprocal()
    # The mean of gains each of which suffices for the peak in the middle suffices for it, too.
    return (sound * _mean_around(needed)).clamp(-1, 1)  # of rounding


def _mean_around(values: Tensor) -> Tensor:
    """The mean of float `[B, 1, S]` over `_AROUND` samples on either side, fewer at the ends."""
    # A difference of two sums up to there, in double precision: to pool takes a hundred times as long.
    sums = F.pad(values.double().cumsum(dim=-1), (1, 0))
    place = torch.arange(values.shape[-1], device=values.device)
    begin, end = (place - _AROUND).clamp(min=0), (place + _AROUND + 1).clamp(max=values.shape[-1])
    return ((sums[..., end] - sums[..., begin]) / (end - begin)).to(values.dtype)


def fade_in(sound: Tensor) -> Tensor:
    """Begin float `[B, 1, S]` at 0."""
    ramp = torch.hann_window(2 * _FADE, device=sound.device)[: min(_FADE, sound.shape[-1])]
    return torch.cat([sound[..., :_FADE] * ramp, sound[..., _FADE:]], dim=-1)
