"""A run that is killed at its very end: whatever it dies in, resuming it completes what is missing, and once."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from distill.library.catalog import ModelLibrary
from distill.library.header import read_header
from distill.models.persistence import load_any
from distill.storage import atomic_write
from distill.training.execution import run_training
from distill.training.metrics import TrainingCompleteEvent
from distill.training.request import TrainingRequest
from distill.training.run_folder import RunFolder
from support.faults import kill, striking
from support.processes import in_child
from support.runs import make_runs_quick, models_of, same_run
from support.sounds import write_collection
from support.stops import Killed

SETTINGS = {"codebook_size": 16, "codebook_dim": 8, "batch_size": 4, "chunk_duration_s": 0.5, "val_fraction": 0.3}
NEVER = -1


@pytest.fixture(scope="module", autouse=True)
def quick_with_pictures() -> Iterator[None]:
    """Narrow nets, and pictures that cost no time: the files are what matters here."""
    with pytest.MonkeyPatch.context() as patch:
        make_runs_quick(patch)
        for name in ("loop.draw_vqvae_run", "prior_loop.draw_prior_run"):
            patch.setattr(f"distill.training.{name}", lambda path, *_: atomic_write(path, b"picture"))
        yield


@dataclass(frozen=True)
class Ending:
    """A run that was killed when only its end was missing, how many system calls the end takes, and how it ends."""

    killed: Path
    calls: int
    whole: Path


# What a run was about to do when it was killed: to save its model, or to add the prior to it.
LAST_ACTS = {"model": "loop.save_and_draw", "prior": "prior_loop.add_part_to_file"}


@pytest.fixture(scope="module", params=LAST_ACTS)
def ending(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Ending:
    base = tmp_path_factory.mktemp("ending")
    killed, whole = base / "killed", base / "whole"
    places = {"output_dir": killed, "models_dir": models_of(killed), "with_prior": request.param == "prior"}
    asked = TrainingRequest.for_folder(write_collection(base / "kit"), **places, **SETTINGS, max_epochs=2)

    def die(*_: object) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"distill.training.{LAST_ACTS[request.param]}", die)
        with pytest.raises(Killed):
            run_training(asked)
    copied(killed, whole)
    with striking(NEVER, kill) as calls:
        complete(whole)
    return Ending(killed, calls.count, whole)


def copied(run: Path, to: Path) -> Path:
    shutil.copytree(run, to)
    if models_of(run).exists():
        shutil.copytree(models_of(run), models_of(to))
    for folder in (to, to / "prior"):  # which names its library, and the prior its model, by their paths
        if (folder / "run.json").exists():
            text = (folder / "run.json").read_text()
            (folder / "run.json").write_text(text.replace(str(models_of(run)), str(models_of(to))))
    return to


def complete(run: Path) -> None:
    """What a user does after a kill, unless the run is finished."""
    if RunFolder(run).read_info().model_path is None:
        run_training(TrainingRequest.resume(run))


def assert_complete(run: Path, ending: Ending) -> None:
    """One model, with all its parts; a picture, and an end in the log, of each part; and the same as without a kill."""
    (entry,) = ModelLibrary(models_of(run)).entries()
    model = ModelLibrary(models_of(run)).path(entry)
    parts = [run / "prior", run] if (ending.killed / "prior").exists() else [run]
    assert read_header(model).lacks == ([] if len(parts) == 2 else ["prior"])
    for part in parts:
        ends = [event for event in RunFolder(part).events() if isinstance(event, TrainingCompleteEvent)]
        assert ends == RunFolder(part).events()[-1:]
        assert RunFolder(part).picture_path.read_bytes() == b"picture"
        assert RunFolder(part).read_info().model_path == str(model)
    assert weights(models_of(run)) == weights(models_of(ending.whole))
    same_run(run, ending.whole)
    assert not list(run.parent.rglob("*.tmp"))


def weights(models: Path) -> dict[str, bytes]:
    (path,) = models.glob("*.distill")
    return {name: value.numpy().tobytes() for name, value in load_any(path).model.state_dict().items()}


def killed_at(at: int, run: Path) -> None:
    def work(say: Callable[[object], Any]) -> None:
        with striking(at, kill):
            complete(run)

    in_child(work)


@pytest.mark.parametrize("every", [pytest.param(29, marks=pytest.mark.slow), pytest.param(1, marks=pytest.mark.soak)])
def test_killed_in_any_system_call_of_its_end_a_run_is_completed_once_when_it_is_resumed(
    ending: Ending, every: int, tmp_path: Path, counted: Callable[[str, int], None]
) -> None:
    assert ending.calls > 50
    places = range(ending.calls - 1, 0, -every)  # from the last on
    for at in places:
        run = copied(ending.killed, tmp_path / f"run{at}")
        killed_at(at, run)
        complete(run)
        assert_complete(run, ending)
        shutil.rmtree(run), shutil.rmtree(models_of(run))
    counted("kills in the end of a run", len(places))


def test_a_model_that_was_deleted_after_its_run_is_made_again_with_its_prior(ending: Ending, tmp_path: Path) -> None:
    run = copied(ending.whole, tmp_path / "run")
    shutil.rmtree(models_of(run))
    run_training(TrainingRequest.resume(run))
    assert_complete(run, ending)
