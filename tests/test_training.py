"""A run as its caller sees it: events in order, warnings that are true, the best weights kept."""

import copy
import logging
import math
import threading
from pathlib import Path

import pytest
import torch

from distill.audio.io import read_waveform
from distill.audio.spectrogram import AudioSpectrogram
from distill.data.collection import find_audio_files
from distill.errors import CollectionError, TrainingError
from distill.models import load_model_v2
from distill.models.vqvae import ConvVQVAE
from distill.training import loop
from distill.training.checkpoint import list_checkpoints, load_vqvae_checkpoint
from distill.training.execution import run_training
from distill.training.loop import train_vqvae, train_vqvae_epoch, validate_vqvae_epoch
from distill.training.metrics import (
    PreviewEvent,
    TrainingCompleteEvent,
    VQEpochMetrics,
    VQMetricsHistory,
    VQStepMetrics,
)
from distill.training.picture import draw_vqvae_run
from distill.training.request import TrainingRequest
from distill.training.run_folder import RunFolder
from distill.training.runner import TrainingRunner
from support.runs import RESULT_KEYS, run_info, small_config, ticking
from support.sounds import write_collection
from support.waiting import PATIENCE_S

START_VECTORS = loop._START_VECTORS  # as many as a user's models start from

pytestmark = pytest.mark.usefixtures("quick_runs")


@pytest.fixture
def files(collection: Path) -> list[Path]:
    return find_audio_files(collection)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One whole run, picture and all: its result, its events, and where its model went."""
    folder = tmp_path_factory.mktemp("finished")
    events = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "draw_vqvae_run", draw_vqvae_run)
        patch.setattr(loop, "_START_VECTORS", START_VECTORS)
        result = train_vqvae(
            small_config(augmentation_copies=12, max_epochs=3),
            find_audio_files(write_collection(folder / "sounds")),
            folder / "run",
            "cpu",
            callback=events.append,
            models_dir=folder / "models",
            dataset_name="tones",
            model_name="Six tones",
        )
    return result, events, folder


def test_events_come_in_the_order_things_happen(finished):
    _, events, _ = finished
    kinds = [type(event) for event in events]
    steps = events[0].total_steps
    epoch = [VQStepMetrics] * steps + [VQEpochMetrics]
    pair = [PreviewEvent] * 4  # two validation files: two originals, two reconstructions
    assert kinds == epoch + epoch + pair + epoch + pair + [TrainingCompleteEvent]
    places = [(event.epoch, event.step) for event in events if isinstance(event, VQStepMetrics)]
    assert places == [(epoch, step) for epoch in range(3) for step in range(steps)]


def test_health_comes_every_tenth_step_but_not_right_after_kmeans(finished):
    _, events, _ = finished
    with_health = [(e.epoch, e.step) for e in events if isinstance(e, VQStepMetrics) and e.codebook_health]
    assert with_health == [(0, 10), (1, 0), (1, 10), (2, 0), (2, 10)]


def test_every_epoch_tells_the_health_of_every_level(finished):
    _, events, _ = finished
    for event in (e for e in events if isinstance(e, VQEpochMetrics)):
        assert list(event.codebook_health) == ["level_0", "level_1", "level_2"]
        for level in event.codebook_health.values():
            assert set(level) == {"utilization", "perplexity", "dead_codes"}
            assert 0 < level["utilization"] <= 1
            assert level["dead_codes"] == 16 - round(level["utilization"] * 16)


def test_what_is_learnt_gets_better_and_the_best_is_known(finished):
    result, events, _ = finished
    curves = result["metrics_history"].get_loss_curves()
    assert min(curves["train_losses"][1:]) < curves["train_losses"][0]  # two tones foretell little of a third
    kept = curves["recon_losses"].index(min(curves["recon_losses"]))
    assert (events[-1].best_epoch, events[-1].best_val_loss) == (kept, curves["val_losses"][kept])
    assert result["metrics_history"].get_best_epoch() == kept


def test_the_saved_model_has_the_weights_of_the_best_epoch_and_says_which(finished):
    result, events, folder = finished
    loaded = load_model_v2(folder / "models" / "Six tones.distill")
    checkpoint = load_vqvae_checkpoint(result["best_checkpoint_path"])
    best = checkpoint.best_weights
    assert all(torch.equal(value, best[name]) for name, value in loaded.model.state_dict().items())
    assert loaded.metadata.best_epoch == events[-1].best_epoch
    assert loaded.metadata.dataset_name == "tones"
    assert loaded.codebook_health == result["final_codebook_health"]


def test_the_learning_rate_follows_a_cosine(finished):
    _, events, _ = finished
    rates = [event.learning_rate for event in events if isinstance(event, VQEpochMetrics)]
    assert rates == pytest.approx([1e-3 * (1 + math.cos(math.pi * epoch / 3)) / 2 for epoch in range(3)])


def test_the_run_folder_tells_the_whole_story(finished):
    result, events, _ = finished
    folder = RunFolder(result["output_dir"])
    assert folder.events() == events
    info = folder.read_info()
    assert info.config["codebook_size"] == 16
    assert info.train_files == 4
    assert info.validation_files == 2
    assert len(set(info.preview_sounds[:2])) == 2
    assert {Path(path).name for path in info.files} > set(info.preview_sounds)
    assert Path(info.model_path).is_file()
    assert folder.picture_path.read_bytes().startswith(b"\x89PNG")
    for event in (e for e in events if isinstance(e, PreviewEvent)):
        assert abs(read_waveform(Path(event.audio_path), 48_000)).max() > 0.01


def test_the_result_has_the_promised_keys(finished):
    result, _, _ = finished
    assert set(result) == RESULT_KEYS["vqvae"]
    assert not result["model"].training


def test_files_in_another_order_or_place_give_the_same_model(files, tmp_path):
    moved = write_collection(tmp_path / "elsewhere")
    for number, path in enumerate(sorted(moved.iterdir(), reverse=True)):
        path.rename(moved / f"renamed_{number}.wav")
    one = train_vqvae(small_config(max_epochs=1), files, tmp_path / "one")
    other = train_vqvae(small_config(max_epochs=1), find_audio_files(moved)[::-1], tmp_path / "other")
    pairs = zip(one["model"].state_dict().values(), other["model"].state_dict().values())
    assert all(torch.equal(a, b) for a, b in pairs)


def test_another_seed_gives_another_model(files, tmp_path):
    one = train_vqvae(small_config(max_epochs=1), files, tmp_path / "one")
    other = train_vqvae(small_config(max_epochs=1, seed=1), files, tmp_path / "other")
    assert one["metrics_history"].epoch_metrics[0].train_loss != other["metrics_history"].epoch_metrics[0].train_loss


def test_a_preview_does_not_move_the_training(files, tmp_path):
    often = train_vqvae(small_config(preview_interval=1), files, tmp_path / "often")
    never = train_vqvae(small_config(preview_interval=99), files, tmp_path / "never")
    pairs = zip(often["model"].state_dict().values(), never["model"].state_dict().values())
    assert all(torch.equal(a, b) for a, b in pairs)


def test_training_leaves_torchs_random_numbers_alone(files, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train_vqvae(small_config(max_epochs=1), files, tmp_path / "run")
    assert torch.equal(torch.rand(3), expected)


def test_cancelling_leaves_a_checkpoint_and_the_same_keys(files, tmp_path):
    events, cancel = [], threading.Event()

    def stop_at_second_step(event):
        events.append(event)
        if isinstance(event, VQStepMetrics) and event.step == 1:
            cancel.set()

    result = train_vqvae(
        small_config(augmentation_copies=3), files, tmp_path / "run", callback=stop_at_second_step,
        cancel_event=cancel, models_dir=tmp_path / "models",
    )  # fmt: skip
    assert [type(e) for e in events] == [VQStepMetrics, VQStepMetrics, TrainingCompleteEvent]
    assert set(result) == RESULT_KEYS["vqvae"]
    assert events[-1].total_epochs == 0
    stopped = list_checkpoints(tmp_path / "run" / "checkpoints")[-1]
    assert stopped.name == "checkpoint_00000_00002_none.pt"
    assert not (tmp_path / "models").exists()


def test_a_real_collapse_is_warned_of_in_the_second_epoch(files, tmp_path, caplog, monkeypatch):
    # Codebooks of which one code is where the sounds are, and none is ever moved there.
    def far_off(x: torch.Tensor, clusters: int, *_: object) -> tuple[torch.Tensor, torch.Tensor]:
        return x.mean(dim=0) + 1e3 * torch.arange(clusters).unsqueeze(1), torch.ones(clusters)

    monkeypatch.setattr("distill.models.quantizer.kmeans", far_off)
    result = train_vqvae(small_config(codebook_size=64, threshold_ema_dead_code=0), files, tmp_path / "run")
    first, second = result["metrics_history"].epoch_metrics
    assert first.utilization_warnings == []
    level = second.codebook_health["level_0"]
    assert f"Level 0: utilization {level['utilization']:.0%} (below 30% threshold)" in second.utilization_warnings
    assert second.utilization_warnings[0] in caplog.text


def test_a_small_validation_set_alone_is_no_reason_to_warn(files, tmp_path):
    result = train_vqvae(small_config(codebook_size=512), files, tmp_path / "run")
    last = result["metrics_history"].epoch_metrics[-1]
    vectors = RunFolder(tmp_path / "run").read_info().validation_vectors
    assert vectors < 512
    for number, level in enumerate(last.codebook_health.values()):
        used = round(level["utilization"] * 512)
        warned = any(warning.startswith(f"Level {number}:") for warning in last.utilization_warnings)
        assert warned == (used < 0.3 * vectors)


def judged(patch: pytest.MonkeyPatch, validation, training=lambda epoch: 1 / (1 + epoch)) -> None:
    """Let runs be judged by losses that are functions of the epoch."""
    patch.setattr(VQMetricsHistory, "judged_validation", lambda self, event: validation(event.epoch))
    patch.setattr(VQMetricsHistory, "judged_training", lambda self, epoch: training(epoch))


def logged(folder: Path, kind: str) -> list[dict]:
    return [entry for entry in RunFolder(folder).log() if entry.get("kind") == kind]


def test_learning_by_heart_is_told_once_however_often_a_run_is_resumed_and_training_goes_on(
    files, tmp_path, monkeypatch, caplog
):
    judged(monkeypatch, lambda epoch: 1.0 if epoch == 1 else 1.1 + epoch / 1000)
    for stop in (4, 8, None):  # before and after it is told, in epoch 6
        cancel = threading.Event()

        def callback(event, stop=stop, cancel=cancel):
            if isinstance(event, VQEpochMetrics) and event.epoch == stop:
                cancel.set()

        resumed = {} if stop == 4 else {"resume_from": tmp_path / "run"}
        config = small_config(max_epochs=10)
        result = train_vqvae(config, files, tmp_path / "run", callback=callback, cancel_event=cancel, **resumed)
    assert len(result["metrics_history"].epoch_metrics) == 10
    (entry,) = logged(tmp_path / "run", "Overfitting")
    assert entry["values"] == {"best": 2, "worse": pytest.approx(0.106)}
    assert caplog.text.count("learning the training files by heart") == 1
    assert result["metrics_history"].get_best_epoch() == 1
    checkpoint = load_vqvae_checkpoint(list_checkpoints(tmp_path / "run" / "checkpoints")[-1])
    assert checkpoint.best_epoch == 1


def test_a_time_budget_settles_the_epochs_and_lays_the_schedule_over_them(files, tmp_path):
    request = TrainingRequest.of_arguments("vqvae", small_config(minutes=0.1), files, tmp_path / "run")
    result = run_training(request, clock=ticking(0.05))
    epochs = result["metrics_history"].epoch_metrics
    total = RunFolder(tmp_path / "run").read_info().total_epochs
    assert len(epochs) == total > 3
    assert epochs[-1].total_epochs == total
    assert epochs[0].learning_rate == pytest.approx(1e-3)
    assert epochs[-1].learning_rate < 0.2 * epochs[0].learning_rate
    assert 5 < epochs[-1].elapsed_seconds < 6.5


def test_a_single_epoch_that_would_take_longer_than_the_budget_ends_with_it(files, tmp_path):
    now = 0.0

    def callback(event):
        nonlocal now
        now += 3.0 if isinstance(event, VQStepMetrics) else 0.0

    config = small_config(minutes=0.1, batch_size=1)
    request = TrainingRequest.of_arguments("vqvae", config, files, tmp_path / "run")
    history = run_training(request, callback, clock=lambda: now)["metrics_history"]
    (epoch,) = history.epoch_metrics
    assert (len(history.step_metrics), history.step_metrics[0].total_steps, epoch.elapsed_seconds) == (3, 4, 9.0)
    assert epoch.total_epochs == RunFolder(tmp_path / "run").read_info().total_epochs == 1
    assert len(logged(tmp_path / "run", "BudgetTooShort")) == 1


def test_a_budget_is_kept_on_a_machine_that_becomes_slower_half_way(files, tmp_path):
    reading = 0.0

    def clock():
        nonlocal reading
        reading += 0.02 if reading < 3 else 0.2
        return reading

    request = TrainingRequest.of_arguments("vqvae", small_config(minutes=0.1), files, tmp_path / "run")
    epochs = run_training(request, clock=clock)["metrics_history"].epoch_metrics
    assert len(epochs) > 3
    assert epochs[-2].total_epochs > epochs[-1].total_epochs == len(epochs)
    assert 6 < epochs[-1].elapsed_seconds < 6 * 1.05 + 1
    assert all(0 <= event.eta_seconds <= 6 - event.elapsed_seconds + 1e-6 or event.eta_seconds == 0 for event in epochs)


def test_too_few_sounds_are_refused_before_anything_is_written(files, tmp_path):
    with pytest.raises(CollectionError, match="at least two"):
        train_vqvae(small_config(), files[:1], tmp_path / "run")
    assert not (tmp_path / "run").exists()


class TestOneEpoch:
    """The public functions for one epoch, with a loader of one's own."""

    @pytest.fixture
    def bench(self):
        torch.manual_seed(0)
        model = ConvVQVAE(codebook_dim=8, codebook_size=16)
        return model, torch.optim.AdamW(model.parameters(), lr=1e-3), AudioSpectrogram()

    @staticmethod
    def noise(count: int, seed: int) -> torch.Tensor:
        return torch.randn(count, 1, 24_000, generator=torch.Generator().manual_seed(seed)) * 0.1

    def test_an_epoch_returns_the_means_of_its_steps(self, bench):
        model, optimizer, spectrogram = bench
        events = []
        loader = [self.noise(4, 0), self.noise(4, 1)]
        means = train_vqvae_epoch(model, loader, optimizer, spectrogram, "cpu", 1.0, callback=events.append)
        assert set(means) == {"train_loss", "recon_loss", "commit_loss"}
        for name in means:
            assert means[name] == pytest.approx(sum(getattr(e, name) for e in events) / 2)
        assert events[0].train_loss == pytest.approx(events[0].recon_loss + events[0].commit_loss)

    @pytest.mark.parametrize("poison", [math.nan, math.inf])
    def test_a_loss_that_is_not_finite_changes_nothing_and_is_told(self, bench, poison, caplog):
        model, optimizer, spectrogram = bench
        train_vqvae_epoch(model, [self.noise(4, 0)], optimizer, spectrogram, "cpu", 1.0)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        moments = copy.deepcopy(optimizer.state_dict()["state"])
        events, bad = [], self.noise(4, 1)
        bad[0, 0, 100] = poison
        means = train_vqvae_epoch(model, [bad], optimizer, spectrogram, "cpu", 1.0, epoch=1, callback=events.append)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        for key, state in optimizer.state_dict()["state"].items():
            assert all(torch.equal(state[name], moments[key][name]) for name in state)
        assert len(events) == 1
        assert not math.isfinite(events[0].train_loss)
        assert "not finite" in caplog.text
        assert math.isnan(means["train_loss"])

    def test_validation_means_are_per_example_and_health_covers_the_set(self, bench):
        model, optimizer, spectrogram = bench
        train_vqvae_epoch(model, [self.noise(4, 0)], optimizer, spectrogram, "cpu", 1.0)
        sounds = torch.cat([self.noise(4, 2), self.noise(1, 3) * 3])
        together = validate_vqvae_epoch(model, [sounds], spectrogram, "cpu")
        apart = validate_vqvae_epoch(model, [sounds[:4], sounds[4:]], spectrogram, "cpu")
        assert set(together) == {"val_loss", "val_recon_loss", "val_commit_loss", "codebook_health"}
        assert apart["codebook_health"] == together["codebook_health"]
        assert apart["val_loss"] == pytest.approx(together["val_loss"], rel=1e-5)

    def test_the_weight_scales_the_commitment_once(self, bench):
        model, optimizer, spectrogram = bench
        train_vqvae_epoch(model, [self.noise(4, 0)], optimizer, spectrogram, "cpu", 1.0)
        light = validate_vqvae_epoch(model, [self.noise(4, 1)], spectrogram, "cpu", commitment_weight=0.25)
        heavy = validate_vqvae_epoch(model, [self.noise(4, 1)], spectrogram, "cpu", commitment_weight=0.5)
        assert heavy["val_commit_loss"] == pytest.approx(2 * light["val_commit_loss"])

    def test_a_batch_of_silence_trains_without_nan(self, bench):
        model, optimizer, spectrogram = bench
        loader = [self.noise(4, 0), torch.zeros(4, 1, 24_000)]
        train_vqvae_epoch(model, loader, optimizer, spectrogram, "cpu", 1.0)
        assert all(torch.isfinite(value).all() for value in model.state_dict().values())


class TestRunner:
    """Training on a background thread."""

    def test_a_run_finishes_and_hands_over_its_result(self, files, tmp_path):
        runner = TrainingRunner()
        runner.start_vqvae(small_config(max_epochs=1), files, tmp_path / "run", models_dir=tmp_path / "models")
        assert set(runner.wait()) == RESULT_KEYS["vqvae"]
        assert not runner.is_running

    def test_a_cancelled_run_can_be_resumed(self, files, tmp_path):
        runner, config = TrainingRunner(), small_config(augmentation_copies=4)
        runner.start_vqvae(config, files, tmp_path / "run", callback=lambda event: runner.cancel())
        assert runner.wait()["metrics_history"].epoch_metrics == []
        runner.start_vqvae(config, files, tmp_path / "run", resume_from=tmp_path / "run")
        assert len(runner.wait()["metrics_history"].epoch_metrics) == 2

    def test_only_one_run_at_a_time(self, files, tmp_path):
        runner, gate = TrainingRunner(), threading.Event()
        runner.start_vqvae(
            small_config(max_epochs=1), files, tmp_path / "run", callback=lambda event: gate.wait(PATIENCE_S)
        )
        with pytest.raises(TrainingError, match="in progress"):
            runner.start_vqvae(small_config(), files, tmp_path / "other")
        gate.set()
        runner.wait()

    def test_what_goes_wrong_in_the_thread_reaches_the_caller(self, files, tmp_path):
        def fail(event):
            raise ValueError("the callback is broken")

        runner = TrainingRunner()
        runner.start_vqvae(small_config(), files, tmp_path / "run", callback=fail)
        with pytest.raises(ValueError, match="the callback is broken"):
            runner.wait()


# The log on disk


def test_warnings_stand_in_the_log_between_the_events_and_go_with_them_as_previews_do(
    tmp_path: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    judged(monkeypatch, lambda epoch: 1.2**epoch)
    config = small_config(val_fraction=0.4, max_epochs=3, preview_interval=1)
    train_vqvae(config, files, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    heard = {path.name.split("_")[1] for path in folder.previews.iterdir()}
    assert heard == {"0000", "0001", "0002"}
    log, events = folder.log(), folder.events()
    warnings = [place for place, entry in enumerate(log) if entry["event"] == "Warning"]
    assert len(log) == len(events) + len(warnings)
    assert [log[place]["kind"] for place in warnings] == ["LossJumped"] * 2
    assert all(log[place + 1]["event"] == "VQEpochMetrics" for place in warnings)
    assert [line["epoch"] for line in folder.usage()] == [0, 1, 2]
    folder.rewind(1, 0)
    first = log.index(next(entry for entry in log if entry.get("epoch") == 1 and "step" in entry))
    assert folder.log() == log[:first]
    assert [line["epoch"] for line in folder.usage()] == [0]
    assert {path.name.split("_")[1] for path in folder.previews.iterdir()} == {"0000"}


def test_what_another_thread_warns_of_is_not_in_the_log(tmp_path: Path) -> None:
    folder, logger = RunFolder(tmp_path), logging.getLogger("distill.test")
    with folder.keeps_warnings():
        logger.warning("before there is a run")
        assert not folder.events_path.exists()
        folder.write_info(run_info())
        other = threading.Thread(target=logger.warning, args=("of another run",))
        other.start()
        other.join()
        logger.info("no warning")
        logger.warning("in the run")
    logger.warning("after it")
    assert [entry["message"] for entry in folder.log()] == ["before there is a run", "in the run"]
