"""Whole trainings, with all that is in them beside the steps, against bare reference steps before and after."""

import itertools
import math
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from distill.training.config import VQVAEConfig
from distill.training.dataset import ChunkDataset, create_data_loaders
from distill.training.loop import train_vqvae
from distill.training.metrics import Event, VQEpochMetrics, VQStepMetrics
from distill.training.plan import RunPlan, plan_run
from reference_step import ReferenceStep
from rows import Row
from speed_turns import Setting, comparison, in_turn, repeated, settling

EPOCHS = 12  # so that there is a checkpoint in between
_BATCH, _CODES, _STEPS = 32, 256, 20  # of the reference


@dataclass
class Watch:
    """Listens to a training and notes when things happen."""

    begun: float = field(default_factory=time.perf_counter)
    first_step_s: float | None = None
    epoch_ends: list[float] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        """Note an event."""
        if isinstance(event, VQStepMetrics) and self.first_step_s is None:
            self.first_step_s = time.perf_counter() - self.begun - event.step_time_s
        elif isinstance(event, VQEpochMetrics):
            self.epoch_ends.append(event.elapsed_seconds)


@dataclass(frozen=True)
class Training:
    """What a training took."""

    whole_s: float  # from the call to its return
    first_step_s: float  # from the call
    epoch_s: float  # of one epoch, the first left out
    epoch_audio_s: float  # that an epoch goes through

    @property
    def rate(self) -> float:
        """Audio seconds per second, from the second epoch on."""
        return self.epoch_audio_s / self.epoch_s


def train(folder: Path, work: Path, device: str, epochs: int, **settings: Any) -> Training:
    """Train in `work` on a folder of sounds, by the preset unless `settings` say otherwise."""
    plan, _ = plan_run(
        folder, models_dir=work / "models", output_dir=work / "run", max_epochs=epochs, device=device, **settings
    )
    audio = epoch_audio(plan)
    watch = Watch()
    train_vqvae(**plan.arguments(), callback=watch)
    whole = time.perf_counter() - watch.begun
    assert watch.first_step_s is not None
    return Training(whole, watch.first_step_s, epoch_seconds(watch.epoch_ends), audio)


def epoch_seconds(ends: Sequence[float]) -> float:
    """The mean seconds of an epoch, the first left out; NaN where there is no other."""
    return (ends[-1] - ends[0]) / (len(ends) - 1) if len(ends) > 1 else math.nan


def epoch_audio(plan: RunPlan) -> float:
    """The seconds of sound in the chunks of an epoch, those cut short counted whole."""
    assert isinstance(plan.config, VQVAEConfig)
    loader, _ = create_data_loaders(plan.file_paths, plan.config, sounds=plan.sounds)
    assert isinstance(loader.dataset, ChunkDataset)
    return len(loader.dataset) * plan.config.augmentation_copies * plan.config.chunk_duration_s


def loop(setting: Setting) -> Iterator[Row]:
    """Trainings of some epochs, with reference steps before, between and after them."""
    reference = ReferenceStep(setting.device, _BATCH, _CODES)
    repeated(reference, 5)()
    rates, runs = [reference_rate(reference, setting)], []
    for number in range(setting.repetitions):
        work = setting.work / f"run {number}"
        runs.append(train(setting.collection.folder, work, setting.device.type, EPOCHS))
        rates.append(reference_rate(reference, setting))
    around = [(before + after) / 2 for before, after in itertools.pairwise(rates)]
    beside = {
        "ours, audio s/s": statistics.median(run.rate for run in runs),
        "reference, audio s/s": statistics.median(rates),
        "start to first step, s": statistics.median(run.first_step_s for run in runs),
    }
    case = f"{EPOCHS} epochs of the preset"
    values = [run.rate / rate for run, rate in zip(runs, around)]
    yield comparison("loop", f"{case}, from the second on", "times the reference's audio per second", values, beside)
    values = [EPOCHS * run.epoch_audio_s / run.whole_s / rate for run, rate in zip(runs, around)]
    whole = {"whole run, s": statistics.median(run.whole_s for run in runs)}
    yield comparison("loop", f"{case}, start and end included", "times the reference's audio per second", values, whole)


def reference_rate(reference: ReferenceStep, setting: Setting) -> float:
    """Audio seconds per second of bare reference steps."""
    (times,) = in_turn({"": repeated(reference, _STEPS)}, 1, settle=settling(setting.device)).values()
    if setting.device.type == "cuda":
        torch.cuda.empty_cache()
    return _STEPS * _BATCH / times[0]
