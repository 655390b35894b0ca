"""Speed of using a model: reconstructing sounds, loading the model file, listing a library."""

import os
import shutil
import statistics
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import soxr

from bench.shared.rows import Row
from bench.speed.start import run_python
from bench.speed.timing import Call, Setting, comparison, interleaved, milliseconds, ratios
from distill.audio.recording import Samples
from distill.data.collection import find_audio_files
from distill.models.persistence import load_any
from distill.training.execution import run_training
from distill.training.request import TrainingRequest

_RATE = 48_000
_SECONDS = (10, 60)
_FEW, _MANY = 10, 1000  # models in a library
_LOAD = """
import sys, time
start = time.perf_counter()
import torch
torch_imported = time.perf_counter()
import distill
load = distill.load
distill_imported = time.perf_counter()
load(sys.argv[1])
print(torch_imported - start, distill_imported - torch_imported, time.perf_counter() - distill_imported)
"""
_LIST = """
import sys, time
from distill.library.catalog import ModelLibrary
start = time.perf_counter()
entries = ModelLibrary(sys.argv[1]).entries()
seconds = time.perf_counter() - start
assert "torch" not in sys.modules
print(len(entries), seconds)
"""


def inference(setting: Setting) -> Iterator[Row]:
    """Train a model for one epoch, then measure with it."""
    model = trained(setting)
    yield from reconstruction(model, setting)
    yield loading(model, setting)
    yield from listing(model, setting)


def trained(setting: Setting) -> Path:
    """The file of a model trained for one epoch on the collection."""
    models = setting.work / "models"
    request = TrainingRequest.for_folder(
        setting.collection.folder, models_dir=models, output_dir=setting.work / "run", max_epochs=1,
        device=setting.device.type,
    )  # fmt: skip
    run_training(request)
    (path,) = models.glob("*.distill")
    return path


def reconstruction(path: Path, setting: Setting) -> Iterator[Row]:
    """Sounds of the collection, joined, through the model and phase reconstruction."""
    model = load_any(path, setting.device)
    sound = long_sound(setting.collection.folder, max(_SECONDS))
    calls: dict[str, Call] = {
        f"{seconds} s": partial(model.reconstruct, sound[: seconds * _RATE], _RATE) for seconds in _SECONDS
    }
    next(iter(calls.values()))()  # warm-up
    times = interleaved(calls, setting.repetitions, setting.device)
    for seconds, (name, values) in zip(_SECONDS, times.items()):
        speeds = [seconds / value for value in values]
        beside = milliseconds({name: values})
        yield comparison("inference", f"reconstructing {name}", "times as fast as it plays", speeds, beside)


def long_sound(folder: Path, seconds: int) -> Samples:
    """The sounds of a folder joined and repeated to a length of `seconds`: mono float32 `[S]`."""
    sounds: list[Samples] = []
    paths = find_audio_files(folder)
    while sum(map(len, sounds)) < seconds * _RATE:
        frames, rate = soundfile.read(paths[len(sounds) % len(paths)], dtype="float32", always_2d=True)
        sounds.append(soxr.resample(frames.mean(axis=1), rate, _RATE))
    return np.concatenate(sounds)[: seconds * _RATE].astype(np.float32)


def loading(path: Path, setting: Setting) -> Row:
    """Imports and loading the file, in fresh processes that have imported only torch."""
    measured = [tuple(map(float, run_python("-c", _LOAD, str(path)).split())) for _ in range(setting.repetitions + 1)]
    torch_s, imports_s, file_s = (list(times) for times in zip(*measured[1:]))  # the first fills the file cache
    both_s = [imports + file for imports, file in zip(imports_s, file_s)]
    times = {"import torch": torch_s, "our imports": imports_s, "the file": file_s, "both": both_s}
    return comparison(
        "inference", "loading a model", "times as long as import torch", ratios(both_s, torch_s), milliseconds(times)
    )


def listing(path: Path, setting: Setting) -> Iterator[Row]:
    """Libraries of few and of many models, in fresh processes, with and without an index."""
    folders = {count: make_library(path, setting.work / f"library of {count}", count) for count in (_FEW, _MANY)}
    for case, prepare in (("index to be made", _remove_index), ("index there", _check_index)):
        times: dict[int, list[float]] = {count: [] for count in folders}
        for number in range(setting.repetitions):
            for count in reversed(folders) if number % 2 else folders:
                prepare(folders[count])
                listed, seconds = run_python("-c", _LIST, str(folders[count])).split()
                assert int(listed) == count
                times[count].append(float(seconds))
        beside = {f"{count:,} models, ms": 1e3 * statistics.median(values) for count, values in times.items()}
        values = ratios(times[_MANY], times[_FEW])
        yield comparison("inference", f"listing {_MANY:,} models, {case}", f"times as long as {_FEW}", values, beside)


def make_library(path: Path, folder: Path, count: int) -> Path:
    """A folder with `count` copies of a model file, as hard links where possible."""
    folder.mkdir()
    for number in range(count):
        copy = folder / f"model {number}.distill"
        try:
            os.link(path, copy)
        except OSError:
            shutil.copy(path, copy)
    return folder


def _remove_index(folder: Path) -> None:
    (folder / "library.json").unlink(missing_ok=True)


def _check_index(folder: Path) -> None:
    assert (folder / "library.json").exists()
