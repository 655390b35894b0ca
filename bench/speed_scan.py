"""Looking through a folder of many files, each decoded in a process apart and checked, against just reading it.

And a folder of ten hours: how soon a training on it takes its first step, and how much memory it needs.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import torch

from distill.data.collection import find_audio_files, scan
from rows import Row
from speed_loop import Training, train
from speed_processes import alone, peak_memory
from speed_turns import Call, Setting, comparison, in_turn, ratios

_FILES, _RATE = 10_000, 48_000
_FRAMES = _RATE // 2
_MANY, _SECONDS, _CD_RATE = 600, 60, 44_100


def looking(setting: Setting) -> Iterator[Row]:
    """`distill.data.collection.scan` and libsndfile in turn, on half-second files."""
    folder = hits(setting.work / "many", _FILES)
    ways: dict[str, Call] = {"scan": partial(looked_through, folder), "read": partial(just_read, folder)}
    times = in_turn(ways, min(3, setting.repetitions))
    beside = {f"{name}, s": statistics.median(seconds) for name, seconds in times.items()}
    case = f"{_FILES:,} files of half a second"
    yield comparison("scan", case, "times as long as libsndfile in this process", ratios(*times.values()), beside)


def hits(folder: Path, count: int) -> Path:
    """So many different bursts of noise that die away."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    decay = np.exp(-np.arange(_FRAMES) / (0.1 * _RATE))
    for number in range(count):
        soundfile.write(folder / f"{number:05d}.wav", 0.3 * rng.standard_normal(_FRAMES) * decay, _RATE)
    return folder


def looked_through(folder: Path) -> None:
    """Scan a folder, as `distill inspect` and a training do."""
    found = scan(find_audio_files(folder))
    assert len(found.usable) == len(found.files)


def just_read(folder: Path) -> None:
    """Read every file of a folder."""
    for path in find_audio_files(folder):
        soundfile.read(path, dtype="float32")


def long(setting: Setting) -> Iterator[Row]:
    """`distill train` on a folder of ten hours, up to its first step, and two epochs; takes 10 GB of disk at most."""
    folder = noise(setting.work / "long", _MANY)
    places = [setting.work / f"run {number}" for number in range(setting.repetitions)]
    times = [first_step_s(folder, place, setting.device.type) for place in places]
    beside = {"from the command on, s": statistics.median(times)}
    case = f"{_MANY} files of a minute, to the first step"
    yield comparison(
        "long", case, "times as fast as it plays", [_SECONDS * _MANY / seconds for seconds in times], beside
    )
    run, peak = alone(two_epochs, folder, setting.work / "two epochs", setting.device.type)
    beside = {"whole run, s": run.whole_s, "second epoch, s": run.epoch_s, "peak, MB": peak / 1e6}
    case = f"{_MANY} files of a minute, two epochs, start and end included"
    yield comparison("long", case, "times as fast as it plays", [run.whole_rate], beside)


def two_epochs(folder: Path, work: Path, device: str) -> tuple[Training, int]:
    """A training by the preset, and the most bytes that its process takes up, decoders aside."""
    return train(folder, work, device, max_epochs=2), peak_memory(torch.device(device))


def first_step_s(folder: Path, run: Path, device: str) -> float:
    """How many seconds pass until a training tells of its first step, which is then stopped; imports included."""
    command = [sys.executable, "-m", "distill", "train", str(folder), "--json", "--device", device]
    places = ["--output-dir", str(run), "--models-dir", str(run.with_name("models"))]
    begun = time.perf_counter()
    with subprocess.Popen([*command, *places], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        events = (json.loads(line)["event"] for line in process.stdout)
        next(event for event in events if event == "VQStepMetrics")
        seconds = time.perf_counter() - begun
        process.send_signal(signal.SIGINT)
        process.communicate()
    return seconds


def noise(folder: Path, count: int) -> Path:
    """So many files of a minute, of noise that swells and fades, at a rate that has to be converted."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        swell = 0.1 + 0.1 * np.sin(np.linspace(0, rng.uniform(10, 100), _SECONDS * _CD_RATE, dtype=np.float32))
        sound = swell * rng.standard_normal(_SECONDS * _CD_RATE, dtype=np.float32)
        soundfile.write(folder / f"{number:03d}.wav", np.clip(sound, -1, 1), _CD_RATE)
    os.sync()  # a user's sounds are long on the disk
    return folder
