"""Batches of chunks, split by file, in an order that depends on content and seed alone."""

import copy
import hashlib
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from distill.audio.limits import AudioLimits
from distill.audio.spectrogram import SpectrogramConfig
from distill.data.chunks import NO_CHUNK, SPEED_EPOCHS, ChunkDataset, Key, MelDataset
from distill.data.collection import Sound
from distill.data.prefetch import Prefetch, start_prefetch
from distill.data.related import related
from distill.distributed import rank, world_size

Loader = DataLoader[Tensor]


class BatchSettings(Protocol):
    """The settings of a run that decide how batches are made; an `EngineConfig` has them all."""

    batch_size: int
    chunk_duration_s: float
    val_fraction: float
    augment: bool
    augmentation_copies: int
    minutes: float | None
    num_workers: int
    seed: int


_BUDGET_EPOCH_STEPS = 16  # of an epoch under a time budget, where a single pass over the chunks has fewer
_INITIAL_PASSES = 24  # passes over a varied collection that the start of a model may use


class EpochBatches(Sampler[list[Key]]):
    """Batches of the keys of one epoch; `set_epoch` chooses the epoch, so that a resumed run has the same order.

    `part` `(number, of)` reduces each batch to the part of one of several ranks.
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
        # The place within the epoch is in the key: crop and gain are drawn from it, whichever process makes the chunk.
        keys = [(self.epoch, place, index) for place, index in enumerate(order)]
        number, of = self.part
        for start in range(0, len(keys), self.batch_size):
            batch = keys[start : start + self.batch_size]
            # Never an empty list: every rank takes every step, if only with padding.
            yield batch[len(batch) * number // of : len(batch) * (number + 1) // of] or [NO_CHUNK]


def initial_batches(loader: Loader, epoch: int) -> Iterator[Tensor]:
    """The batches of `epoch`, then of some later ones where sounds are varied; the sampler stays at the last epoch."""
    batches = getattr(loader, "batch_sampler", None)
    if not isinstance(batches, EpochBatches):
        yield from loader
        return
    for number in range(_INITIAL_PASSES if batches.dataset.augment else 1):
        batches.set_epoch(epoch + number * SPEED_EPOCHS)  # the next at which every sound has another speed
        yield from loader


def split_by_file(
    digests: Sequence[str], val_fraction: float, seed: int, groups: Mapping[str, str] | None = None
) -> tuple[set[str], set[str]]:
    """`(train, validation)` digests, both non-empty; depends on the contents and the seed, not on the order.

    Those of one group, if there are several, are on one side.
    """
    group = groups if groups and len(set(groups.values())) > 1 else {digest: digest for digest in digests}
    members = defaultdict[str, list[str]](list)
    for digest in digests:
        members[group[digest]].append(digest)
    wanted = min(max(1, round(val_fraction * len(digests))), len(digests) - 1)
    most, validation = max(wanted, len(digests) // 2), set[str]()
    # Ranking by a hash is random, but independent of the order of the digests.
    for name in sorted(members, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest()):
        if len(validation) < wanted and len(validation) + len(members[name]) <= most:
            validation.update(members[name])
    return set(digests) - validation, validation


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

    The sides of one recording, and near copies, stay together (`distill.data.related`).
    They give waveforms float32 `[B, 1, samples]`; with `spectrogram`, of the same rate, mels float32 `[B, 1, M, T]` on
    `device`, without worker processes, where the mels of whole sounds fit in memory. Sounds of which only the headers
    were read are decoded in the background, in the order of the first epoch, and a batch may have to wait for them.
    """
    digests, groups = sorted({sound.digest for sound in sounds}), related(sounds, sample_rate)
    sides = split_by_file(digests, settings.val_fraction, settings.seed, groups)
    train, validation = ([sound for sound in sounds if sound.digest in side] for side in sides)
    prefetch = start_prefetch([*train, *validation], sample_rate, limits, cancel_event)
    if settings.num_workers:
        for sound in sounds:
            sound.waveform[:0]  # waits for it: a worker process could not
    return (
        _loader(train, settings, sample_rate, spectrogram, device, prefetch, training=True),
        _loader(validation, settings, sample_rate, spectrogram, device, prefetch, training=False),
    )


def _copies(settings: BatchSettings, chunks: int) -> int:
    """The number of times an epoch shows each chunk; fewer under a time budget, so that many epochs fit."""
    if settings.minutes is None:
        return settings.augmentation_copies
    return min(settings.augmentation_copies, -(-_BUDGET_EPOCH_STEPS * _global_batch_size(settings) // chunks))


def _global_batch_size(settings: BatchSettings) -> int:
    """The number of chunks in a step of all ranks together."""
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
    batches = EpochBatches(dataset, _global_batch_size(settings), copies, shuffle=training)
    # No workers for mels: a worker process would have to compute all of them again in every epoch.
    return _data_loader(dataset, batches, 0 if isinstance(dataset, MelDataset) else settings.num_workers)


def _data_loader(dataset: Dataset[Tensor], batches: EpochBatches, workers: int) -> Loader:
    generator = torch.Generator().manual_seed(0)  # else a loader draws its base seed from torch's global generator
    collate = _already_collated if isinstance(dataset, MelDataset) else None
    return DataLoader(dataset, batch_sampler=batches, num_workers=workers, generator=generator, collate_fn=collate)


def _already_collated(batch: Any) -> Any:
    return batch  # `MelDataset.__getitems__` has made a tensor of it already


def rank_part(loader: Loader) -> Loader:
    """A loader of this rank's part of each batch of `loader`: all of it in a process on its own."""
    batches = getattr(loader, "batch_sampler", None)
    if world_size() == 1 or not isinstance(batches, EpochBatches):
        return loader
    # A copy: `loader` itself still gives whole batches, to `Objective.prepare` on rank 0.
    part = copy.copy(batches)
    part.part = rank(), world_size()
    return _data_loader(loader.dataset, part, loader.num_workers)
