"""Sounds that belong together, so that a split never parts them: the sides of a recording, and near copies.

What is set aside to check the learning with would otherwise be what was learnt from.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from distill.audio.recording import Samples, peak_of
from distill.data.collection import Sound
from distill.data.prefetch import PrefetchedWaveform

Spectrum = npt.NDArray[np.complexfloating]

_SIDE = re.compile(r"(?:(.*)[\s._(\[-]+|)(L|R|left|right)[)\]]?", re.IGNORECASE)
_ALIKE = 0.9  # correlation of near copies, wherever they begin
_COMPARED = 1 << 14  # samples, 0.3 s at 48 kHz
_SEARCHED_S = 10.0  # for the beginning of the sound
_ONSET = 0.1  # of the peak
_BEFORE = 512  # samples before it
_BINS = 8  # of the spectrum in a band


def related(sounds: Sequence[Sound], sample_rate: int) -> dict[str, str]:
    """The group of each sound, by digest: that of the first of its group.

    Sounds of which only the headers were read are compared by name alone.
    """
    group = {sound.digest: sound.digest for sound in sounds}
    for one, other in (*_sides(sounds), *_near_copies(sounds, sample_rate)):
        first, second = sorted((group[one], group[other]))
        group = {digest: first if its == second else its for digest, its in group.items()}
    return group


def _sides(sounds: Sequence[Sound]) -> Iterable[tuple[str, str]]:
    """Pairs of sounds that are named as the left and the right side of one recording."""
    named = defaultdict[tuple[Path, str], dict[str, str]](dict)
    for sound in sounds:
        if side := _SIDE.fullmatch(sound.path.stem):
            named[sound.path.parent, (side[1] or "").lower()][side[2][0].lower()] = sound.digest
    return [(both["l"], both["r"]) for both in named.values() if len(both) == 2]


def _near_copies(sounds: Sequence[Sound], sample_rate: int) -> Iterable[tuple[str, str]]:
    """Pairs of a sound and one that begins almost like it, at whatever level."""
    decoded = sorted(
        (sound for sound in sounds if not isinstance(sound.waveform, PrefetchedWaveform)),
        key=lambda sound: sound.digest,
    )
    # Only the first of a group is compared: a long row of sounds, each a little different, is no group.
    firsts: list[tuple[Sound, Samples]] = []
    for sound in decoded:
        spectrum = _spectrum(sound, sample_rate)
        bands = _bands(spectrum)
        for first, its_bands in firsts:
            # Two sounds correlate no better than the magnitudes of their spectra, so few are compared at all shifts.
            if bands @ its_bands >= _ALIKE and _correlation(spectrum, _spectrum(first, sample_rate)) >= _ALIKE:
                yield first.digest, sound.digest
                break
        else:
            firsts.append((sound, bands))


def _spectrum(sound: Sound, sample_rate: int) -> Spectrum:
    """The spectrum of the first `_COMPARED` samples that sound, with a power of 1."""
    samples = sound.waveform[: round(_SEARCHED_S * sample_rate)]
    onset = int(np.argmax(np.abs(samples) >= _ONSET * peak_of(samples)))
    part = samples[max(0, onset - _BEFORE) :][:_COMPARED]
    # Of twice the length, so that shifts do not wrap round.
    return np.fft.rfft(part / np.float32(np.linalg.norm(part) or 1), 2 * _COMPARED)


def _bands(spectrum: Spectrum) -> Samples:
    """The magnitudes in bands of a spectrum, float32 `[_COMPARED / _BINS]`, with a power of 1."""
    powers = np.abs(spectrum[1:]).astype(np.float32) ** 2
    magnitudes: Samples = np.sqrt(powers.reshape(-1, _BINS).sum(axis=1))
    magnitudes /= np.linalg.norm(magnitudes) or 1
    return magnitudes


def _correlation(one: Spectrum, other: Spectrum) -> float:
    """The highest correlation of two sounds at any shift."""
    return float(np.abs(np.fft.irfft(one * other.conj())).max())
