"""Speed of whole trainings, with everything around the steps, against bare reference steps before and after."""

import itertools
import statistics
from collections.abc import Iterator
from typing import Any

import torch

from bench.shared.rows import Row
from bench.speed.reference_step import ReferenceStep
from bench.speed.timing import Setting, comparison, repeated, timed
from bench.speed.training import Training, train

EPOCHS = 12  # enough for a checkpoint before the end
MINUTES = 3
_BATCH, _CODES, _STEPS = 32, 256, 20  # of the reference
_WARM_UP = 5


def loop(setting: Setting) -> Iterator[Row]:
    """Trainings of some epochs, with reference steps before, between and after them."""
    runs, rates = trainings_and_reference(setting, setting.repetitions, max_epochs=EPOCHS)
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
    """One training with a budget of some minutes, with reference steps before and after it."""
    (run,), (rate,) = trainings_and_reference(setting, 1, minutes=MINUTES)
    beside = {"epochs": run.epochs, "whole run, s": run.whole_s, "ours, audio s/s": run.whole_rate}
    case = f"{MINUTES} minutes of the preset, start and end included"
    yield comparison("minutes", case, "times the reference's audio per second", [run.whole_rate / rate], beside)


def trainings_and_reference(setting: Setting, count: int, **settings: Any) -> tuple[list[Training], list[float]]:
    """`count` trainings, and for each the reference's audio seconds per second, averaged before and after it."""
    reference = ReferenceStep(setting.device, _BATCH, _CODES)
    repeated(reference, _WARM_UP)()
    rates, runs = [reference_rate(reference, setting.device)], []
    for number in range(count):
        work = setting.work / f"run {number}"
        runs.append(train(setting.collection.folder, work, setting.device.type, **settings))
        rates.append(reference_rate(reference, setting.device))
    return runs, [(before + after) / 2 for before, after in itertools.pairwise(rates)]


def reference_rate(reference: ReferenceStep, device: torch.device) -> float:
    """Audio seconds per second of bare reference steps."""
    seconds = timed(repeated(reference, _STEPS), device)
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return _STEPS * _BATCH / seconds
