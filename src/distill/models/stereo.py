"""Stereo from a model of mono sounds: the middle carries the phases, and bands say how both sides differ from it.

Sides that are coded and searched for phases one by one would no longer agree: what was in the middle would be smeared
between them, and partly cancel where both are mixed. So it is the middle, (left + right) / 2, and the difference,
(left - right) / 2, that become sound. From the bands of both sides follows how much of the difference is the middle
itself, panned (as in the stereo prediction of MPEG-D USAC), and how much goes its own way.
"""

import torch
from torch import Tensor, nn

from distill.audio.mel import MelScale
from distill.audio.stft import Resynthesis, magnitudes
from distill.audio.vocoder import set_bands

_MOST_PANNED = 4.0  # of the middle in the difference: at 1 all of it is on one side, beyond it the sides cancel
_LOUDEST_OWN = 4.0  # times what was made of the difference
_FAINT = 1e-9  # of a power


def joined(mid_side: Tensor, sides: Tensor, middle: Tensor, scale: MelScale, window: Tensor) -> Tensor:
    """Left and right float `[2, S]` of the middle and the difference `[2, S]`.

    `sides` are the magnitudes of the bands of left and right `[2, T, M]`, `middle` those of the middle `[T, M]`.
    """
    powers, power = sides.square(), middle.square().clamp(min=_FAINT)
    different = (powers.mean(dim=0) - power).clamp(min=0)  # the power of the difference
    most = (different / power).sqrt().clamp(max=_MOST_PANNED)
    panned = ((powers[0] - powers[1]) / (4 * power)).clamp(-most, most)
    own = (different - panned.square() * power).clamp(min=0)
    to_bands = set_bands(sides, scale)

    def change(spectra: Tensor, start: int) -> Tensor:
        part = slice(start, start + spectra.shape[1])
        mid, side = spectra
        side = side - mid * (_alike(mid, side, scale) @ scale.shares)
        found = magnitudes(side) @ scale.filters.T
        share = (own[part] / found.square().clamp(min=_FAINT)).sqrt().clamp(max=_LOUDEST_OWN)
        difference = mid * (panned[part] @ scale.shares) + side * (share @ scale.shares)
        return to_bands(torch.stack([mid + difference, mid - difference]), start)

    hop, samples = scale.config.hop_length, mid_side.shape[-1]
    # Whole hops, and no more frames than there are bands for.
    padded = nn.functional.pad(mid_side, (0, (sides.shape[1] - 1) * hop - samples))
    return nn.functional.pad(Resynthesis(window, hop, padded.shape[-1])(padded, change), (0, samples))[:, :samples]


def _alike(mid: Tensor, side: Tensor, scale: MelScale) -> Tensor:
    """How much of the middle is in the difference, by least squares in each band: `[T, M]` of spectra `[T, F]`."""
    cross = (mid.real * side.real + mid.imag * side.imag) @ scale.filters.T
    power = magnitudes(mid).square() @ scale.filters.T
    return (cross / power.clamp(min=_FAINT)).clamp(-_LOUDEST_OWN, _LOUDEST_OWN)
