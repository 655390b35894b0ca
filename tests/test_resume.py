"""A run that was stopped and resumed ends as if it had never stopped."""

import dataclasses
import threading
from pathlib import Path

import pytest
import torch

from distill.data.collection import find_audio_files
from distill.errors import CheckpointError, ConfigError
from distill.training.checkpoint import Checkpoint, list_checkpoints, read_checkpoint
from distill.training.loop import train_vqvae
from distill.training.metrics import PreviewEvent, VQEpochMetrics, VQStepMetrics
from distill.training.run_folder import RunFolder
from test_training import small_config

CLOCKS = {"step_time_s": 0.0, "eta_seconds": 0.0, "elapsed_seconds": 0.0, "total_time_s": 0.0}


def without_clocks(events):
    return [
        dataclasses.replace(event, **{k: v for k, v in CLOCKS.items() if hasattr(event, k)})
        for event in events
        if not isinstance(event, PreviewEvent)
    ]


def newest(run: Path, family: str = "vqvae") -> Checkpoint:
    return read_checkpoint(list_checkpoints(run / "checkpoints")[-1], family)


def same_run(one: Path, other: Path, family: str = "vqvae") -> None:
    """Both ended alike: weights, codebooks, optimizer, schedule, best weights, history, event log."""
    a, b = (newest(path, family) for path in (one, other))
    for part in ("model_state", "best_weights"):
        mine, theirs = getattr(a, part), getattr(b, part)
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    for key, state in a.optimizer_state["state"].items():
        assert all(torch.equal(state[name], b.optimizer_state["state"][key][name]) for name in state)
    assert a.scheduler_state == b.scheduler_state
    for name in ("epoch", "step", "best_epoch", "best_val_loss", "model_settings", "kl_weight", "commitment_weight"):
        assert getattr(a, name) == getattr(b, name)
    assert without_clocks(a.history.step_metrics) == without_clocks(b.history.step_metrics)
    assert without_clocks(RunFolder(one).events()) == without_clocks(RunFolder(other).events())


class StopAt:
    """A callback that cancels the run when it sees a certain event."""

    def __init__(self, kind: type, **place: int) -> None:
        self.cancel, self.kind, self.place = threading.Event(), kind, place

    def __call__(self, event) -> None:
        if isinstance(event, self.kind) and all(getattr(event, k) == v for k, v in self.place.items()):
            self.cancel.set()


@pytest.fixture(scope="module")
def config():
    return small_config(augmentation_copies=4, max_epochs=3, preview_interval=1)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    from conftest import write_collection

    return find_audio_files(write_collection(tmp_path_factory.mktemp("sounds")))


@pytest.fixture(scope="module")
def uninterrupted(config, sounds, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    train_vqvae(config, sounds, folder)
    return folder


@pytest.mark.parametrize(
    "stop",
    [
        StopAt(VQStepMetrics, epoch=0, step=0),
        StopAt(VQStepMetrics, epoch=1, step=2),
        StopAt(VQStepMetrics, epoch=1, step=5),  # the last step of an epoch, before its validation
        StopAt(VQEpochMetrics, epoch=0),
        StopAt(PreviewEvent, epoch=1),
    ],
    ids=["first step", "mid epoch", "last step", "epoch end", "in a preview"],
)
def test_a_run_stopped_anywhere_ends_like_the_uninterrupted_one(stop, config, sounds, uninterrupted, tmp_path):
    stop.cancel.clear()
    train_vqvae(config, sounds, tmp_path / "run", callback=stop, cancel_event=stop.cancel)
    train_vqvae(config, sounds, tmp_path / "run", resume_from=tmp_path / "run")
    same_run(tmp_path / "run", uninterrupted)


@pytest.mark.soak
@pytest.mark.parametrize("place", [(epoch, step) for epoch in range(3) for step in range(6)])
def test_a_run_stopped_at_any_step_ends_like_the_uninterrupted_one(place, config, sounds, uninterrupted, tmp_path):
    stop = StopAt(VQStepMetrics, epoch=place[0], step=place[1])
    train_vqvae(config, sounds, tmp_path / "run", callback=stop, cancel_event=stop.cancel)
    train_vqvae(config, sounds, tmp_path / "run", resume_from=tmp_path / "run")
    same_run(tmp_path / "run", uninterrupted)


def test_a_run_stopped_again_and_again_ends_like_the_uninterrupted_one(config, sounds, uninterrupted, tmp_path):
    resume, folder = None, tmp_path / "run"
    for place in [(0, 1), (0, 3), (1, 0), (2, 4)]:
        stop = StopAt(VQStepMetrics, epoch=place[0], step=place[1])
        train_vqvae(config, sounds, folder, callback=stop, cancel_event=stop.cancel, resume_from=resume)
        resume = folder
    train_vqvae(config, sounds, folder, resume_from=folder)
    same_run(folder, uninterrupted)


def test_other_settings_or_files_are_refused_by_name(config, sounds, uninterrupted, tmp_path):
    with pytest.raises(CheckpointError, match=r"batch_size \(was 4, is 8\)"):
        train_vqvae(dataclasses.replace(config, batch_size=8), sounds, tmp_path / "run", resume_from=uninterrupted)
    with pytest.raises(CheckpointError, match="sound files are not those"):
        train_vqvae(config, sounds[:-1], tmp_path / "run", resume_from=uninterrupted)


def test_a_finished_run_resumed_changes_nothing(config, sounds, uninterrupted):
    before = newest(uninterrupted)
    result = train_vqvae(config, sounds, uninterrupted, resume_from=uninterrupted)
    after = newest(uninterrupted)
    assert all(torch.equal(before.model_state[name], after.model_state[name]) for name in before.model_state)
    assert len(result["metrics_history"].epoch_metrics) == 3


def test_a_used_run_folder_is_refused_and_left_as_it_is(config, sounds, uninterrupted):
    before = {path: path.stat().st_mtime_ns for path in uninterrupted.rglob("*")}
    with pytest.raises(ConfigError, match="holds a run already"):
        train_vqvae(config, sounds, uninterrupted)
    assert {path: path.stat().st_mtime_ns for path in uninterrupted.rglob("*")} == before


def test_going_back_to_an_older_checkpoint_drops_what_came_after_it(sounds, uninterrupted, tmp_path):
    every_epoch = small_config(max_epochs=3, checkpoint_interval=1, max_checkpoints=9)
    train_vqvae(every_epoch, sounds, tmp_path / "run")
    _, first, *later = list_checkpoints(tmp_path / "run" / "checkpoints")
    stop = StopAt(VQStepMetrics, epoch=1, step=0)
    train_vqvae(every_epoch, sounds, tmp_path / "run", callback=stop, cancel_event=stop.cancel, resume_from=first)
    kept = list_checkpoints(tmp_path / "run" / "checkpoints")
    assert first in kept
    assert not set(later) & set(kept)
