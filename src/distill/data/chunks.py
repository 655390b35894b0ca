"""Data sets of equally long chunks of sounds, as waveforms or as mels, augmented in position, gain and speed."""

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
NO_CHUNK: Key = (-1, -1, -1)  # padding, for a rank that gets no part of a small batch
AS_IT_IS = -2  # in place of an epoch: the chunk is not varied

# Augmentation
SPEED_EPOCHS = 4  # for which a sound keeps its varied speed, so that its mel serves more than once
SPEEDS = 16  # varied speeds that a sound has in turn, beside its own
_GAIN_DB = (-9.0, 3.0)
_SPEED = 1.6  # the factor by which a varied chunk is at most faster, or slower
_SPEED_SHARE = 0.5  # of the chunks have their speed varied
_LEAD_S = 0.2  # of silence before a sound, at most: more than a column of the grid, where a hit is to be found anywhere
_DRAWN_AT_ONCE = 256  # places per generator: to seed one for each would take longer than all else about a chunk

# Parts of a long collection: the first epoch shuffles the prefetched sounds of one, then goes on to the next.
_PART_S = 900.0  # of sound, at least
_PART_SOUNDS = 8  # at least: a model must not begin with a single long sound

# Mels kept in memory
_MEL_BYTES = 256 << 20  # for 46 minutes at 48 kHz with each sound at two speeds, or 5 minutes at 17
_MEL_SOUND_S = 60.0  # the longest sound whose mel is made in one piece: a cancellation waits for those of a batch
_RESAMPLE_THREADS = 8  # at most


class Chunk(NamedTuple):
    """A chunk of a sound: from sample `start` on, `speed` times as fast, its amplitude times `gain`.

    Where `start` is negative, the sound begins after so many samples of silence. At its end it is cut short, then
    padded.
    """

    sound: int
    start: int
    speed: float = 1.0
    gain: float = 1.0


class ChunkDataset(Dataset[Tensor]):
    """Chunks `[1, S]` of decoded sounds, by (epoch, place): the same key always gives the same samples.

    With `augment`, each chunk is shifted and its gain varied, and for half of them the speed, and with it the pitch:
    sounds that the collection does not have, but could.
    """

    prefetch: Prefetch  # kept here because decoding ends with its last reference

    def __init__(self, sounds: Sequence[Sound], samples: int, sample_rate: int, seed: int, augment: bool) -> None:
        self.waveforms: list[Waveform] = [sound.waveform for sound in sounds]
        self.digests = [sound.digest for sound in sounds]
        self.contents = {sound.path: sound.digest for sound in sounds}
        self.names = [printable(sound.path.name) for sound in sounds]
        self.duration_s = sum(map(len, self.waveforms)) / sample_rate
        self.sample_rate, self.samples, self.seed, self.augment = sample_rate, samples, seed, augment
        self.speeds = SPEEDS
        self.prefetched = any(isinstance(waveform, PrefetchedWaveform) for waveform in self.waveforms)
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
        # The sort is stable: shuffled within each part, and the parts in the order in which sounds are decoded.
        return sorted(order, key=self._part) if epoch == 0 and self.prefetched else order

    def _part(self, index: int) -> int:
        """The number of the part of the sounds that a chunk belongs to."""
        return self._parts[self.chunks[index].sound]

    def examples(self, count: int) -> list[int]:
        """Indices of `count` chunks, or of all, from as many sounds as possible: the first chunk of each, then more."""
        return sorted(range(len(self.chunks)), key=lambda index: (self.chunks[index].start, index))[:count]

    def title(self, index: int) -> str:
        """The title of a chunk: the name of the file, and where in it the chunk begins, unless at 0."""
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
        piece = self.waveforms[cut.sound][max(cut.start, 0) : max(cut.start + length, 0)]
        if len(piece) == 0:  # a prefetched sound can turn out shorter than its header says
            return samples
        if length != self.samples:
            piece = soxr.resample(piece, length, self.samples)
        lead = round(max(-cut.start, 0) / cut.speed)
        piece = piece[: self.samples - lead]
        place = samples[0, lead : lead + len(piece)]
        sound = torch.mul(torch.from_numpy(piece), _unclipped(cut.gain, piece), out=place)
        sound[-1:] = mark_end(sound[-1:])  # else a chunk that is cut in a pause would end in padding
        return samples

    def _cut(self, key: Key) -> Chunk:
        """The chunk of a key, with its augmentation."""
        epoch, place, index = key
        chunk = self.chunks[index]
        if epoch == AS_IT_IS or not self.augment:
            return chunk
        # A function of the key alone, so that neither a resumed run nor worker processes get other chunks.
        varied, shift, gain = _random_draws(self.seed, epoch, place // _DRAWN_AT_ONCE)[place % _DRAWN_AT_ONCE]
        speed = self._speed(chunk.sound, epoch) if varied < _SPEED_SHARE else 1.0
        length = self._length(speed)
        latest = max(0, len(self.waveforms[chunk.sound]) - length)
        start = chunk.start + round((shift - 0.5) * length)
        if start < 0:  # the sound begins later, anywhere on the grid
            start = -(-start % max(1, round(min(_LEAD_S * self.sample_rate * speed, length / 2))))
        softest, loudest = _GAIN_DB
        louder = 10 ** ((softest + gain * (loudest - softest)) / 20)
        return Chunk(chunk.sound, min(start, latest), speed, louder)

    def _speed(self, sound: int, epoch: int) -> float:
        """The varied speed of a sound, which changes every `SPEED_EPOCHS`."""
        # Staggered by `+ sound`, so that an epoch has new mels of a quarter of the sounds, not of all.
        return _varied_speed(self.seed, sound, (epoch + sound) // SPEED_EPOCHS % self.speeds)

    def _length(self, speed: float) -> int:
        """The number of samples of a sound that fill a chunk at a speed."""
        return round(self.samples * speed)


# Chunks as mels

SoundAtSpeed = tuple[int, float]  # a sound and its speed


class _CachedMel(NamedTuple):
    """The rows in which the mel of a whole sound at a speed is kept, and the largest gain that does not clip it.

    Before the `first` are those of the silence that leads up to the sound.
    """

    first: int
    frames: int
    largest_gain: float


class MelDataset(ChunkDataset):
    """The same chunks as mels `[1, M, T]`, cut from mels of whole sounds, which are computed once for each speed.

    These are kept on `device`, where batches are cut from them; for a GPU, threads resample the sounds of the next
    epoch ahead of time.
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
        # As many varied speeds as there is room for, beside the sounds as they are.
        self.speeds = min(SPEEDS, max(1, int(_MEL_BYTES / _mel_bytes(sounds, spectrogram)) - 1)) if augment else 0
        longest = [len(waveform) + round(self.speeds * _SPEED * len(waveform)) for waveform in self.waveforms]
        # Frames before a sound in which a window can see its beginning, and one more, which is silent.
        self._lead = -(-spectrogram.n_fft // (2 * spectrogram.hop_length)) + 1
        each = (2 + self._lead) * (1 + self.speeds)
        rows = sum(length // spectrogram.hop_length + each for length in longest)
        # One tensor, so that a batch is cut in one operation; sized for the slowest speeds, the unused rows of which
        # take no memory on a CPU.
        self._rows = torch.empty(rows, spectrogram.rows, device=device)
        self._filled = 0
        self._cached: dict[SoundAtSpeed, _CachedMel] = {}
        self._resampling: dict[SoundAtSpeed, Future[Samples]] = {}
        # Not on a CPU, whose cores are busy with the steps.
        threads = min(_RESAMPLE_THREADS, os.cpu_count() or 1)
        self._resamplers = ThreadPoolExecutor(threads) if self.device.type == "cuda" else None

    @staticmethod
    def fits(sounds: Sequence[Sound], spectrogram: SpectrogramConfig, augment: bool) -> bool:
        """True if the mels of all sounds, varied ones too, fit in memory, and no sound is long or prefetched."""
        if any(isinstance(sound.waveform, PrefetchedWaveform) for sound in sounds):
            return False
        longest = max(len(sound.waveform) for sound in sounds)
        kept = _mel_bytes(sounds, spectrogram) * (2 if augment else 1)
        return kept <= _MEL_BYTES and longest <= _MEL_SOUND_S * spectrogram.sample_rate

    def order(self, epoch: int, copies: int) -> list[int]:
        """Indices of the chunks in the order of one epoch, `copies` of each."""
        if self._resamplers and self.augment:
            self._resample_ahead(self._resamplers, epoch)
        return super().order(epoch, copies)

    def _resample_ahead(self, resamplers: ThreadPoolExecutor, epoch: int) -> None:
        """Begin to resample the sounds of an epoch and the next, in threads beside this one."""
        sounds = range(len(self.waveforms))
        wanted = {(sound, self._speed(sound, then)) for then in (epoch, epoch + 1) for sound in sounds}
        self._resampling = {
            (sound, speed): self._resampling.get((sound, speed))
            or resamplers.submit(_resample_to_speed, self.waveforms[sound], speed)
            for sound, speed in sorted(wanted - self._cached.keys())
        }

    def __getitem__(self, key: Key) -> Tensor:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[Key]) -> Tensor:
        """The mels float32 `[B, 1, M, T]` of the chunks of a batch, in as many operations as for one."""
        first, start, frames, gain = zip(*map(self._locate, keys))
        first, start, frames = self._to_device(torch.tensor([first, start, frames])).unsqueeze(-1)
        frame = start + torch.arange(self.spectrogram.frames(self.samples), device=self.device)
        # Indices before a sound stop at a silent row, those after it at its last; these become padding below.
        mel = self._rows[first + torch.minimum(frame, frames - 1).clamp(min=-self._lead)]  # [B, T, M]
        mel = self.spectrogram.louder(mel, self._to_device(torch.tensor(gain))[:, None, None])
        return mel.masked_fill((frame >= frames).unsqueeze(-1), PADDING).mT.unsqueeze(1).contiguous()

    def _to_device(self, value: Tensor) -> Tensor:
        """A copy of `value` on the device, made without waiting for work queued on a GPU."""
        return value.to(self.device, non_blocking=True)

    def _locate(self, key: Key) -> tuple[int, int, int, float]:
        """The first row of a chunk's sound, the frame from which the chunk begins, the sound's frames, and its gain."""
        if key == NO_CHUNK:
            return self._lead, 0, 0, 1.0
        cut = self._cut(key)
        mel = self._cached.get((cut.sound, cut.speed)) or self._cache_mel(cut.sound, cut.speed)
        start = min(round(cut.start / cut.speed / self.spectrogram.config.hop_length), mel.frames - 1)
        # The gain is limited by the peak of the whole sound, because that of a chunk is not in its mel.
        return mel.first, start, mel.frames, min(cut.gain, mel.largest_gain)

    def _cache_mel(self, sound: int, speed: float) -> _CachedMel:
        """Compute the mel of a sound at a speed, and keep it."""
        resampled = self._resampling.pop((sound, speed), None)
        samples = resampled.result() if resampled else _resample_to_speed(self.waveforms[sound], speed)
        lead = torch.zeros(self._lead * self.spectrogram.config.hop_length)
        waveform = self._to_device(torch.cat([lead, torch.from_numpy(samples)]))
        mel = self.spectrogram.whole_mel(waveform)[0, 0].T
        self._rows[self._filled : self._filled + len(mel)] = mel
        first, frames = self._filled + self._lead, len(mel) - self._lead
        kept = self._cached[sound, speed] = _CachedMel(first, frames, _unclipped(math.inf, samples))
        self._filled += len(mel)
        return kept


def _parts(seconds: Sequence[float]) -> list[int]:
    """The part of each of the sounds, in order; a part has at least `_PART_SOUNDS` of them and `_PART_S` seconds."""
    parts, part, count, length = list[int](), 0, 0, 0.0
    for one in seconds:
        if count >= _PART_SOUNDS and length >= _PART_S:
            part, count, length = part + 1, 0, 0.0
        count, length = count + 1, length + one
        parts.append(part)
    return parts


def _resample_to_speed(waveform: Waveform, speed: float) -> Samples:
    samples = waveform[:]
    return samples if speed == 1.0 else soxr.resample(samples, speed, 1.0)


def _mel_bytes(sounds: Sequence[Sound], spectrogram: SpectrogramConfig) -> float:
    """The number of bytes that the mels of the sounds take, each at one speed."""
    frames = sum(len(sound.waveform) for sound in sounds) / spectrogram.hop_length
    return frames * spectrogram.rows * torch.float32.itemsize


@lru_cache(maxsize=256)
def _random_draws(seed: int, epoch: int, number: int) -> list[list[float]]:
    """Three random numbers in [0, 1) for each place in the n-th block of `_DRAWN_AT_ONCE` places of an epoch."""
    drawn: list[list[float]] = np.random.default_rng([seed, epoch, number]).random((_DRAWN_AT_ONCE, 3)).tolist()
    return drawn


@lru_cache(maxsize=1 << 16)
def _varied_speed(seed: int, sound: int, number: int) -> float:
    """The n-th varied speed of a sound, between 1 / `_SPEED` and `_SPEED`."""
    # Triangular in log speed: small changes are the most frequent, faster and slower are equally so.
    return float(_SPEED ** np.random.default_rng([seed, sound, number, 1]).triangular(-1, 0, 1))


def _unclipped(gain: float, samples: Samples) -> float:
    """The gain, reduced where the samples would leave [-1, 1]."""
    peak = peak_of(samples)
    return min(gain, 1 / peak) if peak > 0 else 1.0
