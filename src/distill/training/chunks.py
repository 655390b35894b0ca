"""Sounds cut into chunks of one length, varied so that a few of them go a long way, as waveforms or as mels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import soxr
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from distill.audio.recording import Samples, peak_of
from distill.audio.spectrogram import PADDING, AudioSpectrogram, SpectrogramConfig, mark_end
from distill.data.collection import Sound
from distill.data.waveforms import Waveform
from distill.paths import shown

Key = tuple[int, int, int]  # epoch, place in it, chunk
NO_CHUNK: Key = (-1, -1, -1)  # for a process that gets no part of a small batch: silence, which counts in nothing

SPEED_EPOCHS = 4  # in which a sound keeps its varied speed, so that its mel serves more than once
_GAIN_DB = (-9.0, 3.0)
_SPEED = 1.6  # a varied chunk is played up to so many times faster, or slower
_SPEED_SHARE = 0.5  # of the chunks have their speed varied
_MEL_BYTES = 256 << 20  # of mels kept: those of 46 minutes at 48 kHz, each sound at two speeds
_MEL_SOUND_S = 60.0  # the longest sound whose mel is made as a whole: cancelling has to wait for those of a batch


@dataclass(frozen=True)
class Chunk:
    """What is shown of a sound: from sample `start` on, played so many times faster, and so much louder.

    It is cut short, then padded, at the sound's end.
    """

    sound: int
    start: int
    speed: float = 1.0
    gain: float = 1.0


class ChunkDataset(Dataset[Tensor]):
    """Chunks `[1, S]` of decoded sounds, by (epoch, place): the same key always gives the same samples.

    With `augment`, chunks of an epoch are cut at a shifted grid and played at a varied gain, half of them at a varied
    speed, and so pitch: sounds that the collection does not have, but could.
    """

    def __init__(self, sounds: Sequence[Sound], samples: int, sample_rate: int, seed: int, augment: bool) -> None:
        self.waveforms: list[Waveform] = [sound.waveform for sound in sounds]
        self.digests = [sound.digest for sound in sounds]
        self.names = [shown(sound.path.name) for sound in sounds]
        self.duration_s = sum(map(len, self.waveforms)) / sample_rate
        self.sample_rate, self.samples, self.seed, self.augment = sample_rate, samples, seed, augment
        self.chunks = [
            Chunk(sound, start)
            for sound, waveform in enumerate(self.waveforms)
            for start in range(0, len(waveform), samples)
        ]

    def __len__(self) -> int:
        return len(self.chunks)

    def order(self, epoch: int, copies: int) -> list[int]:
        """Indices of the chunks in the order of one epoch, `copies` of each."""
        drawn = np.random.default_rng([self.seed, epoch]).permutation(len(self.chunks) * copies)
        return [int(place) % len(self.chunks) for place in drawn]

    def examples(self, count: int) -> list[int]:
        """Indices of `count` chunks, or of all, that show as many sounds as they can: of each the first, then more."""
        return sorted(range(len(self.chunks)), key=lambda index: (self.chunks[index].start, index))[:count]

    def title(self, index: int) -> str:
        """What a chunk is called: the file's name, and from where on if that is not its beginning."""
        chunk = self.chunks[index]
        begins = f", from {chunk.start / self.sample_rate:.3g} s" if chunk.start else ""
        return self.names[chunk.sound] + begins

    def __getitem__(self, key: Key) -> Tensor:
        return self.waveform(key)

    def waveform(self, key: Key) -> Tensor:
        """The samples float32 `[1, S]` of a chunk."""
        samples = torch.zeros(1, self.samples)
        if key == NO_CHUNK:
            return samples
        cut = self._cut(key)
        length = self._length(cut.speed)
        piece = self.waveforms[cut.sound][cut.start : cut.start + length]
        if length != self.samples:
            piece = soxr.resample(piece, length, self.samples)[: self.samples]
        sound = torch.mul(torch.from_numpy(piece), _unclipped(cut.gain, piece), out=samples[0, : len(piece)])
        sound[-1:] = mark_end(sound[-1:])
        return samples

    def _cut(self, key: Key) -> Chunk:
        """The chunk of a key, varied."""
        epoch, place, index = key
        chunk = self.chunks[index]
        if not self.augment:
            return chunk
        rng = np.random.default_rng([self.seed, epoch, place])
        speed = self._speed(chunk.sound, epoch) if rng.random() < _SPEED_SHARE else 1.0
        length = self._length(speed)
        latest = max(0, len(self.waveforms[chunk.sound]) - length)
        start = int(np.clip(chunk.start + rng.integers(-length // 2, length // 2 + 1), 0, latest))
        return Chunk(chunk.sound, start, speed, 10 ** (rng.uniform(*_GAIN_DB) / 20))

    def _speed(self, sound: int, epoch: int) -> float:
        """The varied speed of a sound, another every few epochs, not of all sounds at once."""
        rng = np.random.default_rng([self.seed, sound, (epoch + sound) // SPEED_EPOCHS, 1])
        return float(_SPEED ** rng.triangular(-1, 0, 1))

    def _length(self, speed: float) -> int:
        """How many samples of a sound fill a chunk at a speed."""
        return round(self.samples * speed)


@dataclass(frozen=True)
class _Played:
    """A whole sound at a speed: its mel `[M, T]`, and the gain at which it would clip."""

    speed: float
    mel: Tensor
    largest_gain: float


class MelDataset(ChunkDataset):
    """The same chunks as mels `[1, M, T]`, cut from those of whole sounds, which are computed once for each speed."""

    def __init__(
        self, sounds: Sequence[Sound], samples: int, spectrogram: SpectrogramConfig, seed: int, augment: bool
    ) -> None:
        super().__init__(sounds, samples, spectrogram.sample_rate, seed, augment)
        self.spectrogram = AudioSpectrogram(spectrogram)
        self._played: dict[tuple[int, bool], _Played] = {}

    @staticmethod
    def fits(sounds: Sequence[Sound], spectrogram: SpectrogramConfig, augment: bool) -> bool:
        """Whether the mels of all the sounds can be kept in memory, varied ones too, and none of them is long."""
        lengths, speeds = [len(sound.waveform) for sound in sounds], 2 if augment else 1
        kept = speeds * sum(lengths) / spectrogram.hop_length * spectrogram.n_mels * torch.float32.itemsize
        return kept <= _MEL_BYTES and max(lengths) <= _MEL_SOUND_S * spectrogram.sample_rate

    def __getitem__(self, key: Key) -> Tensor:
        frames = self.spectrogram.frames(self.samples)
        if key == NO_CHUNK:
            return torch.full((1, self.spectrogram.config.n_mels, frames), PADDING)
        cut = self._cut(key)
        played = self._play(cut.sound, cut.speed)
        start = min(round(cut.start / cut.speed / self.spectrogram.config.hop_length), played.mel.shape[-1] - 1)
        mel = played.mel[:, start : start + frames]
        louder = self.spectrogram.louder(mel, min(cut.gain, played.largest_gain))
        return nn.functional.pad(louder, (0, frames - mel.shape[-1]), value=PADDING).unsqueeze(0)

    def _play(self, sound: int, speed: float) -> _Played:
        """A sound at a speed, from memory if it was the latest, for it will be asked for again."""
        place = sound, speed != 1.0
        played = self._played.get(place)
        if played is None or played.speed != speed:
            samples = self.waveforms[sound][:]
            if speed != 1.0:
                samples = soxr.resample(samples, speed, 1.0)
            mel = self.spectrogram.whole_mel(torch.from_numpy(samples))[0, 0]
            played = self._played[place] = _Played(speed, mel, _unclipped(math.inf, samples))
        return played


def _unclipped(gain: float, samples: Samples) -> float:
    """`gain`, or less where the samples would leave [-1, 1]."""
    peak = peak_of(samples)
    return min(gain, 1 / peak) if peak > 0 else 1.0
