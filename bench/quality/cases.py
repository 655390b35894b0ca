"""Small cases that once failed: attacks after a silence, the pitch of plain tones, full scale, and the first samples.

    python -m bench.quality.cases [MODEL] [--sounds DIR]     without MODEL: the way back from true mels

Every figure is 0 for a sound that comes back as it was, but for the longest run at full scale: 1 is a peak, many are a
peak that was cut flat. Attacks and full scale are measured on the first second of each sound in DIR, which for a model
should be of its own kind; without DIR on four synthesised hits.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

import distill
from bench.quality.mel_distance import RATE, read_mono
from bench.quality.phase import with_reconstructed_phase
from bench.shared.markdown import table
from distill.audio.spectrogram import AudioSpectrogram, SpectrogramConfig, mark_end
from distill.families import get_family

Sound = np.ndarray[Any, np.dtype[np.floating[Any]]]  # [S]

DELAYS = tuple(range(0, 8192, 1024))  # samples of 48 kHz: a column of 16 frames, in eighths
BASS = tuple(35 * 2 ** (step / 12) for step in range(17))  # Hz, to 88
TONES = tuple(125 * 2 ** (step / 2) for step in range(11))  # Hz, to 4000
_FULL = 0.9999


@dataclass(frozen=True)
class Way:
    """A way there and back: from sounds at 48 kHz to sounds at `rate` Hz."""

    rate: int
    play: Callable[[Sound], Sound]

    @classmethod
    def through(cls, model: str) -> Self:
        """Through a trained model, given by its name, id or file."""
        loaded = distill.load(model)
        return cls(loaded.sample_rate, lambda sound: loaded.reconstruct(sound, RATE))

    @classmethod
    def from_true_mels(cls) -> Self:
        """Through nothing but the mel of the default family."""
        spectrogram = AudioSpectrogram(get_family("vqvae").spectrogram or SpectrogramConfig())

        def play(sound: Sound) -> Sound:
            waveform = torch.from_numpy(sound)
            mel = spectrogram.waveform_to_mel(mark_end(waveform)[None, None])
            return np.asarray(with_reconstructed_phase(spectrogram, mel, waveform).numpy(), np.float32)

        return cls(spectrogram.config.sample_rate, play)

    def written(self, sound: Sound) -> Sound:
        """What a file of the played sound would hold."""
        return np.clip(self.play(sound.astype(np.float32)), -1, 1)


def measured(way: Way, sounds: Sequence[Sound]) -> dict[str, list[float]]:
    """Every figure, a value for each sound or tone."""
    loud = [(sound, way.written(sound)) for sound in (sound / np.abs(sound).max() for sound in sounds)]
    return {
        "attack after 0 to 149 ms, worst of eight, dB": [worst(delayed_attacks(way, sound)) for sound in sounds],
        "pitch of bass sines, 35 to 88 Hz, cents": [pitch_error(way, hz) for hz in BASS],
        "pitch of tones, 125 Hz to 4 kHz, cents": [pitch_error(way, hz) for hz in TONES],
        "more samples at full scale": [at_full_scale(played) - at_full_scale(sound) for sound, played in loud],
        "longest run of those": [longest_run(played) for _, played in loud],
        "loudest of the first three samples": [float(np.abs(played[:3]).max()) for _, played in loud],
    }


def delayed_attacks(way: Way, sound: Sound) -> list[float]:
    """The level in dB of the first 0.1 s of a sound, over the original's, after each silence."""
    return [
        level(way.written(np.pad(sound, (delay, 0)))[delay * way.rate // RATE :][: way.rate // 10])
        - level(sound[: RATE // 10])
        for delay in DELAYS
    ]


def level(sound: Sound) -> float:
    """Loudness in dB of full scale."""
    return 10 * float(np.log10(np.square(sound, dtype=np.float64).mean() + 1e-12))


def pitch_error(way: Way, hz: float) -> float:
    """How far, in cents, a decaying sine comes back from its pitch."""
    time = np.arange(round(1.2 * RATE)) / RATE
    sine = 0.8 * np.sin(2 * np.pi * hz * time) * np.minimum(1, time / 0.005) * np.exp(-1.5 * time)
    highest = max(400.0, 2 * hz)
    found = pitch(way.written(sine), way.rate, highest)
    return 1200 * float(np.log2(max(found, 1) / pitch(sine, RATE, highest)))


def pitch(sound: Sound, rate: int, highest: float) -> float:
    """The frequency in Hz below `highest` of what sounds from 0.1 to 0.7 s: the slope of its phase."""
    spectrum = np.fft.fft(sound)
    frequencies = np.fft.fftfreq(len(sound), 1 / rate)
    spectrum[(frequencies < 0) | (frequencies > highest)] = 0
    part = slice(round(0.1 * rate), round(0.7 * rate))
    phases = np.unwrap(np.angle(np.fft.ifft(spectrum)))[part]
    return float(np.polyfit(np.arange(len(phases)) / rate, phases, 1)[0] / (2 * np.pi))


def at_full_scale(sound: Sound) -> int:
    """The number of samples at full scale."""
    return int((np.abs(sound) >= _FULL).sum())


def longest_run(sound: Sound) -> int:
    """The largest number of samples at full scale in a row: a peak that was turned down has one or two."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.abs(sound) >= _FULL, [0]])))
    return int(np.diff(edges)[::2].max(initial=0))


def worst(values: Sequence[float]) -> float:
    """The value that is furthest from 0."""
    return max(values, key=abs)


def hits() -> list[Sound]:
    """Four hits of a second: a kick, a snare, a closed cymbal and a struck bar."""
    time, noise = np.arange(RATE) / RATE, np.random.default_rng(0).normal(scale=0.2, size=RATE)
    hits = [
        0.8 * np.sin(2 * np.pi * (50 * time + 4 * (1 - np.exp(-40 * time)))) * np.exp(-8 * time),
        (0.4 * np.sin(2 * np.pi * 190 * time) + noise) * np.exp(-18 * time),
        np.diff(noise, prepend=0.0) * np.exp(-40 * time),
        sum(np.sin(2 * np.pi * hz * time) * np.exp(-hz / 100 * time) for hz in (440, 1214, 2379)) / 4,
    ]
    return [hit.astype(np.float32) for hit in hits]


def report(figures: dict[str, list[float]]) -> str:
    """The median size of each figure and its worst value as a table."""
    body = [[name, f"{np.median(np.abs(values)):.2f}", f"{worst(values):.2f}"] for name, values in figures.items()]
    return table(["case", "median size", "worst"], body)


def main() -> int:
    """Print the table for the model given on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", metavar="MODEL", help="the name, id or file of a model")
    parser.add_argument("--sounds", type=Path, metavar="DIR", help="sounds to measure attacks and full scale on")
    args = parser.parse_args()
    sounds = hits()
    if args.sounds:
        paths = [path for path in sorted(args.sounds.rglob("*")) if path.is_file()]
        sounds = [sound for sound in (read_mono(path)[:RATE].numpy() for path in paths) if np.abs(sound).max() > 1e-3]
    if not sounds:
        print("there are no sounds to measure on", file=sys.stderr)
        return 1
    way = Way.through(args.model) if args.model else Way.from_true_mels()
    print(report(measured(way, sounds)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
