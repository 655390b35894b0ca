"""What more processes are worth: `distill train` under torchrun, with one process and with two."""

import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch.distributed as dist

from distill.training.metrics import VQEpochMetrics
from distill.training.request import plan_run
from distill.training.run_folder import RunFolder
from rows import Row
from speed_loop import epoch_audio, epoch_seconds
from speed_size import sounds
from speed_turns import Setting, comparison

_EPOCHS = 5
_TIMES = 4  # the sounds of `make demo`
_BATCH = 32  # of one process
_PROCESSES = (1, 2)


def scaling(setting: Setting) -> Iterator[Row]:
    """Two processes with a thread each against one: on the same sounds, and on twice as much with twice the batch."""
    if not dist.is_available():
        return
    folders = {times: sounds(setting.work / f"{times} times", times) for times in (_TIMES, 2 * _TIMES)}
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
    """Audio seconds per second of a training from its second epoch on; every process takes `batch` chunks a step."""
    plan, _ = plan_run(folder, models_dir=work / "models", output_dir=work / "run")
    launched(folder, batch, processes, work, device)
    ends = [event.elapsed_seconds for event in RunFolder(work / "run").events() if isinstance(event, VQEpochMetrics)]
    return epoch_audio(plan) / epoch_seconds(ends)


def launched(folder: Path, batch: int, processes: int, work: Path, device: str) -> None:
    """Run a training to its end under torchrun, one thread to each process."""
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)),
        *("-m", "distill", "train", str(folder), "--epochs", str(_EPOCHS), "--batch-size", str(batch)),
        *("--device", device, "--models-dir", str(work / "models"), "--output-dir", str(work / "run")),
    ]
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{processes} processes failed:\n{done.stderr[-2000:]}")
