"""A run on a background thread: stopped at any moment, broken in any way, it leaves nothing behind and says so."""

import dataclasses
import math
import random
import sys
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch

import distill
from distill.data.collection import find_audio_files
from distill.errors import CollectionError, StorageError, TrainingError
from distill.training.checkpoint import list_checkpoints
from distill.training.loop import train, train_vqvae
from distill.training.metrics import TrainingCompleteEvent, VQStepMetrics
from distill.training.run_folder import RunFolder
from distill.training.runner import TrainingRunner
from support.runs import RESULT_KEYS, models_of, newest, same_run, small_config, small_vae_config
from support.sounds import write_collection
from support.stops import InCall, asked_to_go_on
from support.waiting import PATIENCE_S, until

pytestmark = [
    pytest.mark.usefixtures("quick_runs"),
    pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="what is held is counted in /proc"),
]


def held() -> dict[str, Counter[str]]:
    """The threads, the open files and the child processes of this process."""
    handles = []
    for number in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the one that this listing is read by
            handles.append(str(number.readlink()))
    tasks = Path("/proc/self/task").iterdir()
    children = []
    for task in tasks:
        with suppress(OSError):  # a thread that has just ended
            children += (task / "children").read_text().split()
    threads = [thread.name for thread in threading.enumerate()]
    return {"threads": Counter(threads), "handles": Counter(handles), "children": Counter(children)}


def assert_nothing_left(before: dict[str, Counter[str]]) -> None:
    """All that was taken is free: at once, but for the thread of a queue to a worker, which torch tells to end and does
    not wait for."""
    until(lambda: held() == before, lambda: (held(), before))


@pytest.fixture(scope="module")
def sounds(tmp_path_factory) -> list[Path]:
    return find_audio_files(write_collection(tmp_path_factory.mktemp("sounds")))


@pytest.fixture(scope="module")
def config():
    return small_config(augmentation_copies=6, max_epochs=3, preview_interval=2, checkpoint_interval=1)


class Watched(TrainingRunner):
    """Counts the calls of distill's functions in its run, and cancels it at the one of that number."""

    def __init__(self, cancel_at: float = math.inf) -> None:
        super().__init__()
        self.cancel_at, self.calls = cancel_at, 0

    def _run(self, *arguments: Any) -> None:
        sys.setprofile(self._count)
        super()._run(*arguments)
        sys.setprofile(None)

    def _count(self, frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(distill.__path__[0]):
            self.calls += 1
            if self.calls == self.cancel_at:
                self.cancel()


@pytest.fixture(scope="module")
def whole(config, sounds, tmp_path_factory) -> tuple[Path, int]:
    """A run that nothing stopped, and how many calls it took."""
    folder, runner = tmp_path_factory.mktemp("whole") / "run", Watched()
    runner.start_vqvae(config, sounds, folder, models_dir=models_of(folder))
    runner.wait()
    return folder, runner.calls


# Cancelled


@pytest.mark.parametrize("moments", [2, pytest.param(50, marks=pytest.mark.soak)])
def test_a_run_cancelled_at_any_moment_stops_leaves_nothing_behind_and_can_go_on(
    moments, config, sounds, whole, tmp_path
):
    chance, outcomes, (whole_folder, calls) = random.Random(0), Counter(), whole
    for number in range(moments):
        folder, events, before = tmp_path / str(number), [], held()
        runner = Watched(int(calls * (number + chance.random()) / moments))
        runner.start_vqvae(config, sounds, folder, callback=events.append, models_dir=models_of(folder))
        assert set(runner.wait()) == RESULT_KEYS["vqvae"]
        assert runner.cancelled
        assert isinstance(events[-1], TrainingCompleteEvent)
        del runner
        assert_nothing_left(before)
        if models_of(folder).exists():
            outcomes["finished"] += 1
        elif not folder.exists():
            outcomes["not begun"] += 1
        else:
            outcomes["stopped"] += 1
            train_vqvae(config, sounds, folder, resume_from=folder)
            same_run(folder, whole_folder)
    assert outcomes["stopped"] >= moments // 4, outcomes


FAMILIES = {
    "vqvae": (train_vqvae, small_config, RESULT_KEYS["vqvae"]),
    "vae": (train, small_vae_config, RESULT_KEYS["vae"]),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_run_cancelled_while_its_sounds_are_read_has_the_usual_result_and_no_folder(family, sounds, tmp_path):
    begin, make, keys = FAMILIES[family]
    events: list[Any] = []
    numbers = torch.get_rng_state()
    with InCall("audio.reader.AudioReader.read", 2).laid() as options:
        result = begin(make(), sounds, tmp_path / "run", callback=events.append, **options)
    assert set(result) == keys
    assert [type(event) for event in events] == [TrainingCompleteEvent]
    assert not (tmp_path / "run").exists()
    assert torch.equal(torch.get_rng_state(), numbers)


def test_a_run_cancelled_while_it_reads_its_sounds_to_go_on_keeps_what_it_had(config, sounds, tmp_path):
    with InCall("training.validation.validate").laid() as options:
        train_vqvae(config, sounds, tmp_path / "run", **options)
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.*")}
    with InCall("audio.reader.AudioReader.read", 2).laid() as options:
        train_vqvae(config, sounds, tmp_path / "run", resume_from=tmp_path / "run", **options)
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.*")} == before


@pytest.mark.parametrize("part", ["_deterministic_cumsum", "_sum_by_index"], ids=["its start", "its iterations"])
def test_k_means_over_many_vectors_can_be_cancelled(part, config, sounds, tmp_path):
    stop = InCall(f"models.quantizer.{part}", 1)
    with stop.laid() as options:
        train_vqvae(config, sounds, tmp_path / "run", **options)
    assert stop.seen == 2  # and no more of the many
    assert newest(tmp_path / "run").step == 0


# Broken


class Broken:
    """Raises an error where the run calls it."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __call__(self, *_: object, **__: object) -> None:
        raise self.error


ERRORS = [ValueError, SystemExit, KeyboardInterrupt, MemoryError, GeneratorExit]
PLACES = {
    "a preview": "distill.training.loop.VQVAEObjective.preview",
    "a checkpoint": "distill.training.snapshot.write_checkpoint",
    "the first model": "distill.training.loop.VQVAEObjective.prepare",
    "a validation": "distill.training.validation.validate",
    "the end": "distill.training.loop.save_model_v2",
}


@pytest.mark.parametrize(
    ("place", "error"),
    [*(("the callback", error) for error in ERRORS), *((place, OSError) for place in PLACES)],
)
def test_whatever_breaks_a_run_reaches_its_caller_and_frees_everything(
    place, error, config, sounds, whole, tmp_path, monkeypatch
):
    broken, runner, before = Broken(error("broken")), TrainingRunner(), held()
    short = dataclasses.replace(config, max_epochs=1, num_workers=1 if place == "the callback" else 0)
    if place in PLACES:
        monkeypatch.setattr(PLACES[place], broken)
    callback = broken if place == "the callback" else None
    runner.start_vqvae(short, sounds, tmp_path / "run", callback=callback, models_dir=tmp_path / "models")
    with pytest.raises(error, match="broken"):
        runner.wait()
    assert not runner.is_running
    assert_nothing_left(before)
    if (tmp_path / "run").exists():
        with RunFolder(tmp_path / "run").in_use():  # nobody else has it
            pass
    runner.start_vqvae(config, sounds[:1], tmp_path / "other")
    with pytest.raises(CollectionError):
        runner.wait()


def test_a_cancelled_run_with_worker_processes_leaves_none(config, sounds, whole, tmp_path):
    runner, before = TrainingRunner(), held()
    runner.start_vqvae(
        dataclasses.replace(config, num_workers=1), sounds, tmp_path / "run", callback=lambda event: runner.cancel()
    )
    assert runner.wait() is not None
    assert_nothing_left(before)


def test_a_run_whose_folder_is_taken_away_says_so(config, sounds, tmp_path):
    def take_away(event: object) -> None:
        for path in sorted((tmp_path / "run").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        (tmp_path / "run").rmdir()

    with pytest.raises(StorageError, match=r"could not write .*events.jsonl"):
        train_vqvae(config, sounds, tmp_path / "run", callback=take_away)


# Two at a time


def test_a_run_folder_in_use_is_refused_to_everybody_else_and_the_run_in_it_goes_on(config, sounds, whole, tmp_path):
    folder, runner, other = tmp_path / "run", TrainingRunner(), TrainingRunner()
    at_work, gate = threading.Event(), threading.Event()

    def wait(event: object) -> None:
        if isinstance(event, VQStepMetrics) and (event.epoch, event.step) == (1, 2):
            at_work.set()
            assert gate.wait(PATIENCE_S)

    runner.start_vqvae(config, sounds, folder, callback=wait)
    assert at_work.wait(PATIENCE_S)
    for resume in (None, folder):
        other.start_vqvae(config, sounds, folder, resume_from=resume)
        with pytest.raises(StorageError, match="in use by a training in progress"):
            other.wait()
    code, errors = asked_to_go_on((folder, None))
    assert code != 0
    assert "in use by a training in progress" in errors
    with pytest.raises(TrainingError, match="already in progress"):
        runner.start_vqvae(config, sounds, tmp_path / "another")
    gate.set()
    assert runner.wait() is not None
    same_run(folder, whole[0])
    assert list_checkpoints(folder / "checkpoints")


def test_a_run_computes_with_as_many_threads_as_the_one_that_starts_it():
    runner, usual = TrainingRunner(), torch.get_num_threads()

    def start() -> None:
        torch.set_num_threads(usual + 1)
        runner._start(lambda cancel_event: {"threads": torch.get_num_threads()})
        torch.set_num_threads(usual)  # which is that of all threads to come, too

    starting = threading.Thread(target=start)
    starting.start()
    starting.join()
    assert runner.wait() == {"threads": usual + 1}
    torch.set_num_threads(usual)
