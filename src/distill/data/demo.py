"""A small synthesised sound collection, for trying everything without recordings of one's own."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import soundfile as sf

_Signal = npt.NDArray[np.float64]


class _Take(NamedTuple):
    rng: np.random.Generator
    rate: int  # Hz
    seconds: float
    t: _Signal  # (frames,) seconds


# (take, pitch in Hz, decay in seconds, brightness 0..1) -> one (frames,) channel at any level.
_Recipe = Callable[[_Take, float, float, float], _Signal]


class _Sound(NamedTuple):
    name: str
    recipe: _Recipe
    pitch: float  # Hz; for noise recipes the edge or centre of the band
    decay: float  # seconds; for slow sounds the time of the swell
    bright: float  # 0..1
    seconds: float
    rate: int  # Hz
    channels: int = 1


# Building blocks


def _band(take: _Take, signal: _Signal, low: float, high: float) -> _Signal:
    freqs = np.fft.rfftfreq(signal.size, 1 / take.rate)
    gain = freqs**2 / np.sqrt((low**4 + freqs**4) * (1 + (freqs / high) ** 4))
    shaped = np.fft.irfft(np.fft.rfft(signal) * gain, signal.size)
    return shaped / float(shaped.std())


def _noise(take: _Take, low: float, high: float) -> _Signal:
    return _band(take, take.rng.standard_normal(take.t.size), low, high)


def _hit(take: _Take, attack: float, decay: float) -> _Signal:
    return (1 - np.exp(-take.t / attack)) * np.exp(-take.t / decay)


def _tone(take: _Take, freq: _Signal) -> _Signal:
    return np.sin(2 * np.pi * np.cumsum(freq) / take.rate)


# Recipes


def _string(take: _Take, pitch: float, decay: float, bright: float) -> _Signal:
    """A plucked string by a delay line with a damped loop (Karplus and Strong 1983)."""
    delay, fraction = divmod(take.rate / pitch - 1, 1)
    lag, damp = int(delay), 0.02 + 0.2 * (1 - bright) ** 2
    # The pair [1 - fraction, fraction] interpolates, so that the pitch is exact where the period is no whole number.
    taps = np.convolve([damp, 1 - 2 * damp, damp], [1 - fraction, fraction]) * np.exp(-1 / (pitch * decay))
    grain = take.rng.standard_normal(lag + 3)
    grain[lag // 2] += lag**0.5  # an impulse excites every harmonic; noise alone can leave one out
    burst = _band(take, grain, 0.5 * pitch, pitch * (1.5 + 10 * bright**2))
    out = np.zeros(burst.size + take.t.size + lag)
    # The difference with a shifted copy is a comb filter: where on the string it is plucked.
    out[: burst.size] = burst - np.roll(burst, int(lag * take.rng.uniform(0.25, 0.45)))
    for start in range(burst.size, burst.size + take.t.size, lag):
        out[start : start + lag] = np.convolve(out[start - lag - 3 : start], taps, "valid")
    return out[burst.size :][: take.t.size]


def _mallet(take: _Take, pitch: float, decay: float, bright: float, modes: tuple[float, ...]) -> _Signal:
    out = 0.1 * _noise(take, pitch, 2000 + 6000 * bright) * _hit(take, 0.0005, 0.006)
    for step, ratio in enumerate(modes):
        ring = np.sin(2 * np.pi * pitch * ratio * take.rng.uniform(0.999, 1.001) * take.t)
        out += (0.15 + 0.75 * bright) ** step * ring * np.exp(-take.t * ratio**0.8 / decay)
    return out


def _drum(take: _Take, pitch: float, decay: float, bright: float, bend: float, rattle: float) -> _Signal:
    fall = 1 + bend * np.exp(-take.t / 0.03)
    skin = (_tone(take, pitch * fall) + rattle * _tone(take, 1.58 * pitch * fall)) * _hit(take, 0.001, decay)
    hiss = _noise(take, 1200, 3000 + 9000 * bright)
    click = 0.3 * bright * _hit(take, 0.0003, 0.005) + rattle * _hit(take, 0.0008, 1.6 * decay)
    return np.tanh((1 + 2 * bright) * skin) + click * hiss


def _burst(take: _Take, pitch: float, decay: float, bright: float, claps: int) -> _Signal:
    gap = take.rng.uniform(0.009, 0.012)
    after = take.t - claps * gap
    hands = np.exp(-np.where(after >= 0, after / decay, take.t % gap / 0.006))
    return _noise(take, 0.7 * pitch, pitch * (1.5 + 4 * bright)) * hands


def _pad(take: _Take, pitch: float, decay: float, bright: float, chord: tuple[float, ...]) -> _Signal:
    saws = np.zeros(take.t.size)
    for note in np.repeat(pitch * np.array(chord), 3):
        phase = note * 2 ** (take.rng.uniform(-10, 10) / 1200) * take.t + take.rng.random()
        # The slope of a parabola is a saw with far less aliasing than the saw drawn directly.
        saws += np.gradient((phase % 1 - 0.5) ** 2) / note
    opening = np.sin(np.pi * take.t / take.seconds) ** 2 * take.rng.uniform(0.6, 1)
    dark, clear = (_band(take, saws, 40, cut) for cut in (300 + 500 * bright, 700 + 6000 * bright))
    swell: _Signal = (1 - np.exp(-take.t / decay)) ** 2 * np.minimum((take.seconds - take.t) / decay, 1)
    return (dark + opening * (clear - dark)) * swell


def _wind(take: _Take, pitch: float, decay: float, bright: float) -> _Signal:
    out = 0.3 * _noise(take, 60, pitch)
    for step, centre in enumerate(pitch * np.array([1, 1.4, 2.1, 3.2, 4.5])):
        gust = np.sin(np.pi * (take.rng.uniform(0.4, 1.6) / decay * take.t + take.rng.random())) ** 4
        out += (0.4 + 0.6 * bright) ** step * gust * _noise(take, 0.95 * centre, 1.05 * centre)
    return out * np.sin(np.pi * take.t / take.seconds) ** 0.5


def _surf(take: _Take, pitch: float, decay: float, bright: float) -> _Signal:
    swell = take.t / decay * np.exp(1 - take.t / decay)
    body, foam = _noise(take, 80, pitch), _noise(take, pitch, 9000)
    return body * (0.1 * swell + swell**3) + bright * foam * swell**6


def _crackle(take: _Take, pitch: float, decay: float, bright: float) -> _Signal:
    pops = (take.rng.random(take.t.size) < 1 / (decay * take.rate)) * take.rng.standard_normal(take.t.size)
    snaps = _band(take, pops * take.rng.lognormal(0, 0.6, pops.size), 0.5 * pitch, pitch * (1 + 4 * bright))
    # Compressed, or a single loud pop would bury all the others once the level is set by the peak.
    return np.tanh(snaps / 5) + 0.03 * _noise(take, 100, pitch)


def _riser(take: _Take, pitch: float, decay: float, bright: float) -> _Signal:
    climb = take.t / take.seconds
    tone = _tone(take, pitch * 8**climb) + _tone(take, 1.006 * pitch * 8**climb)
    low, high = _noise(take, pitch, 4 * pitch), _noise(take, 8 * pitch, 2000 + 12000 * bright)
    return (tone + (1 - climb) * low + climb * high) * climb * np.exp((take.t - take.seconds) / decay)


_kick, _tom = partial(_drum, bend=4.5, rattle=0), partial(_drum, bend=0.7, rattle=0.03)
_snare = partial(_drum, bend=0.5, rattle=0.6)
_hat, _clap = partial(_burst, claps=0), partial(_burst, claps=3)
_kalimba = partial(_mallet, modes=(1, 2.01, 5.4, 8.9))
_bell = partial(_mallet, modes=(0.5, 1, 1.19, 1.5, 2, 2.51, 2.66, 3.01, 4.1, 5.4))
_fifth = partial(_pad, chord=(1, 1.5, 2))
_minor = partial(_pad, chord=(1, 1.1892, 1.4983, 1.7818))
_major = partial(_pad, chord=(1, 1.2599, 1.4983, 1.8877))

_SOUNDS = (
    _Sound("plucks/pluck_e2_dark.wav", _string, 82.41, 1.1, 0.35, 2.4, 44100),
    _Sound("plucks/pluck_a2_twangy.flac", _string, 110.0, 0.9, 0.85, 2.0, 48000),
    _Sound("plucks/pluck_a3_bright.wav", _string, 220.0, 0.6, 0.95, 1.6, 44100),
    _Sound("plucks/pluck_d4_soft.wav", _string, 293.66, 0.45, 0.45, 1.2, 48000),
    _Sound("plucks/pluck_g4_muted.flac", _string, 392.0, 0.09, 0.7, 0.5, 44100),
    _Sound("plucks/kalimba_e5_warm.wav", _kalimba, 659.26, 0.4, 0.3, 1.2, 48000),
    _Sound("plucks/bell_b5_long.wav", _bell, 987.77, 0.9, 0.7, 2.5, 44100, 2),
    _Sound("drums/kick_deep.wav", _kick, 46.0, 0.22, 0.15, 0.8, 44100),
    _Sound("drums/kick_tight.flac", _kick, 62.0, 0.09, 0.8, 0.4, 48000),
    _Sound("drums/snare_crisp.wav", _snare, 205.0, 0.05, 0.7, 0.4, 44100),
    _Sound("drums/hat_closed.wav", _hat, 11000.0, 0.025, 0.7, 0.15, 44100),
    _Sound("drums/hat_open.wav", _hat, 8500.0, 0.16, 0.4, 0.7, 48000),
    _Sound("drums/tom_low.flac", _tom, 88.0, 0.2, 0.2, 0.8, 44100),
    _Sound("drums/tom_high.wav", _tom, 164.0, 0.13, 0.45, 0.5, 48000),
    _Sound("drums/clap_roomy.wav", _clap, 1300.0, 0.07, 0.5, 0.45, 44100, 2),
    _Sound("pads/pad_c3_fifth_dark.wav", _fifth, 130.81, 0.6, 0.1, 3.0, 44100, 2),
    _Sound("pads/pad_d3_minor_soft.flac", _minor, 146.83, 0.5, 0.3, 2.8, 48000),
    _Sound("pads/pad_f3_major_clear.wav", _major, 174.61, 0.4, 0.55, 2.6, 44100, 2),
    _Sound("pads/pad_a2_minor_bright.wav", _minor, 110.0, 0.3, 0.9, 2.4, 48000),
    _Sound("pads/pad_g4_fifth_airy.wav", _fifth, 392.0, 0.5, 0.7, 2.2, 44100),
    _Sound("noises/wind_hollow.wav", _wind, 420.0, 1.2, 0.5, 3.0, 44100),
    _Sound("noises/surf_slow.flac", _surf, 700.0, 0.9, 0.6, 3.0, 48000, 2),
    _Sound("noises/crackle_fire.wav", _crackle, 1200.0, 0.008, 0.5, 1.8, 44100),
    _Sound("noises/riser_bright.wav", _riser, 110.0, 1.1, 0.8, 2.0, 48000),
)


def _synthesise(sound: _Sound, rng: np.random.Generator) -> _Signal:
    take = _Take(rng, sound.rate, sound.seconds, np.arange(round(sound.seconds * sound.rate)) / sound.rate)
    sides = [sound.recipe(take, sound.pitch, sound.decay, sound.bright) for _ in range(sound.channels)]
    # Some of each channel goes into the others: the stereo image stays wide, but does not fall apart.
    mixed = np.stack(sides, axis=1) @ (0.4 + 0.6 * np.eye(sound.channels))
    ending = np.minimum((take.seconds - take.t) / min(0.06, 0.2 * take.seconds), 1)
    mixed *= (np.minimum(take.t / 0.0005, 1) * ending**2 * (3 - 2 * ending))[:, None]
    level = 10 ** (rng.uniform(-3, -1) / 20)
    return mixed * (level / float(np.abs(mixed).max()))


def write_demo_collection(folder: Path, seed: int = 0) -> list[Path]:
    """Write 24 one-shots of 0.15 to 3 s, 24-bit, 44.1 or 48 kHz, under `folder` and return their paths."""
    paths = [folder / sound.name for sound in _SOUNDS]
    for index, (path, sound) in enumerate(zip(paths, _SOUNDS, strict=True)):
        path.parent.mkdir(parents=True, exist_ok=True)
        audio = _synthesise(sound, np.random.default_rng([seed, index]))
        sf.write(path, audio, sound.rate, subtype="PCM_24")
    return paths
