"""How unlike two sounds are to the ear, roughly: what is loud when, in bands and in spans that grow with time."""

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from distill.audio.recording import Samples

Portrait = npt.NDArray[np.float32]  # decibels [spans, bands]; 0 for the loudest, `_FLOOR_DB` for what is not heard

_WINDOW_S = 0.021
_BANDS = 24
_LOWEST_HZ, _HIGHEST_HZ = 60.0, 16_000.0
_SPANS_S = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8)  # the onset says most of what a sound is
_ONSET = 10 ** (-40 / 20)  # of the peak: before, it is silent
_FLOOR_DB = -60.0


def portrait(sound: Samples, sample_rate: int) -> Portrait:
    """What there is to compare of a sound float `[S]` or `[S, channels]`, however loud and whenever it begins."""
    mono = sound if sound.ndim == 1 else sound.mean(axis=1)
    loud = np.flatnonzero(np.abs(mono) > _ONSET * max(float(np.abs(mono).max(initial=0)), 1e-9))
    window = 2 ** round(np.log2(_WINDOW_S * sample_rate))
    hop = window // 4
    wanted = round(_SPANS_S[-1] * sample_rate)
    begun = mono[loud[0] : loud[0] + wanted] if len(loud) else mono[:0]
    padded = np.pad(begun, (window // 2, window))
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop] * np.hanning(window).astype(np.float32)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2 @ _filters(window, sample_rate)
    edges = [min(round(second * sample_rate / hop), len(power)) for second in _SPANS_S]
    spans = [power[start:stop].mean(axis=0) if stop > start else np.zeros(_BANDS) for start, stop in pairwise(edges)]
    decibels = 10 * np.log10(np.maximum(spans, 1e-12) / max(float(np.max(spans)), 1e-9))
    seen: Portrait = np.maximum(decibels, _FLOOR_DB).astype(np.float32)
    return seen


def difference(first: Portrait, second: Portrait) -> float:
    """The mean difference of two sounds in decibels, over all that is heard of either: 0 for the same."""
    heard = np.maximum(first, second) > _FLOOR_DB
    return float(np.abs(first - second)[heard].mean()) if heard.any() else 0.0


def _filters(window: int, sample_rate: int) -> npt.NDArray[np.float64]:
    """Which band a bin belongs to, `[bins, bands]`: the mean of those within it, or the nearest where none is."""
    bins = np.fft.rfftfreq(window, 1 / sample_rate)
    edges = np.geomspace(_LOWEST_HZ, _HIGHEST_HZ, _BANDS + 1)
    filters = np.zeros((len(bins), _BANDS))
    for band, (low, high) in enumerate(pairwise(edges.tolist())):
        within = np.flatnonzero((bins >= low) & (bins < high))
        chosen = within if len(within) else [int(np.abs(bins - (low + high) / 2).argmin())]
        filters[chosen, band] = 1 / len(chosen)
    return filters
