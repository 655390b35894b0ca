"""The last step on the way back to sound: nothing is cut flat at full scale, and nothing begins with a click."""

import torch
from torch import Tensor
from torch.nn import functional as F

_WIDTHS = 13, 37  # a mean over 13 * 37 samples as a mean of means: 50 additions each in place of 481
# Samples on either side of a peak over which the gain falls and rises: 5 ms at 48 kHz.
_AROUND = _WIDTHS[0] * _WIDTHS[1] // 2
_FADE = 24  # samples from silence: 0.5 ms at 48 kHz, too short to soften an attack


def limit_peaks(sound: Tensor) -> Tensor:
    """Turn float `[B, 1, S]` down around every peak beyond full scale, to within [-1, 1]."""
    loudness = sound.abs()
    if loudness.max() <= 1:
        return sound
    reduction = 1 - F.max_pool1d(loudness, 2 * _AROUND + 1, 1, _AROUND).clamp(min=1).reciprocal()
    # The mean of reductions each of which suffices for the peak in the middle suffices for it, too.
    return (sound * (1 - _mean_around(reduction))).clamp(-1, 1)  # of rounding


def _mean_around(values: Tensor) -> Tensor:
    """The mean of float `[B, 1, S]` over `_AROUND` samples on either side, as if the ends went on."""
    of_few, of_means = (values.new_full((1, 1, width), 1 / width) for width in _WIDTHS)
    padded = F.pad(values, (_AROUND, _AROUND), mode="replicate")
    return F.conv1d(F.conv1d(padded, of_few), of_means, dilation=_WIDTHS[0])


def fade_in(sound: Tensor) -> Tensor:
    """Begin float `[B, 1, S]` at 0."""
    ramp = torch.hann_window(2 * _FADE, device=sound.device)[: min(_FADE, sound.shape[-1])]
    return torch.cat([sound[..., :_FADE] * ramp, sound[..., _FADE:]], dim=-1)
