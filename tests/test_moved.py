"""A run goes on with its sounds wherever they are now, whatever they are called there."""

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from distill.cli.app import app
from distill.cli.messages import COMMAND_LINE
from distill.data import probe
from distill.errors import CheckpointError
from distill.training.execution import run_training
from distill.training.metrics import VQEpochMetrics
from distill.training.moved import moved_sounds
from distill.training.request import TrainingRequest
from distill.training.run_folder import RunFolder
from support.runs import small_config
from support.sounds import RATE, tone, write_collection

pytestmark = pytest.mark.usefixtures("quick_runs")


def stopped_run(sounds: Path, folder: Path) -> RunFolder:
    """A run on the sounds that was stopped after its first epoch."""
    cancel = threading.Event()
    settings = vars(small_config(with_prior=False))
    request = TrainingRequest.for_folder(sounds, output_dir=folder, models_dir=folder.parent / "models", **settings)
    run_training(request, lambda event: cancel.set() if isinstance(event, VQEpochMetrics) else None, cancel)
    return RunFolder(folder)


@pytest.fixture
def run(collection: Path, tmp_path: Path) -> RunFolder:
    return stopped_run(collection, tmp_path / "run")


@pytest.fixture
def elsewhere(collection: Path, run: RunFolder, tmp_path: Path) -> Path:
    """The folder into which the sounds were moved and renamed, among others."""
    folder = tmp_path / "elsewhere"
    write_collection(folder / "more", 3, rate=RATE // 2)
    for number, path in enumerate(sorted(collection.iterdir(), reverse=True)):
        path.rename(folder / f"{number}.wav")
    collection.rmdir()
    return folder


def test_the_message_names_the_option_and_with_it_the_run_is_finished(run: RunFolder, elsewhere: Path) -> None:
    said = CliRunner().invoke(app, ["train", "--resume", str(run.path)])
    assert isinstance(said.exception, CheckpointError)
    assert "6 of the 6 sound files it was started with are no longer" in said.exception.reason
    assert "--sounds" in said.exception.worded(COMMAND_LINE)

    done = CliRunner().invoke(app, ["train", "--resume", str(run.path), "--sounds", str(elsewhere), "--json"])

    assert done.exit_code == 0, done.output
    info = run.read_info()
    assert info.model_path is not None
    assert {Path(file).parent for file in info.files} == {elsewhere}


def test_a_sound_that_is_nowhere_is_named(run: RunFolder, elsewhere: Path) -> None:
    (elsewhere / "5.wav").unlink()
    with pytest.raises(CheckpointError, match=r"1 of the 6 sounds .* are not in it \(tone_00\.wav\)"):
        moved_sounds(run.path, elsewhere)


def test_the_record_of_an_earlier_version_leaves_it_to_the_checkpoint(run: RunFolder, elsewhere: Path) -> None:
    info = run.read_info().to_dict()
    del info["digests"]
    run.write_info(type(run.read_info()).from_dict(info))
    shutil.rmtree(elsewhere / "more")
    files = moved_sounds(run.path, elsewhere)
    assert run_training(TrainingRequest.resume(run.path, files=files))["model"] is not None


def test_sounds_of_a_long_collection_are_found_by_the_bytes_of_the_files(
    collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_sound: Callable[..., Path]
) -> None:
    monkeypatch.setattr(probe, "_LONG_BYTES", 0)
    monkeypatch.setattr(probe, "_LONG_S", 0.0)
    run = stopped_run(collection, tmp_path / "run")
    monkeypatch.undo()
    write_sound("other.wav", tone(1234, 0.2))
    moved = tmp_path / "sounds" / "moved"
    collection.rename(moved)
    assert [path.parent for path in moved_sounds(run.path, tmp_path / "sounds")] == [moved] * 6


def test_sounds_option_goes_with_resume(collection: Path) -> None:
    said = CliRunner().invoke(app, ["train", str(collection), "--sounds", str(collection)])
    assert said.exit_code == 2
    assert "--sounds goes with --resume" in said.output
