"""Speed of checking a folder of many files, each decoded in a child process, against just reading it."""

import statistics
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import soundfile

from bench.shared.rows import Row
from bench.speed.timing import Call, Setting, comparison, interleaved, ratios
from distill.data.collection import find_audio_files
from distill.data.opening import open_collection

_FILES, _RATE = 10_000, 48_000
_FRAMES = _RATE // 2


def scanning(setting: Setting) -> Iterator[Row]:
    """`distill.data.collection.scan` and libsndfile in turn, on half-second files."""
    folder = write_hits(setting.work / "many", _FILES)
    calls: dict[str, Call] = {"scan": partial(scan_folder, folder), "read": partial(read_folder, folder)}
    times = interleaved(calls, min(3, setting.repetitions))
    beside = {f"{name}, s": statistics.median(seconds) for name, seconds in times.items()}
    case = f"{_FILES:,} files of half a second"
    yield comparison("scan", case, "times as long as libsndfile in this process", ratios(*times.values()), beside)


def write_hits(folder: Path, count: int) -> Path:
    """Write `count` different decaying bursts of noise."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    decay = np.exp(-np.arange(_FRAMES) / (0.1 * _RATE))
    for number in range(count):
        soundfile.write(folder / f"{number:05d}.wav", 0.3 * rng.standard_normal(_FRAMES) * decay, _RATE)
    return folder


def scan_folder(folder: Path) -> None:
    """Scan a folder, as `distill inspect` and a training do."""
    found = open_collection(find_audio_files(folder))
    assert len(found.usable) == len(found.files)


def read_folder(folder: Path) -> None:
    """Read every file of a folder."""
    for path in find_audio_files(folder):
        soundfile.read(path, dtype="float32")
