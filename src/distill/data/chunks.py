"""Sounds cut into chunks of one length, varied so that a few of them go a long way, as waveforms or as mels."""

import math
import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import soxr
import torch
from torch import Tensor
from torch.utils.data import Dataset

from distill.audio.recording import Samples, peak_of
from distill.audio.spectrogram import PADDING, AudioSpectrogram, SpectrogramConfig, mark_end
from distill.data.collection import Sound
from distill.data.prefetch import Prefetch, PrefetchedWaveform
from distill.data.waveforms import Waveform
from distill.paths import printable

Key = tuple[int, int, int]  # epoch, place in it, chunk
NO_CHUNK: Key = (-1, -1, -1)  # for a process that gets no part of a small batch: silence, which counts in nothing

SPEED_EPOCHS = 4  # in which a sound keeps its varied speed, so that its mel serves more than once
SPEEDS = 16  # that a sound has in turn, beside its own
_GAIN_DB = (-9.0, 3.0)
_SPEED = 1.6  # a varied chunk is played up to so many times faster, or slower
_SPEED_SHARE = 0.5  # of the chunks have their speed varied
_MEL_BYTES = 256 << 20  # of mels kept: those of 46 minutes at 48 kHz, each sound at two speeds, or 5 minutes at 17
_DRAWN_AT_ONCE = 256  # for each one of its own, a generator would take longer than all else about a chunk
_PLAYERS = 8  # at most, where sounds are played ahead
_PART_S = 900.0  # of awaited sounds whose chunks the first epoch mixes before it goes on
_PART_SOUNDS = 8  # at least in such a part: a model must not begin with one alone
_MEL_SOUND_S = 60.0  # the longest sound whose mel is made as a whole: cancelling has to wait for those of a batch


class Chunk(NamedTuple):
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

    prefetch: Prefetch  # goes on as long as somebody has the data set

    def __init__(self, sounds: Sequence[Sound], samples: int, sample_rate: int, seed: int, augment: bool) -> None:
        self.waveforms: list[Waveform] = [sound.waveform for sound in sounds]
        self.digests = [sound.digest for sound in sounds]
        self.names = [printable(sound.path.name) for sound in sounds]
        self.duration_s = sum(map(len, self.waveforms)) / sample_rate
        self.sample_rate, self.samples, self.seed, self.augment = sample_rate, samples, seed, augment
        self.speeds = SPEEDS
        self.awaited = any(isinstance(waveform, PrefetchedWaveform) for waveform in self.waveforms)
        self._parts = _parts([len(waveform) / sample_rate for waveform in self.waveforms])
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
        order = [int(place) % len(self.chunks) for place in drawn]
        return sorted(order, key=self._part) if epoch == 0 and self.awaited else order

    def _part(self, index: int) -> int:
        """Which part of the sounds a chunk is of: of awaited ones, the first epoch goes through part after part."""
        return self._parts[self.chunks[index].sound]

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
        if len(piece) == 0:  # of an awaited sound less can be there than its header says
            return samples
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
        varied, shift, gain = _draws(self.seed, epoch, place // _DRAWN_AT_ONCE)[place % _DRAWN_AT_ONCE]
        speed = self._speed(chunk.sound, epoch) if varied < _SPEED_SHARE else 1.0
        length = self._length(speed)
        latest = max(0, len(self.waveforms[chunk.sound]) - length)
        start = chunk.start + round((shift - 0.5) * length)
        softest, loudest = _GAIN_DB
        louder = 10 ** ((softest + gain * (loudest - softest)) / 20)
        return Chunk(chunk.sound, min(max(start, 0), latest), speed, louder)

    def _speed(self, sound: int, epoch: int) -> float:
        """The varied speed of a sound, another every few epochs, not of all sounds at once."""
        return _varied_speed(self.seed, sound, (epoch + sound) // SPEED_EPOCHS % self.speeds)

    def _length(self, speed: float) -> int:
        """How many samples of a sound fill a chunk at a speed."""
        return round(self.samples * speed)


Playing = tuple[int, float]  # a sound and its speed


class _Kept(NamedTuple):
    """Where the mel of a whole sound at a speed is: its first row, how many there are; the gain at which it clips."""

    first: int
    frames: int
    largest_gain: float


class MelDataset(ChunkDataset):
    """The same chunks as mels `[1, M, T]`, cut from those of whole sounds, which are computed once for each speed.

    They are kept on `device`, where batches are cut from them; for a GPU the sounds of the next epoch are played ahead.
    """

    def __init__(
        self,
        sounds: Sequence[Sound],
        samples: int,
        spectrogram: SpectrogramConfig,
        seed: int,
        augment: bool,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(sounds, samples, spectrogram.sample_rate, seed, augment)
        self.spectrogram = AudioSpectrogram(spectrogram).to(device)
        self.device = torch.device(device)
        self.speeds = min(SPEEDS, max(1, int(_MEL_BYTES / _mel_bytes(sounds, spectrogram)) - 1)) if augment else 0
        longest = [len(waveform) + round(self.speeds * _SPEED * len(waveform)) for waveform in self.waveforms]
        rows = sum(length // spectrogram.hop_length + 2 * (1 + self.speeds) for length in longest)
        # Rows for the slowest of speeds: on a CPU, those not used take no memory.
        self._rows = torch.empty(rows, spectrogram.n_mels, device=device)
        self._filled = 0
        self._kept: dict[Playing, _Kept] = {}
        self._awaited: dict[Playing, Future[Samples]] = {}
        # A CPU has enough to do with the steps.
        self._players = ThreadPoolExecutor(min(_PLAYERS, os.cpu_count() or 1)) if self.device.type == "cuda" else None

    @staticmethod
    def fits(sounds: Sequence[Sound], spectrogram: SpectrogramConfig, augment: bool) -> bool:
        """Whether the mels of all the sounds can be kept in memory, varied ones too, and none is long, or awaited."""
        if any(isinstance(sound.waveform, PrefetchedWaveform) for sound in sounds):
            return False
        longest = max(len(sound.waveform) for sound in sounds)
        kept = _mel_bytes(sounds, spectrogram) * (2 if augment else 1)
        return kept <= _MEL_BYTES and longest <= _MEL_SOUND_S * spectrogram.sample_rate

    def order(self, epoch: int, copies: int) -> list[int]:
        """Indices of the chunks in the order of one epoch, `copies` of each."""
        if self._players and self.augment:
            self._play_ahead(self._players, epoch)
        return super().order(epoch, copies)

    def _play_ahead(self, players: ThreadPoolExecutor, epoch: int) -> None:
        """Begin to play what an epoch and the next will show, in threads beside this one."""
        sounds = range(len(self.waveforms))
        wanted = {(sound, self._speed(sound, then)) for then in (epoch, epoch + 1) for sound in sounds}
        self._awaited = {
            place: self._awaited.get(place) or players.submit(_play, self.waveforms[place[0]], place[1])
            for place in sorted(wanted - self._kept.keys())
        }

    def __getitem__(self, key: Key) -> Tensor:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[Key]) -> Tensor:
        """The mels float32 `[B, 1, M, T]` of some chunks, in as many operations as for one."""
        first, count, gain = zip(*map(self._place, keys))
        begin, stop = self._there(torch.tensor([first, count])).unsqueeze(-1)
        frame = torch.arange(self.spectrogram.frames(self.samples), device=self.device)
        mel = self._rows[begin + torch.minimum(frame, stop - 1).clamp(min=0)]  # [B, T, M]
        mel = self.spectrogram.louder(mel, self._there(torch.tensor(gain))[:, None, None])
        return mel.masked_fill((frame >= stop).unsqueeze(-1), PADDING).mT.unsqueeze(1).contiguous()

    def _there(self, value: Tensor) -> Tensor:
        """`value` on the device; a GPU does not have to be done with what it does now."""
        return value.to(self.device, non_blocking=True)

    def _place(self, key: Key) -> tuple[int, int, float]:
        """Of a chunk: its first row, how many there are, and how much louder it is to be."""
        if key == NO_CHUNK:
            return 0, 0, 1.0
        cut = self._cut(key)
        kept = self._kept.get((cut.sound, cut.speed)) or self._keep(cut.sound, cut.speed)
        start = min(round(cut.start / cut.speed / self.spectrogram.config.hop_length), kept.frames - 1)
        return kept.first + start, kept.frames - start, min(cut.gain, kept.largest_gain)

    def _keep(self, sound: int, speed: float) -> _Kept:
        """Keep the mel of a sound at a speed."""
        awaited = self._awaited.pop((sound, speed), None)
        samples = awaited.result() if awaited else _play(self.waveforms[sound], speed)
        mel = self.spectrogram.whole_mel(self._there(torch.from_numpy(samples)))[0, 0].T
        kept = self._kept[sound, speed] = _Kept(self._filled, len(mel), _unclipped(math.inf, samples))
        self._filled += kept.frames
        self._rows[kept.first : self._filled] = mel
        return kept


def _parts(seconds: Sequence[float]) -> list[int]:
    """Which part each of some sounds of so many seconds belongs to: enough of them for enough time, in their order."""
    parts, part, count, length = list[int](), 0, 0, 0.0
    for one in seconds:
        if count >= _PART_SOUNDS and length >= _PART_S:
            part, count, length = part + 1, 0, 0.0
        count, length = count + 1, length + one
        parts.append(part)
    return parts


def _play(waveform: Waveform, speed: float) -> Samples:
    samples = waveform[:]
    return samples if speed == 1.0 else soxr.resample(samples, speed, 1.0)


def _mel_bytes(sounds: Sequence[Sound], spectrogram: SpectrogramConfig) -> float:
    """How much memory the mels of the sounds take, each at one speed."""
    frames = sum(len(sound.waveform) for sound in sounds) / spectrogram.hop_length
    return frames * spectrogram.n_mels * torch.float32.itemsize


@lru_cache(maxsize=256)
def _draws(seed: int, epoch: int, number: int) -> list[list[float]]:
    """What is drawn for the n-th so many places of an epoch: three numbers in [0, 1) for each."""
    drawn: list[list[float]] = np.random.default_rng([seed, epoch, number]).random((_DRAWN_AT_ONCE, 3)).tolist()
    return drawn


@lru_cache(maxsize=1 << 16)
def _varied_speed(seed: int, sound: int, number: int) -> float:
    """The n-th speed of a sound other than its own."""
    return float(_SPEED ** np.random.default_rng([seed, sound, number, 1]).triangular(-1, 0, 1))


def _unclipped(gain: float, samples: Samples) -> float:
    """`gain`, or less where the samples would leave [-1, 1]."""
    peak = peak_of(samples)
    return min(gain, 1 / peak) if peak > 0 else 1.0
