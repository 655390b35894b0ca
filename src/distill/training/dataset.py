"""From sound files to the train and validation loaders of a run."""

import logging
import threading
from collections.abc import Sequence
from pathlib import Path

import torch

from distill.audio.limits import AudioLimits
from distill.audio.spectrogram import SpectrogramConfig
from distill.data.batches import Loader, split_loaders
from distill.data.collection import Sound
from distill.data.opening import open_collection
from distill.errors import CollectionError
from distill.notices import FileLeftOut
from distill.paths import printable
from distill.training.config import EngineConfig

logger = logging.getLogger(__name__)


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
    """Train and validation loaders, as `split_loaders` makes them, of the usable sounds in `file_paths`.

    The files are opened here, once, unless `sounds` already holds their content at `sample_rate` Hz. Unreadable, silent
    and duplicate files are left out with a warning. Raises `CollectionError` when fewer than two remain, because none
    could be held out, `StorageError` and `Cancelled`; the loaders may raise the last two while they wait for a sound.
    """
    if sounds is None:
        paths = [Path(path) for path in file_paths]
        collection = open_collection(paths, sample_rate, limits=limits, cancel_event=cancel_event)
        for file in collection.left_out:
            logger.warning(FileLeftOut(printable(file.path), file.reason, file.remedy))
        sounds = collection.sounds or ()
    distinct = {sound.digest for sound in sounds}  # two files may share one where only their headers were read
    if len(distinct) < 2:
        found = "only one usable sound file" if distinct else "no usable sound file"
        raise CollectionError(
            f"{found} among {len(file_paths)} given; training needs at least two different ones, "
            "one to learn from and one to check the learning with"
        )
    return split_loaders(sounds, config, sample_rate, limits, cancel_event, spectrogram, device)
