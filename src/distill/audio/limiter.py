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
    return (sound * F.avg_pool1d(needed, window, 1, _AROUND, count_include_pad=False)).clamp(-1, 1)  # of rounding


def fade_in(sound: Tensor) -> Tensor:
    """Begin float `[B, 1, S]` at 0."""
    ramp = torch.hann_window(2 * _FADE, device=sound.device)[: min(_FADE, sound.shape[-1])]
    return torch.cat([sound[..., :_FADE] * ramp, sound[..., _FADE:]], dim=-1)
