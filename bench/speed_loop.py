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

from distill.data.chunks import ChunkDataset
from distill.training.config import VQVAEConfig
from distill.training.dataset import EpochBatches, create_data_loaders
from distill.training.loop import train_vqvae
from distill.training.metrics import Event, VQEpochMetrics, VQStepMetrics
from distill.training.request import RunPlan, plan_run
from reference_step import ReferenceStep
from rows import Row
from speed_turns import Setting, comparison, in_turn, repeated, settling

EPOCHS = 12  # so that there is a checkpoint in between
MINUTES = 3
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
    epochs: int
    epoch_s: float  # of one epoch, the first left out
    epoch_audio_s: float  # that an epoch goes through

    @property
    def rate(self) -> float:
        """Audio seconds per second, from the second epoch on."""
        return self.epoch_audio_s / self.epoch_s

    @property
    def whole_rate(self) -> float:
        """Audio seconds per second, start and end included."""
        return self.epochs * self.epoch_audio_s / self.whole_s


def train(folder: Path, work: Path, device: str, **settings: Any) -> Training:
    """Train in `work` on a folder of sounds, by the preset unless `settings` say otherwise."""
    plan, _ = plan_run(folder, models_dir=work / "models", output_dir=work / "run", device=device, **settings)
    audio = epoch_audio(plan)
    watch = Watch()
    train_vqvae(**plan.arguments(), callback=watch)
    whole = time.perf_counter() - watch.begun
    assert watch.first_step_s is not None
    return Training(whole, watch.first_step_s, len(watch.epoch_ends), epoch_seconds(watch.epoch_ends), audio)


def epoch_seconds(ends: Sequence[float]) -> float:
    """The mean seconds of an epoch, the first left out; NaN where there is no other."""
    return (ends[-1] - ends[0]) / (len(ends) - 1) if len(ends) > 1 else math.nan


def epoch_audio(plan: RunPlan) -> float:
    """The seconds of sound in the chunks of an epoch, those cut short counted whole."""
    assert isinstance(plan.config, VQVAEConfig)
    loader, _ = create_data_loaders(plan.file_paths, plan.config, sounds=plan.sounds)
    assert isinstance(loader.dataset, ChunkDataset)
    assert isinstance(loader.batch_sampler, EpochBatches)
    return len(loader.dataset) * loader.batch_sampler.copies * plan.config.chunk_duration_s


def loop(setting: Setting) -> Iterator[Row]:
    """Trainings of some epochs, with reference steps before, between and after them."""
    runs, rates = beside_reference(setting, setting.repetitions, max_epochs=EPOCHS)
    beside = {
        "ours, audio s/s": statistics.median(run.rate for run in runs),
        "reference, audio s/s": statistics.median(rates),
        "start to first step, s": statistics.median(run.first_step_s for run in runs),
    }
    case = f"{EPOCHS} epochs of the preset"
    values = [run.rate / rate for run, rate in zip(runs, rates)]
    yield comparison("loop", f"{case}, from the second on", "times the reference's audio per second", values, beside)
    values = [run.whole_rate / rate for run, rate in zip(runs, rates)]
    whole = {"whole run, s": statistics.median(run.whole_s for run in runs)}
    yield comparison("loop", f"{case}, start and end included", "times the reference's audio per second", values, whole)


def minutes(setting: Setting) -> Iterator[Row]:
    """One training that was given some minutes, with reference steps before and after it."""
    (run,), rates = beside_reference(setting, 1, minutes=MINUTES)
    beside = {"epochs": run.epochs, "whole run, s": run.whole_s, "ours, audio s/s": run.whole_rate}
    case = f"{MINUTES} minutes of the preset, start and end included"
    values = [run.whole_rate / rates[0]]
    yield comparison("minutes", case, "times the reference's audio per second", values, beside)


def beside_reference(setting: Setting, count: int, **settings: Any) -> tuple[list[Training], list[float]]:
    """`count` trainings, and for each what the reference manages around it, in audio seconds per second."""
    reference = ReferenceStep(setting.device, _BATCH, _CODES)
    repeated(reference, 5)()
    rates, runs = [reference_rate(reference, setting)], []
    for number in range(count):
        work = setting.work / f"run {number}"
        runs.append(train(setting.collection.folder, work, setting.device.type, **settings))
        rates.append(reference_rate(reference, setting))
    return runs, [(before + after) / 2 for before, after in itertools.pairwise(rates)]


def reference_rate(reference: ReferenceStep, setting: Setting) -> float:
    """Audio seconds per second of bare reference steps."""
    (times,) = in_turn({"": repeated(reference, _STEPS)}, 1, settle=settling(setting.device)).values()
    if setting.device.type == "cuda":
        torch.cuda.empty_cache()
    return _STEPS * _BATCH / times[0]
