"""Using a model: sounds through it, loading its file, listing a library."""

import os
import shutil
import statistics
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import soxr

from distill.audio.recording import Samples
from distill.data.collection import find_audio_files
from distill.models.persistence import load_any
from distill.training.loop import train_vqvae
from distill.training.request import plan_run
from rows import Row
from speed_start import run
from speed_turns import Call, Setting, comparison, in_turn, milliseconds, ratios, settling

_RATE = 48_000
_SECONDS = (10, 60)
_FEW, _MANY = 10, 1000  # models in a library
_LOAD = """
import sys, time
begun = time.perf_counter()
import torch
there = time.perf_counter()
import distill
load = distill.load
ready = time.perf_counter()
load(sys.argv[1])
print(there - begun, ready - there, time.perf_counter() - ready)
"""
_LIST = """
import sys, time
from distill.library.catalog import ModelLibrary
begun = time.perf_counter()
entries = ModelLibrary(sys.argv[1]).entries()
took = time.perf_counter() - begun
assert "torch" not in sys.modules
print(len(entries), took)
"""


def inference(setting: Setting) -> Iterator[Row]:
    """A model of one epoch, and all that is done with models."""
    model = trained(setting)
    yield from reconstructing(model, setting)
    yield loading(model, setting)
    yield from listing(model, setting)


def trained(setting: Setting) -> Path:
    """The file of a model that has seen the collection once."""
    models = setting.work / "models"
    plan, _ = plan_run(
        setting.collection.folder, models_dir=models, output_dir=setting.work / "run", max_epochs=1,
        device=setting.device.type,
    )  # fmt: skip
    train_vqvae(**plan.arguments())
    (path,) = models.glob("*.distill")
    return path


def reconstructing(path: Path, setting: Setting) -> Iterator[Row]:
    """Sounds of the collection, one after the other, through the model and the search for phases."""
    model = load_any(path, setting.device)
    sound = long_sound(setting.collection.folder, max(_SECONDS))
    ways: dict[str, Call] = {
        f"{seconds} s": partial(model.reconstruct, sound[: seconds * _RATE], _RATE) for seconds in _SECONDS
    }
    next(iter(ways.values()))()
    times = in_turn(ways, setting.repetitions, settle=settling(setting.device))
    for seconds, (name, took) in zip(_SECONDS, times.items()):
        speed = [seconds / one for one in took]
        yield comparison(
            "inference", f"reconstructing {name}", "times as fast as it plays", speed, milliseconds({name: took})
        )


def long_sound(folder: Path, seconds: int) -> Samples:
    """The sounds of a folder in a row, and again and again, for so long: mono float32 `[S]`."""
    sounds: list[Samples] = []
    paths = find_audio_files(folder)
    while sum(map(len, sounds)) < seconds * _RATE:
        frames, rate = soundfile.read(paths[len(sounds) % len(paths)], dtype="float32", always_2d=True)
        sounds.append(soxr.resample(frames.mean(axis=1), rate, _RATE))
    return np.concatenate(sounds)[: seconds * _RATE].astype(np.float32)


def loading(path: Path, setting: Setting) -> Row:
    """A model file, in fresh processes that have imported torch and nothing else."""
    taken = [tuple(map(float, run("-c", _LOAD, str(path)).split())) for _ in range(setting.repetitions + 1)][1:]
    torch_s, imports_s, file_s = (list(times) for times in zip(*taken))
    both_s = [imports + file for imports, file in zip(imports_s, file_s)]
    times = {"import torch": torch_s, "our imports": imports_s, "the file": file_s, "both": both_s}
    return comparison(
        "inference", "loading a model", "times as long as import torch", ratios(both_s, torch_s), milliseconds(times)
    )


def listing(path: Path, setting: Setting) -> Iterator[Row]:
    """Libraries of few and of many models, in fresh processes, with their index and without it."""
    folders = {count: library(path, setting.work / f"library of {count}", count) for count in (_FEW, _MANY)}
    for case, prepare in (("index to be made", _forget_index), ("index there", _keep_index)):
        times: dict[int, list[float]] = {count: [] for count in folders}
        for number in range(setting.repetitions):
            for count in reversed(folders) if number % 2 else folders:
                prepare(folders[count])
                listed, took = run("-c", _LIST, str(folders[count])).split()
                assert int(listed) == count
                times[count].append(float(took))
        beside = {f"{count:,} models, ms": 1e3 * statistics.median(values) for count, values in times.items()}
        values = ratios(times[_MANY], times[_FEW])
        yield comparison("inference", f"listing {_MANY:,} models, {case}", f"times as long as {_FEW}", values, beside)


def library(path: Path, folder: Path, count: int) -> Path:
    """A folder with so many model files, which share their content on the disk where that is possible."""
    folder.mkdir()
    for number in range(count):
        copy = folder / f"model {number}.distill"
        try:
            os.link(path, copy)
        except OSError:
            shutil.copy(path, copy)
    return folder


def _forget_index(folder: Path) -> None:
    (folder / "library.json").unlink(missing_ok=True)


def _keep_index(folder: Path) -> None:
    """Nothing is to be done."""
    assert (folder / "library.json").exists()
