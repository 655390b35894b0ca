"""Loop points: where a sound that sustains can be played over and over again."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from distill.audio.recording import Samples, peak_of

_SHORTEST_S = 0.1  # of a loop
_COMPARED_S = 0.02  # on either side of the points
_FADE_S = 0.02
_AFTER, _BEFORE = 0.15, 0.95  # of the sound: before, it is an attack; after, it ends
_ENDS = 24  # that are tried
_LEVELS_S = 0.05  # over which the level is measured
_MAX_FALL = 10 ** (-4 / 20)  # of the level from one point to the other: what falls further does not sustain


@dataclass(frozen=True)
class Loop:
    """The samples from `start` to `stop`, which is not played: after the one before it comes `start` again."""

    start: int
    stop: int


def find_loop(samples: Samples, rate: int) -> Loop | None:
    """The best loop of float `[S]` or `[S, channels]`; None where the sound is too short, or does not sustain."""
    sound = (samples if samples.ndim == 1 else samples.mean(axis=1)).astype(np.float64)
    reach, shortest = round(_COMPARED_S * rate), round(_SHORTEST_S * rate)
    first, last = max(reach, round(_AFTER * len(sound))), min(len(sound) - reach, round(_BEFORE * len(sound)))
    if last - first < shortest + reach:
        return None
    level = _level(sound, round(_LEVELS_S * rate))
    found = []
    for stop in np.linspace((first + shortest + last) // 2, last, _ENDS, dtype=int):
        differences = _differences(sound, int(stop), first, int(stop) - shortest, reach)
        ratio = level[first : first + len(differences)] / max(level[stop], 1e-9)
        allowed = (ratio > _MAX_FALL) & (ratio < 1 / _MAX_FALL)
        if level[stop] > 1e-4 and allowed.any():
            start = int(np.where(allowed, differences, np.inf).argmin())
            found.append((float(differences[start]), Loop(first + start, int(stop))))
    return min(found, key=lambda one: one[0])[1] if found else None


def seamless(samples: Samples, loop: Loop, rate: int) -> Samples:
    """A sound; what leads up to the start of its loop is faded in before the stop, at its level and no higher peak."""
    fade = min(round(_FADE_S * rate), loop.start, loop.stop - loop.start)
    made = samples.copy()
    leaving, coming = samples[loop.stop - fade : loop.stop], samples[loop.start - fade : loop.start]
    ramp = np.linspace(0, 1, fade, dtype=np.float32).reshape(-1, *(1,) * (samples.ndim - 1))
    alike = float((leaving * coming).sum() / max(np.sqrt((leaving**2).sum() * (coming**2).sum()), 1e-12))
    # Sounds that are alike add up in amplitude, others in power.
    gain = np.sqrt(ramp**2 + (1 - ramp) ** 2 + 2 * max(alike, 0.0) * ramp * (1 - ramp))
    made[loop.stop - fade : loop.stop] = (leaving * (1 - ramp) + coming * ramp) / gain
    return made * np.float32(min(1.0, peak_of(samples) / max(peak_of(made), 1e-9)))


def _level(sound: npt.NDArray[np.float64], length: int) -> npt.NDArray[np.float64]:
    """The level around each sample, `[S]`."""
    total = np.concatenate([[0.0], np.cumsum(sound**2)])
    place = np.arange(len(sound))
    low, high = np.maximum(place - length // 2, 0), np.minimum(place + length // 2 + 1, len(sound))
    level: npt.NDArray[np.float64] = np.sqrt(np.maximum(total[high] - total[low], 0) / (high - low))
    return level


def _differences(
    sound: npt.NDArray[np.float64], stop: int, first: int, last: int, reach: int
) -> npt.NDArray[np.float64]:
    """How far the sound around each place from `first` to `last` differs from that around `stop`, 0 to 1 and more."""
    around, wanted = sound[first - reach : last + reach], sound[stop - reach : stop + reach]
    size = 1 << (len(around) + len(wanted)).bit_length()
    product = np.fft.irfft(np.fft.rfft(around, size) * np.conj(np.fft.rfft(wanted, size)), size)[: last - first]
    total = np.concatenate([[0.0], np.cumsum(around**2)])
    energy = total[2 * reach : 2 * reach + last - first] - total[: last - first]
    own = float((wanted**2).sum())
    ratio: npt.NDArray[np.float64] = (energy + own - 2 * product) / np.maximum(energy + own, 1e-12)
    return ratio
