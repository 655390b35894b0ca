"""Scaling with the size of a collection: training time per second of sound, and peak memory."""

import statistics
from collections.abc import Iterator
from pathlib import Path

import torch

from bench.shared.processes import in_fresh_process, peak_memory
from bench.shared.rows import Row
from bench.speed.step import MEDIUM
from bench.speed.timing import Setting, comparison
from bench.speed.training import Training, train
from distill.data.demo import write_demo_collection

_TIMES = (1, 4, 16)  # as much sound as in `make demo`, about 40 s
_EPOCHS = 4
_SAME = ("codebook_size", "num_quantizers", "decay", "dropout", "learning_rate", "augmentation_copies", "val_fraction")


def size(setting: Setting) -> Iterator[Row]:
    """Trainings with the same settings on 1, 4 and 16 times as much sound of the same kind."""
    folders = {times: write_sounds(setting.work / f"{times} times", times) for times in _TIMES}
    runs: dict[int, list[Training]] = {times: [] for times in _TIMES}
    for number in range(setting.repetitions):
        for times in reversed(_TIMES) if number % 2 else _TIMES:
            work = setting.work / f"run {times} {number}"
            runs[times].append(in_fresh_process(_trained, folders[times], work, setting.device.type, _EPOCHS)[0])
    peaks = {
        times: [
            in_fresh_process(
                _trained, folders[times], setting.work / f"memory {times} {number}", setting.device.type, 1
            )[1]
            / 1e6
            for number in range(min(3, setting.repetitions))
        ]
        for times in _TIMES
    }
    for times in _TIMES:
        case = f"{times} x the sounds"
        cost = [one.rate / run.rate for run, one in zip(runs[times], runs[1])]
        beside = {
            "an epoch, s of sound": runs[times][0].epoch_audio_s,
            "an epoch, s": statistics.median(run.epoch_s for run in runs[times]),
            "start to first step, s": statistics.median(run.first_step_s for run in runs[times]),
        }
        yield comparison("size", case, "times the time per second of sound", cost, beside)
        memory = [peak / one for peak, one in zip(peaks[times], peaks[1])]
        yield comparison("size", case, "times the peak memory", memory, {"peak, MB": statistics.median(peaks[times])})


def write_sounds(folder: Path, times: int) -> Path:
    """Write `times` variations of the synthesised collection, each with a seed of its own."""
    for seed in range(times):
        write_demo_collection(folder / f"{seed}", seed)
    return folder


def _trained(folder: Path, work: Path, device: str, epochs: int) -> tuple[Training, int]:
    """Train, and return the peak memory of this process as well."""
    preset = MEDIUM()
    settings = {name: getattr(preset, name) for name in _SAME}
    return train(folder, work, device, max_epochs=epochs, **settings), peak_memory(torch.device(device))
