"""A whole training, timed: from the call to the first step, by epoch, and to its return."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distill.data.batches import EpochBatches
from distill.data.chunks import ChunkDataset
from distill.training.config import VQVAEConfig
from distill.training.dataset import create_data_loaders
from distill.training.execution import run_training
from distill.training.metrics import Event, VQEpochMetrics, VQStepMetrics
from distill.training.request import TrainingRequest


@dataclass(frozen=True)
class Training:
    """The times of a training."""

    whole_s: float  # from the call to its return
    first_step_s: float  # from the call
    epochs: int
    epoch_s: float  # mean without the first epoch
    epoch_audio_s: float  # seconds of sound in an epoch

    @property
    def rate(self) -> float:
        """Audio seconds per second, from the second epoch on."""
        return self.epoch_audio_s / self.epoch_s

    @property
    def whole_rate(self) -> float:
        """Audio seconds per second, start and end included."""
        return self.epochs * self.epoch_audio_s / self.whole_s


@dataclass
class _Stopwatch:
    """A callback for a training that keeps the times of its events."""

    start: float = field(default_factory=time.perf_counter)
    first_step_s: float | None = None
    epoch_ends: list[float] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        if isinstance(event, VQStepMetrics) and self.first_step_s is None:
            self.first_step_s = time.perf_counter() - self.start - event.step_time_s
        elif isinstance(event, VQEpochMetrics):
            self.epoch_ends.append(event.elapsed_seconds)


def train(folder: Path, work: Path, device: str, **settings: Any) -> Training:
    """Train in `work` on a folder of sounds, with the preset and `settings` that override it."""
    places = {"models_dir": work / "models", "output_dir": work / "run"}
    request = TrainingRequest.for_folder(folder, **places, device=device, **settings)
    audio_s = epoch_audio(request)
    stopwatch = _Stopwatch()
    run_training(request, stopwatch)
    whole_s = time.perf_counter() - stopwatch.start
    assert stopwatch.first_step_s is not None
    ends = stopwatch.epoch_ends
    return Training(whole_s, stopwatch.first_step_s, len(ends), epoch_seconds(ends), audio_s)


def epoch_seconds(ends: Sequence[float]) -> float:
    """Mean seconds of an epoch without the first; NaN when there is only one."""
    return (ends[-1] - ends[0]) / (len(ends) - 1) if len(ends) > 1 else math.nan


def epoch_audio(request: TrainingRequest) -> float:
    """Seconds of sound in the chunks of an epoch, with the padding of short ones."""
    assert isinstance(request.config, VQVAEConfig)
    loader, _ = create_data_loaders(request.file_paths, request.config, sounds=request.sounds)
    assert isinstance(loader.dataset, ChunkDataset)
    assert isinstance(loader.batch_sampler, EpochBatches)
    return len(loader.dataset) * loader.batch_sampler.copies * request.config.chunk_duration_s
