"""The chunks of a collection, split by file, batch by batch in an order that depends on content and seed alone."""

import copy
import hashlib
import logging
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from distill.audio.limits import AudioLimits
from distill.audio.spectrogram import SpectrogramConfig
from distill.data.chunks import NO_CHUNK, SPEED_EPOCHS, ChunkDataset, Key, MelDataset
from distill.data.collection import Sound, UnreadableFile, load_sounds
from distill.data.prefetch import Prefetch, prefetched_sounds, start_prefetch
from distill.data.probe import probe_headers
from distill.distributed import rank, world_size
from distill.errors import CollectionError
from distill.paths import printable
from distill.training.config import EngineConfig

logger = logging.getLogger(__name__)

Loader = DataLoader[Tensor]

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


def create_data_loaders(
    file_paths: Sequence[Path | str],
    config: EngineConfig,
    sample_rate: int = 48_000,
    limits: AudioLimits | None = None,
    cancel_event: threading.Event | None = None,
    sounds: Sequence[Sound] | None = None,
    spectrogram: SpectrogramConfig | None = None,
    device: torch.device | str = "cpu",
) -> tuple[Loader, Loader]:
    """Train and validation loaders of waveforms float32 `[B, 1, samples]`, split by file.

    With `spectrogram`, of the same `sample_rate`, they are loaders of mels float32 `[B, 1, M, T]` on `device`, without
    worker processes, where the mels of whole sounds can be kept in memory.

    Every file is decoded once, here, unless `sounds` already holds what is in them at `sample_rate`. Those of a long
    collection are decoded in the background, in the order of the first epoch, and a chunk may have to be waited for.
    Unreadable, silent and duplicate files are left out with a warning; raises `CollectionError` when fewer than two
    remain, for then nothing can be held out, `StorageError`, and `Cancelled`; so may the loaders where a sound is
    awaited.
    """
    if sounds is None:
        sounds = _look_through([Path(path) for path in file_paths], sample_rate, limits, cancel_event)
    distinct = {sound.digest for sound in sounds}
    if len(distinct) < 2:
        raise CollectionError(
            f"{_usable(len(distinct))} among {len(file_paths)} given; training needs at least two different ones, "
            "one to learn from and one to check the learning with"
        )
    sides = split_by_file(sorted(distinct), config.val_fraction, config.seed)
    train, validation = ([sound for sound in sounds if sound.digest in side] for side in sides)
    decoding = start_prefetch([*train, *validation], sample_rate, limits, cancel_event)
    if config.num_workers:
        for sound in sounds:
            sound.waveform[:0]  # a process of its own could not wait for it
    return (
        _loader(train, config, sample_rate, spectrogram, device, decoding, training=True),
        _loader(validation, config, sample_rate, spectrogram, device, decoding, training=False),
    )


def _look_through(
    paths: Sequence[Path], sample_rate: int, limits: AudioLimits | None, cancel_event: threading.Event | None
) -> Sequence[Sound]:
    """The usable sounds of files, awaited where they are many; warns of those left out."""
    sounds: Sequence[Sound]
    left_out: Sequence[UnreadableFile]
    if (seen := probe_headers(paths, None, limits, cancel_event)) is not None:
        sounds, left_out = prefetched_sounds(seen, sample_rate), seen.left_out
    else:
        sounds, left_out = load_sounds(paths, sample_rate, limits, cancel_event)
    for file in left_out:
        logger.warning("%s left out: %s", printable(file.path), file.reason)
    return sounds


def _usable(count: int) -> str:
    return "no usable sound file" if count == 0 else "only one usable sound file"


def _copies(config: EngineConfig, chunks: int) -> int:
    """How often an epoch shows each chunk; under a time budget epochs are short, so that many of them fit."""
    if config.minutes is None:
        return config.augmentation_copies
    return min(config.augmentation_copies, -(-_BUDGET_STEPS * _together(config) // chunks))


def _together(config: EngineConfig) -> int:
    """How many chunks all processes that train together take in a step."""
    return config.batch_size * world_size()


def _loader(
    sounds: Sequence[Sound],
    config: EngineConfig,
    sample_rate: int,
    spectrogram: SpectrogramConfig | None,
    device: torch.device | str,
    decoding: Prefetch,
    *,
    training: bool,
) -> Loader:
    samples, augment = round(config.chunk_duration_s * sample_rate), training and config.augment
    dataset = (
        MelDataset(sounds, samples, spectrogram, config.seed, augment, device)
        if spectrogram is not None and MelDataset.fits(sounds, spectrogram, augment)
        else ChunkDataset(sounds, samples, sample_rate, config.seed, augment)
    )
    dataset.decoding = decoding
    copies = _copies(config, len(dataset)) if training else 1
    batches = EpochBatches(dataset, _together(config), copies, shuffle=training)
    # A process of its own would have to make all the mels anew, every epoch.
    return _reading(dataset, batches, 0 if isinstance(dataset, MelDataset) else config.num_workers)


def _reading(dataset: Dataset[Tensor], batches: EpochBatches, workers: int) -> Loader:
    generator = torch.Generator().manual_seed(0)  # its own, so that none moves torch's global state
    collate = _as_it_is if isinstance(dataset, MelDataset) else None
    return DataLoader(dataset, batch_sampler=batches, num_workers=workers, generator=generator, collate_fn=collate)


def _as_it_is(batch: Any) -> Any:
    return batch


def rank_part(loader: Loader) -> Loader:
    """What this process takes of each batch of `loader`: all of it, unless several train together."""
    batches = getattr(loader, "batch_sampler", None)
    if world_size() == 1 or not isinstance(batches, EpochBatches):
        return loader
    part = copy.copy(batches)
    part.part = rank(), world_size()
    return _reading(loader.dataset, part, loader.num_workers)
