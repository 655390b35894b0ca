"""The last step on the way back to sound: nothing is cut flat at full scale, and nothing begins with a click."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

_STEPS = 1, 2, 4, 8, 16, 32, 64, 128, 256  # the widths of windows that are joined to those of twice the width
_BEFORE = _STEPS[-1]  # samples within a window of 512 before the one it is for: the gain falls and rises over 5 ms
_AFTER = _BEFORE - 1
_FADE = 24  # samples from silence: 0.5 ms at 48 kHz, too short to soften an attack


def limit_peaks(sound: Tensor) -> Tensor:
    """Turn float `[B, 1, S]` down around every peak beyond full scale, to within [-1, 1]."""
    loudness = sound.abs()
    if loudness.max() <= 1:
        return sound
    # 0 beyond the ends, which is below every peak that counts.
    peaks = _over_windows(torch.maximum, F.pad(loudness, (_BEFORE, _AFTER)))
    reduction = 1 - peaks.clamp(min=1).reciprocal()
    # The mean of reductions each of which suffices for the peak in the middle suffices for it, too: mirrored windows.
    mean = _over_windows(torch.add, F.pad(reduction, (_AFTER, _BEFORE), mode="replicate")) / (_BEFORE + _AFTER + 1)
    return (sound * (1 - mean)).clamp(-1, 1)  # of rounding


def _over_windows(join: Callable[[Tensor, Tensor], Tensor], values: Tensor) -> Tensor:
    """Join all values of each window of 512 of float `[B, 1, S]`: `[B, 1, S - 511]`."""
    for step in _STEPS:
        values = join(values[..., :-step], values[..., step:])
    return values


def fade_in(sound: Tensor) -> Tensor:
    """Begin float `[B, 1, S]` at 0."""
    ramp = torch.hann_window(2 * _FADE, device=sound.device)[: min(_FADE, sound.shape[-1])]
    return torch.cat([sound[..., :_FADE] * ramp, sound[..., _FADE:]], dim=-1)
