"""Chunks batch by batch, split by file, in an order that depends on content and seed alone."""

import copy
import hashlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from distill.audio.limits import AudioLimits
from distill.audio.spectrogram import SpectrogramConfig
from distill.data.chunks import NO_CHUNK, SPEED_EPOCHS, ChunkDataset, Key, MelDataset
from distill.data.collection import Sound
from distill.data.prefetch import Prefetch, start_prefetch
from distill.distributed import rank, world_size

Loader = DataLoader[Tensor]


class BatchSettings(Protocol):
    """The settings of a run that say how batches are made; an `EngineConfig` has them all."""

    batch_size: int
    chunk_duration_s: float
    val_fraction: float
    augment: bool
    augmentation_copies: int
    minutes: float | None
    num_workers: int
    seed: int


_BUDGET_STEPS = 16  # of an epoch under a time budget, where one pass over the chunks has fewer
_LOOKS = 8  # at a collection, varied, before the first step


class EpochBatches(Sampler[list[Key]]):
    """The keys of one epoch, batch by batch; `set_epoch` chooses which: a resumed run goes on in the same order.

    `part` says which of how many equal parts of each batch they are.
    """

    def __init__(
        self, dataset: ChunkDataset, batch_size: int, copies: int, shuffle: bool, part: tuple[int, int] = (0, 1)
    ) -> None:
        self.dataset, self.batch_size, self.copies, self.shuffle, self.part = dataset, batch_size, copies, shuffle, part
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Make the next iteration that of `epoch`."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.dataset) * self.copies // self.batch_size)

    def __iter__(self) -> Iterator[list[Key]]:
        order = self.dataset.order(self.epoch, self.copies) if self.shuffle else range(len(self.dataset))
        keys = [(self.epoch, place, index) for place, index in enumerate(order)]
        number, of = self.part
        for start in range(0, len(keys), self.batch_size):
            batch = keys[start : start + self.batch_size]
            yield batch[len(batch) * number // of : len(batch) * (number + 1) // of] or [NO_CHUNK]


def initial_batches(loader: Loader, epoch: int) -> Iterator[Tensor]:
    """The batches of `epoch`, then, where the sounds are varied, those of some more; the last one stays set."""
    batches = getattr(loader, "batch_sampler", None)
    if not isinstance(batches, EpochBatches):
        yield from loader
        return
    for look in range(_LOOKS if batches.dataset.augment else 1):
        batches.set_epoch(epoch + look * SPEED_EPOCHS)
        yield from loader


def split_by_file(digests: Sequence[str], val_fraction: float, seed: int) -> tuple[set[str], set[str]]:
    """`(train, validation)` digests, both non-empty; depends on the contents and the seed, not on order or names."""
    ranked = sorted(digests, key=lambda digest: hashlib.sha256(f"{seed}:{digest}".encode()).digest())
    held_out = min(max(1, round(val_fraction * len(ranked))), len(ranked) - 1)
    return set(ranked[held_out:]), set(ranked[:held_out])


def split_loaders(
    sounds: Sequence[Sound],
    settings: BatchSettings,
    sample_rate: int,
    limits: AudioLimits | None = None,
    cancel_event: threading.Event | None = None,
    spectrogram: SpectrogramConfig | None = None,
    device: torch.device | str = "cpu",
) -> tuple[Loader, Loader]:
    """Train and validation loaders of two or more sounds at `sample_rate` Hz, split by file.

    They give waveforms float32 `[B, 1, samples]`; with `spectrogram`, of the same rate, mels float32 `[B, 1, M, T]` on
    `device`, without worker processes, where the mels of whole sounds can be kept in memory. Sounds of which only the
    headers were read are decoded in the background, in the order of the first epoch; a chunk may have to be waited for.
    """
    sides = split_by_file(sorted(sound.digest for sound in sounds), settings.val_fraction, settings.seed)
    train, validation = ([sound for sound in sounds if sound.digest in side] for side in sides)
    prefetch = start_prefetch([*train, *validation], sample_rate, limits, cancel_event)
    if settings.num_workers:
        for sound in sounds:
            sound.waveform[:0]  # a worker process could not wait for it
    return (
        _loader(train, settings, sample_rate, spectrogram, device, prefetch, training=True),
        _loader(validation, settings, sample_rate, spectrogram, device, prefetch, training=False),
    )


def _copies(settings: BatchSettings, chunks: int) -> int:
    """How often an epoch shows each chunk; under a time budget epochs are short, so that many of them fit."""
    if settings.minutes is None:
        return settings.augmentation_copies
    return min(settings.augmentation_copies, -(-_BUDGET_STEPS * _joint_batch_size(settings) // chunks))


def _joint_batch_size(settings: BatchSettings) -> int:
    """How many chunks all processes that train together take in a step."""
    return settings.batch_size * world_size()


def _loader(
    sounds: Sequence[Sound],
    settings: BatchSettings,
    sample_rate: int,
    spectrogram: SpectrogramConfig | None,
    device: torch.device | str,
    prefetch: Prefetch,
    *,
    training: bool,
) -> Loader:
    samples, augment = round(settings.chunk_duration_s * sample_rate), training and settings.augment
    dataset = (
        MelDataset(sounds, samples, spectrogram, settings.seed, augment, device)
        if spectrogram is not None and MelDataset.fits(sounds, spectrogram, augment)
        else ChunkDataset(sounds, samples, sample_rate, settings.seed, augment)
    )
    dataset.prefetch = prefetch
    copies = _copies(settings, len(dataset)) if training else 1
    batches = EpochBatches(dataset, _joint_batch_size(settings), copies, shuffle=training)
    # A process of its own would have to make all the mels anew, every epoch.
    return _data_loader(dataset, batches, 0 if isinstance(dataset, MelDataset) else settings.num_workers)


def _data_loader(dataset: Dataset[Tensor], batches: EpochBatches, workers: int) -> Loader:
    generator = torch.Generator().manual_seed(0)  # its own, so that none moves torch's global state
    collate = _uncollated if isinstance(dataset, MelDataset) else None
    return DataLoader(dataset, batch_sampler=batches, num_workers=workers, generator=generator, collate_fn=collate)


def _uncollated(batch: Any) -> Any:
    return batch


def rank_part(loader: Loader) -> Loader:
    """The part of each batch of `loader` for this process: all of it, unless several train together."""
    batches = getattr(loader, "batch_sampler", None)
    if world_size() == 1 or not isinstance(batches, EpochBatches):
        return loader
    part = copy.copy(batches)
    part.part = rank(), world_size()
    return _data_loader(loader.dataset, part, loader.num_workers)
