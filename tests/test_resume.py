"""A run that was stopped and resumed ends as if it had never stopped."""

import dataclasses
import itertools
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from distill.audio.spectrogram import SpectrogramConfig
from distill.data.collection import find_audio_files
from distill.errors import CheckpointError, ConfigError
from distill.models.quantizer import ResidualQuantizer
from distill.training import loop
from distill.training.checkpoint import Checkpoint, list_checkpoints, write_checkpoint
from distill.training.config import TrainingConfig
from distill.training.dataset import create_data_loaders
from distill.training.execution import run_training
from distill.training.loop import train, train_vqvae
from distill.training.metrics import VQStepMetrics
from distill.training.request import TrainingRequest
from support.runs import differences, models_of, newest, parts, same_run, saved_parts, small_config, ticking
from support.sounds import write_collection
from support.stops import AtEvent, InCall, StopAt, go_on

pytestmark = pytest.mark.usefixtures("quick_runs")


# What two runs have in common


# Where a run is stopped


Stops = dict[str, AtEvent | InCall]

STEPS = 6  # of an epoch


def at_steps(epochs: int) -> Stops:
    places = itertools.product(range(epochs), range(STEPS))
    return {f"epoch {e} step {s}": AtEvent("StepMetrics", epoch=e, step=s) for e, s in places}


VQ_STOPS: Stops = {
    "before k-means": InCall("training.loop.VQVAEObjective.prepare"),
    "in k-means": InCall("models.quantizer.kmeans"),
    "in a preview": InCall("training.loop.VQVAEObjective.preview"),
    "killed in an epoch": AtEvent("StepMetrics", killed=True, epoch=1, step=3),
    "in the last k-means": InCall("models.quantizer.kmeans", 2),
    "in the first checkpoint": InCall("training.snapshot.write_checkpoint", 0),
    "in a later checkpoint": InCall("training.snapshot.write_checkpoint", 1),
    "in a validation": InCall("training.validation.validate", 1),
    "in the last validation": InCall("training.validation.validate", 2),
    "at the end of epoch 0": AtEvent("EpochMetrics", epoch=0),
    "at the end of epoch 1": AtEvent("EpochMetrics", epoch=1),
    **at_steps(3),
}
VAE_STOPS: Stops = {
    "at the end of epoch 1": AtEvent("EpochMetrics", epoch=1),
    "in a preview": InCall("training.vae_loop.VAEObjective.preview"),
    "killed in an epoch": AtEvent("StepMetrics", killed=True, epoch=1, step=3),
    "in a checkpoint": InCall("training.snapshot.write_checkpoint", 1),
    "in the first checkpoint": InCall("training.snapshot.write_checkpoint", 0),
    "in a validation": InCall("training.validation.validate", 0),
    "in the last validation": InCall("training.validation.validate", 2),
    "at the end of epoch 0": AtEvent("EpochMetrics", epoch=0),
    **at_steps(2),
}


def some(stops: Stops, count: int) -> Stops:
    return dict(itertools.islice(stops.items(), count))


@dataclasses.dataclass(frozen=True)
class Whole:
    """A run that nothing stopped, and where it replaced dead codes."""

    train: Callable[..., Any]
    config: Any
    sounds: list[Path]
    end: dict[str, Any]
    validation: torch.Tensor
    revivals: list[tuple[int, int]]

    def stopped(self, folder: Path, stop: AtEvent | InCall) -> Path:
        """A run in `folder` like this one, stopped."""
        with stop.laid() as options:
            self.train(self.config, self.sounds, folder, models_dir=models_of(folder), **options)
        assert not models_of(folder).exists(), "the run was not stopped"
        return folder

    def ended_otherwise(self, folder: Path) -> list[str]:
        """In what a run that went on ended otherwise than this one."""
        return differences(saved_parts(folder, self.validation, self.end["family"]), self.end)


@contextmanager
def revivals_noted(places: list[tuple[int, int]]) -> Iterator[Callable[[object], None]]:
    """Notes the steps at which dead codes are replaced; gives the callback that it counts them by."""
    real, done = ResidualQuantizer._revive, itertools.count()
    now = [0]

    def revive(quantizer: ResidualQuantizer, *arguments: Any) -> None:
        before = quantizer.codebooks.clone()
        real(quantizer, *arguments)
        if not torch.equal(before, quantizer.codebooks):
            places.append(divmod(now[0], STEPS))

    def callback(event: object) -> None:
        if isinstance(event, VQStepMetrics):
            now[0] = next(done) + 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ResidualQuantizer, "_revive", revive)
        yield callback


def whole(train: Callable[..., Any], config: Any, sounds: list[Path], folder: Path, family: str) -> Whole:
    revivals: list[tuple[int, int]] = []
    with revivals_noted(revivals) as callback:
        train(config, sounds, folder, models_dir=models_of(folder), callback=callback)
    mels = torch.cat(list(validation_mels(config, sounds)))
    return Whole(train, config, sounds, saved_parts(folder, mels, family), mels, revivals)


def validation_mels(config: Any, sounds: list[Path]) -> Iterator[torch.Tensor]:
    yield from create_data_loaders(sounds, config, spectrogram=SpectrogramConfig())[1]


@pytest.fixture(scope="module")
def config():
    return small_config(augmentation_copies=6, max_epochs=3, preview_interval=2, checkpoint_interval=2, decay=0.4)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    return find_audio_files(write_collection(tmp_path_factory.mktemp("sounds")))


@pytest.fixture(scope="module")
def whole_vqvae(config, sounds, tmp_path_factory):
    return whole(train_vqvae, config, sounds, tmp_path_factory.mktemp("whole") / "run", "vqvae")


@pytest.fixture(scope="module")
def whole_vae(sounds, tmp_path_factory):
    config = TrainingConfig(
        latent_dim=16, batch_size=4, max_epochs=3, chunk_duration_s=0.5, val_fraction=0.3, augmentation_copies=6,
        preview_interval=2, checkpoint_interval=2, kl_warmup_fraction=0.8, kl_weight_max=0.002,
    )  # fmt: skip
    return whole(train, config, sounds, tmp_path_factory.mktemp("whole") / "run", "vae")


@pytest.fixture(scope="module")
def uninterrupted(config, sounds, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    train_vqvae(config, sounds, folder)
    return folder


def stopped_and_gone_on(run: Whole, stops: Stops, folder: Path) -> dict[str, list[str]]:
    """For each stop, in what the run that was stopped there and went on in a new process ended otherwise."""
    folders = {name: run.stopped(folder / name, stop) for name, stop in stops.items()}
    go_on(*((place, None) for place in folders.values()))
    return {name: differing for name, place in folders.items() if (differing := run.ended_otherwise(place))}


@pytest.mark.parametrize("count", [2, pytest.param(len(VQ_STOPS), marks=pytest.mark.soak)])
def test_an_rvq_vae_stopped_anywhere_ends_in_a_new_process_like_the_one_that_was_not(count, whole_vqvae, tmp_path):
    epoch, step = next(place for place in whole_vqvae.revivals if place[1] > 0)
    revival = {"just before a dead code is replaced": AtEvent("StepMetrics", epoch=epoch, step=step - 1)}
    assert stopped_and_gone_on(whole_vqvae, some(VQ_STOPS, count) | revival, tmp_path) == {}


@pytest.mark.parametrize("count", [2, pytest.param(len(VAE_STOPS), marks=pytest.mark.soak)])
def test_a_vae_stopped_anywhere_ends_in_a_new_process_like_the_one_that_was_not(count, whole_vae, tmp_path):
    assert stopped_and_gone_on(whole_vae, some(VAE_STOPS, count), tmp_path) == {}


@pytest.mark.parametrize("times", [2, pytest.param(10, marks=pytest.mark.soak)])
def test_a_run_stopped_again_and_again_each_time_in_a_new_process_ends_alike(times, whole_vqvae, tmp_path):
    places = [divmod(place, STEPS) for place in range(1, 3 * STEPS)][:: 3 * STEPS // times][:times]
    first, *later = [{"epoch": epoch, "step": step} for epoch, step in places]
    folder = whole_vqvae.stopped(tmp_path / "run", AtEvent("StepMetrics", **first))
    for stop in [*later, None]:
        go_on((folder, stop))
    assert whole_vqvae.ended_otherwise(folder) == []


def test_workers_previews_and_health_figures_do_not_move_the_training(whole_vqvae, tmp_path, monkeypatch):
    run, ways = whole_vqvae, {"previews": {"preview_interval": 1}, "worker": {"num_workers": 1, "preview_interval": 99}}
    for name, changes in ways.items():
        run.train(dataclasses.replace(run.config, **changes), run.sounds, tmp_path / name)
    stopped = dataclasses.replace(run, config=dataclasses.replace(run.config, num_workers=1))
    stopped.stopped(tmp_path / "gone on", AtEvent("StepMetrics", epoch=1, step=2))
    go_on((tmp_path / "gone on", None))
    monkeypatch.setattr(loop, "_HEALTH_INTERVAL", 1)
    run.train(run.config, run.sounds, tmp_path / "health")
    figures = {"steps", "epochs", "log"}  # where the figures themselves stand
    for name, shown in {"previews": set(), "worker": set(), "gone on": set(), "health": figures}.items():
        end = parts(tmp_path / name, "vqvae")
        assert set(differences(end, {part: run.end[part] for part in end})) <= shown, name


def test_a_run_under_a_time_budget_that_is_settled_goes_on_exactly(whole_vqvae, tmp_path):
    run = dataclasses.replace(whole_vqvae, config=dataclasses.replace(whole_vqvae.config, minutes=0.1))
    one, other = tmp_path / "one", tmp_path / "other"
    request = TrainingRequest.of_arguments("vqvae", run.config, run.sounds, one, models_dir=models_of(one))
    with InCall("training.run.Run.update_info", 2).laid() as options:  # where the number of epochs is settled
        run_training(request, clock=ticking(0.05), **options)
    settled = newest(one)
    assert settled.planned
    shutil.copytree(one, other)
    go_on((one, None), (other, {"epoch": settled.epoch, "step": 1}), (other, None))
    ends = [saved_parts(folder, run.validation, "vqvae") for folder in (one, other)]
    assert differences(*ends) == []
    assert ends[0]["total_epochs"] == settled.total_epochs == ends[0]["epoch"]


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


SAVING_S = {"quick": 0.1, "slow": 5.0}


@pytest.mark.parametrize("saving", SAVING_S)
def test_long_epochs_have_checkpoints_each_minute_but_for_no_more_than_a_hundredth_of_the_time(
    config, sounds, uninterrupted, tmp_path, monkeypatch, saving
):
    now, saved = 0.0, []

    def write(folder: Path, checkpoint: Checkpoint, keep: int) -> Path:
        nonlocal now
        now += SAVING_S[saving]
        saved.append((checkpoint.step, now))
        return write_checkpoint(folder, checkpoint, keep)

    def callback(event: object) -> None:
        nonlocal now
        now += 25.0 if isinstance(event, VQStepMetrics) else 0.0

    monkeypatch.setattr("distill.training.snapshot.write_checkpoint", write)
    request = TrainingRequest.of_arguments("vqvae", config, sounds, tmp_path / "run", device="cpu")
    run_training(request, callback, clock=lambda: now)
    waits = [at - before for (_, before), (step, at) in itertools.pairwise(saved) if step]
    least = max(60.0, 100 * SAVING_S[saving])
    assert all(least <= wait < least + 25 + SAVING_S[saving] for wait in waits)
    assert bool(waits) == (saving == "quick")
    same_run(tmp_path / "run", uninterrupted)


def test_going_back_to_an_older_checkpoint_drops_what_came_after_it(sounds, uninterrupted, tmp_path):
    every_epoch = small_config(max_epochs=3, checkpoint_interval=1, max_checkpoints=9)
    train_vqvae(every_epoch, sounds, tmp_path / "run")
    _, first, *later = list_checkpoints(tmp_path / "run" / "checkpoints")
    stop = StopAt(VQStepMetrics, epoch=1, step=0)
    train_vqvae(every_epoch, sounds, tmp_path / "run", callback=stop, cancel_event=stop.cancel, resume_from=first)
    kept = list_checkpoints(tmp_path / "run" / "checkpoints")
    assert first in kept
    assert not set(later) & set(kept)
