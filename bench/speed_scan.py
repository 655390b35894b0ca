"""Looking through a folder of many files, each decoded in a process apart and checked, against just reading it."""

import statistics
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import soundfile

from distill.data.collection import find_audio_files, scan
from rows import Row
from speed_turns import Call, Setting, comparison, in_turn, ratios

_FILES, _RATE = 10_000, 48_000
_FRAMES = _RATE // 2


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
