"""Scaling with processes: `distill train` under torchrun, with two processes against one."""

import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch.distributed as dist

from bench.shared.rows import Row
from bench.speed.size import write_sounds
from bench.speed.timing import Setting, comparison
from bench.speed.training import epoch_audio, epoch_seconds
from distill.training.metrics import VQEpochMetrics
from distill.training.request import TrainingRequest
from distill.training.run_folder import RunFolder

_EPOCHS = 5
_TIMES = 4  # as much sound as in `make demo`
_BATCH = 32  # per process
_PROCESSES = (1, 2)


def scaling(setting: Setting) -> Iterator[Row]:
    """On the same sounds and batch, and on twice the sounds with twice the batch; one thread per process."""
    if not dist.is_available():
        return
    folders = {times: write_sounds(setting.work / f"{times} times", times) for times in (_TIMES, 2 * _TIMES)}
    same = {count: (folders[_TIMES], _BATCH // count) for count in _PROCESSES}
    grown = {count: (folders[_TIMES * count], _BATCH) for count in _PROCESSES}
    for case, given in (("the same sounds and batch", same), ("twice the sounds and batch", grown)):
        rates: dict[int, list[float]] = {count: [] for count in _PROCESSES}
        for number in range(setting.repetitions):
            for count in reversed(_PROCESSES) if number % 2 else _PROCESSES:
                folder, batch = given[count]
                work = setting.work / f"{case} {count} {number}"
                rates[count].append(rate(folder, batch, count, work, setting.device.type))
        values = [two / one for one, two in zip(rates[1], rates[2])]
        beside = {f"{count} processes, audio s/s": statistics.median(rates[count]) for count in _PROCESSES}
        yield comparison("scaling", f"two processes, {case}", "times the audio per second of one", values, beside)


def rate(folder: Path, batch: int, processes: int, work: Path, device: str) -> float:
    """Audio seconds per second of a training from its second epoch on, with `batch` chunks per process."""
    request = TrainingRequest.for_folder(folder, models_dir=work / "models", output_dir=work / "run")
    launch(folder, batch, processes, work, device)
    ends = [event.elapsed_seconds for event in RunFolder(work / "run").events() if isinstance(event, VQEpochMetrics)]
    return epoch_audio(request) / epoch_seconds(ends)


def launch(folder: Path, batch: int, processes: int, work: Path, device: str) -> None:
    """Run a training under torchrun, with one thread per process."""
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)),
        *("-m", "distill", "train", str(folder), "--epochs", str(_EPOCHS), "--batch-size", str(batch)),
        *("--device", device, "--models-dir", str(work / "models"), "--output-dir", str(work / "run")),
    ]
    result = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(f"{processes} processes failed:\n{result.stderr[-2000:]}")
