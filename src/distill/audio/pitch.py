"""The pitch of a sound, where it has a clear one: YIN (de Cheveigné and Kawahara 2002), frame by frame."""

import math

import numpy as np
import numpy.typing as npt

from distill.audio.recording import Samples

_LOWEST, _HIGHEST = 40.0, 2000.0  # Hz
_APERIODIC = 0.1  # the normalized difference of a period to the next, below which it is one: the paper's threshold
_HEARD = 10 ** (-25 / 20)  # of the loudest frame: what is softer has no say
_HOP_S = 0.02
_FRAMES = 100  # at most
_AGREED = 0.7  # of the frames are within half a semitone of each other
_CONCERT_A = 69, 440.0  # a MIDI key, and its pitch in Hz


def midi_key(samples: Samples, rate: int) -> float | None:
    """The pitch of float `[S]` or `[S, channels]` as a MIDI key and its fraction; None where there is no clear one."""
    sound = samples if samples.ndim == 1 else samples.mean(axis=1)
    longest = math.ceil(rate / _LOWEST)
    starts = range(0, len(sound) - 3 * longest, max(1, round(_HOP_S * rate)))[:_FRAMES]
    frames = [sound[start : start + 3 * longest].astype(np.float64) for start in starts]
    loudness = np.array([np.abs(frame).max() for frame in frames])
    heard = [frame for frame, level in zip(frames, loudness) if level > _HEARD * max(loudness.max(), 1e-6)]
    periods = [_period(frame, max(2, math.floor(rate / _HIGHEST)), longest) for frame in heard]
    keys = np.array([_key(rate / period) for period in periods if period])
    if len(keys) == 0:
        return None
    middle = float(np.median(keys))
    agreed = np.abs(keys - middle) < 0.5
    return float(np.mean(keys[agreed])) if agreed.sum() >= _AGREED * len(heard) else None


def _key(frequency: float) -> float:
    key, pitch = _CONCERT_A
    return key + 12 * math.log2(frequency / pitch)


def _period(frame: npt.NDArray[np.float64], shortest: int, longest: int) -> float | None:
    """The period of a frame in samples, to a fraction of one; None where it has none."""
    normalized = _normalized_difference(frame, longest)
    below = np.flatnonzero(normalized[shortest:] < _APERIODIC)
    if len(below) == 0:
        return None
    lag = shortest + int(below[0])
    while lag + 1 < len(normalized) and normalized[lag + 1] < normalized[lag]:
        lag += 1
    if not 0 < lag < len(normalized) - 1:
        return None
    before, here, after = normalized[lag - 1 : lag + 2]
    bend = before - 2 * here + after
    return float(lag + (0.5 * (before - after) / bend if bend > 0 else 0.0))


def _normalized_difference(frame: npt.NDArray[np.float64], longest: int) -> npt.NDArray[np.float64]:
    """The difference between a frame and itself at each lag up to `longest`, over the mean at all shorter lags."""
    window = len(frame) - longest
    size = 1 << (len(frame) + window).bit_length()
    spectrum = np.fft.rfft(frame, size) * np.conj(np.fft.rfft(frame[:window], size))
    product = np.fft.irfft(spectrum, size)[:longest]
    energy = np.concatenate([[0.0], np.cumsum(frame**2)])
    difference = energy[window] + energy[window : window + longest] - energy[:longest] - 2 * product
    mean = np.cumsum(difference[1:]) / np.arange(1, longest)
    # What is silent differs from itself by nothing, and has no period.
    return np.concatenate([[1.0], np.where(mean > 1e-9 * window, difference[1:] / np.maximum(mean, 1e-12), 1.0)])
