"""Speed and peak memory of a training on ten hours of sound: to its first step, and over two epochs."""

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import torch

from bench.shared.processes import in_fresh_process, peak_memory
from bench.shared.rows import Row
from bench.speed.timing import Setting, comparison
from bench.speed.training import Training, train

_FILES, _SECONDS, _RATE = 600, 60, 44_100
_SETTINGS = {"max_epochs": 2}  # of the training after the one that stops at its first step


def long(setting: Setting) -> Iterator[Row]:
    """`distill train` up to its first step, and a training of two epochs; needs up to 10 GB of disk."""
    folder = write_noise(setting.work / "long", _FILES)
    runs = [setting.work / f"run {number}" for number in range(setting.repetitions)]
    times = [first_step_s(folder, run, setting.device.type) for run in runs]
    speeds = [_FILES * _SECONDS / seconds for seconds in times]
    beside = {"from the command on, s": statistics.median(times)}
    case = f"{_FILES} files of a minute, to the first step"
    yield comparison("long", case, "times as fast as it plays", speeds, beside)
    run, peak = in_fresh_process(two_epochs, folder, setting.work / "two epochs", setting.device.type, _SETTINGS)
    beside = {"whole run, s": run.whole_s, "second epoch, s": run.epoch_s, "peak, MB": peak / 1e6}
    case = f"{_FILES} files of a minute, two epochs, start and end included"
    yield comparison("long", case, "times as fast as it plays", [run.whole_rate], beside)


def two_epochs(folder: Path, work: Path, device: str, settings: dict[str, int]) -> tuple[Training, int]:
    """Train with the preset and `settings`, and return the peak memory of this process (not of those that decode)."""
    return train(folder, work, device, **settings), peak_memory(torch.device(device))


def first_step_s(folder: Path, run: Path, device: str) -> float:
    """Seconds from the command, imports included, to the event of the first step; then the training is stopped."""
    command = [sys.executable, "-m", "distill", "train", str(folder), "--json", "--device", device]
    places = ["--output-dir", str(run), "--models-dir", str(run.with_name("models"))]
    start = time.perf_counter()
    with subprocess.Popen([*command, *places], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        events = (json.loads(line)["event"] for line in process.stdout)
        next(event for event in events if event == "VQStepMetrics")
        seconds = time.perf_counter() - start
        process.send_signal(signal.SIGINT)
        process.communicate()
    return seconds


def write_noise(folder: Path, count: int) -> Path:
    """Write `count` files of swelling and fading noise, a minute each, at a rate that has to be resampled."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        swell = 0.1 + 0.1 * np.sin(np.linspace(0, rng.uniform(10, 100), _SECONDS * _RATE, dtype=np.float32))
        sound = swell * rng.standard_normal(_SECONDS * _RATE, dtype=np.float32)
        soundfile.write(folder / f"{number:03d}.wav", np.clip(sound, -1, 1), _RATE)
    os.sync()  # a user's sounds have been on the disk for long
    return folder
