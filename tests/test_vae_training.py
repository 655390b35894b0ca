"""A VAE run as its caller sees it: its events, the warmed-up KL weight, collapse told in words, exact resume."""

import copy
import dataclasses
import json
import logging
import math
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from distill.audio.io import read_waveform
from distill.audio.settings import BEFORE
from distill.audio.spectrogram import AudioSpectrogram, SpectrogramConfig
from distill.data.chunks import AS_IT_IS, ChunkDataset
from distill.data.collection import Sound, find_audio_files
from distill.errors import CheckpointError
from distill.families import get_family
from distill.models import load_model
from distill.models.analysis import analyse_latent_space
from distill.models.archive import read_archive, write_archive
from distill.models.vae import ConvVAE
from distill.training.checkpoint import list_checkpoints, load_checkpoint, load_vqvae_checkpoint
from distill.training.execution import run_training
from distill.training.loop import train, train_epoch, validate_epoch
from distill.training.metrics import EpochMetrics, PreviewEvent, StepMetrics, TrainingCompleteEvent
from distill.training.objective import EpochResult
from distill.training.picture import draw_vae_run
from distill.training.preview import generate_preview, list_previews
from distill.training.request import TrainingRequest
from distill.training.run_folder import RunFolder
from distill.training.runner import TrainingRunner
from distill.training.vae_loop import VAEObjective, _examples
from support.checkpoints import same
from support.runs import RESULT_KEYS, same_run, small_vae_config, ticking
from support.sounds import write_collection
from support.stops import StopAt

pytestmark = pytest.mark.usefixtures("quick_runs")


EPOCHS, WARMUP, WEIGHT = 4, 0.5, 0.02


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[Path]:
    return find_audio_files(write_collection(tmp_path_factory.mktemp("sounds")))


class Log(logging.Handler):
    """Keeps what distill logs."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture(scope="module")
def finished(files, tmp_path_factory):
    """One whole run: its result, its events, where its model went, and what it logged."""
    folder, events, log, logger = tmp_path_factory.mktemp("finished"), [], Log(), logging.getLogger("distill")
    logger.addHandler(log)
    logger.setLevel(logging.INFO)
    config = small_vae_config(
        max_epochs=EPOCHS, augmentation_copies=6, kl_warmup_fraction=WARMUP, kl_weight_max=WEIGHT, preview_interval=2
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distill.training.vae_loop.draw_vae_run", draw_vae_run)
        result = train(
            config, files, folder / "run", "cpu", callback=events.append, models_dir=folder / "models",
            dataset_name="tones", model_name="Six tones",
        )  # fmt: skip
    logger.removeHandler(log)
    logger.setLevel(logging.NOTSET)
    return result, events, folder, log.records


def of_kind(events, kind):
    return [event for event in events if isinstance(event, kind)]


# A whole run


def test_events_come_in_the_order_things_happen(finished):
    _, events, _, _ = finished
    steps = events[0].total_steps
    epoch = [StepMetrics] * steps + [EpochMetrics]
    previews = [PreviewEvent] * 8  # four random sounds, two pairs
    assert [type(e) for e in events] == (epoch + epoch + previews) * 2 + [TrainingCompleteEvent]
    places = [(event.epoch, event.step) for event in of_kind(events, StepMetrics)]
    assert places == [(epoch, step) for epoch in range(EPOCHS) for step in range(steps)]


def test_the_result_has_the_promised_keys(finished):
    result, _, _, _ = finished
    assert set(result) == RESULT_KEYS["vae"]
    assert isinstance(result["model"], ConvVAE)
    assert not result["model"].training
    assert result["best_checkpoint_path"].is_file()


def test_the_kl_weight_rises_in_a_line_over_the_warmup_and_then_stays(finished):
    _, events, _, _ = finished
    for event in of_kind(events, StepMetrics):
        progress = (event.epoch + event.step / event.total_steps) / EPOCHS
        assert event.kl_weight == pytest.approx(WEIGHT * min(1, progress / WARMUP))
    weights = [event.kl_weight for event in of_kind(events, StepMetrics)]
    assert weights[0] == 0
    assert weights == sorted(weights)
    assert weights[len(weights) // 2 :] == [WEIGHT] * (len(weights) // 2)


def test_under_a_time_budget_the_weight_never_falls(files, tmp_path):
    # The number of epochs is only settled after the first of them.
    config = small_vae_config(minutes=0.1, max_epochs=1, augmentation_copies=4, kl_warmup_fraction=1.0)
    request = TrainingRequest.of_arguments("vae", config, files, tmp_path / "run")
    history = run_training(request, clock=ticking(0.1))["metrics_history"]
    weights = [event.kl_weight for event in history.step_metrics]
    assert len(history.epoch_metrics) > 2
    assert weights == sorted(weights)


def test_a_steps_loss_is_its_reconstruction_plus_its_weighted_divergence(finished):
    _, events, _, _ = finished
    for event in of_kind(events, StepMetrics):
        assert event.train_loss == pytest.approx(event.recon_loss + event.kl_weight * event.kl_loss, rel=1e-5)


def test_every_epoch_is_judged_by_the_full_weight_so_that_the_best_can_be_told(finished):
    _, events, _, _ = finished
    for event in of_kind(events, EpochMetrics):
        assert event.val_loss == pytest.approx(event.val_recon_loss + WEIGHT * event.val_kl_loss, rel=1e-5)
    losses = [event.val_loss for event in of_kind(events, EpochMetrics)]
    assert (events[-1].best_val_loss, events[-1].best_epoch) == (min(losses), losses.index(min(losses)))


def test_the_sound_gets_better(finished):
    result, _, _, _ = finished
    curves = result["metrics_history"].get_loss_curves()
    assert curves["recon_losses"][-1] < curves["recon_losses"][0]
    assert set(curves) == {"train_losses", "val_losses", "recon_losses", "kl_losses"}


def test_the_raw_divergence_is_told_beside_the_one_with_free_bits(finished):
    _, events, _, _ = finished
    for event in of_kind(events, EpochMetrics):
        assert 0 < event.kl_divergence <= event.val_kl_loss + 1e-4


def test_every_epoch_says_how_many_dimensions_are_active(finished):
    _, events, _, records = finished
    told = [r.getMessage() for r in records if r.levelno == logging.INFO and "dimensions active" in r.getMessage()]
    assert len(told) == EPOCHS
    for line, event in zip(told, of_kind(events, EpochMetrics)):
        assert line.split("latent space: ")[1].split(" of ")[1].startswith("16 dimensions active")
        assert line.endswith(f"KL {event.kl_divergence:.1f} nats")


def test_the_saved_model_has_the_best_weights_and_the_analysis_of_the_result(finished):
    result, events, folder, _ = finished
    loaded = load_model(folder / "models" / "Six tones.distill")
    best = load_checkpoint(result["best_checkpoint_path"]).best_weights
    assert all(torch.equal(value, best[name]) for name, value in loaded.model.state_dict().items())
    assert loaded.analysis == result["analysis"]
    assert len(loaded.analysis["mean"]) == 16
    assert loaded.metadata.best_epoch == events[-1].best_epoch
    assert (loaded.metadata.name, loaded.metadata.dataset_name) == ("Six tones", "tones")


def test_the_model_file_keeps_the_settings_of_the_run_the_kl_terms_included(finished):
    _, _, folder, _ = finished
    content = torch.load(folder / "models" / "Six tones.distill", weights_only=True)
    kept = {name: content["training_config"].get(name) for name in ("max_epochs", "kl_weight_max", "free_bits")}
    assert kept == {"max_epochs": EPOCHS, "kl_weight_max": WEIGHT, "free_bits": 0.1}


def test_the_chunk_decides_the_shape_the_model_is_built_for(finished):
    result, _, _, _ = finished
    # 24 000 samples are 47 frames, in whole grid cells 48; 128 bands, and four times 64 of their detail.
    assert result["model"].settings == {
        "latent_dim": 16,
        "dropout": 0.2,
        "transform": "lapped",
        "n_mels": 384,
        "frames": 48,
    }


def test_directions_are_named_after_what_the_bands_do_in_decibels(files, tmp_path, monkeypatch):
    seen = []

    def analyse(decode, latents):
        seen.append((decode(latents[:2]), latents))
        return analyse_latent_space(decode, latents)

    monkeypatch.setattr("distill.training.vae_loop.analyse_latent_space", analyse)
    model = train(small_vae_config(max_epochs=1), files, tmp_path / "run")["model"]
    ((mel, latents),) = seen
    with torch.no_grad():
        expected = AudioSpectrogram(get_family("vae").spectrogram).decibels(model.decode(latents[:2]))
    assert mel.shape == (2, 1, 128, 48)
    torch.testing.assert_close(mel, expected)


@pytest.mark.parametrize(("sounds", "seconds"), [(3, 40), (70, 3), (2, 0.1)])
def test_new_sounds_are_drawn_around_the_beginnings_of_sounds_where_there_are_enough(sounds, seconds):
    noise = np.random.default_rng(0).normal(0, 0.1, (sounds, round(seconds * 100))).astype(np.float32)
    many = [Sound(Path(f"{number}.wav"), f"{number}", wave) for number, wave in enumerate(noise)]
    dataset = ChunkDataset(many, 100, 100, seed=0, augment=True)
    chosen = _examples(dataset)
    assert len(chosen) == len(set(chosen)) == min(64, len(dataset))
    assert len({dataset.chunks[index].sound for index in chosen}) == min(64, sounds)
    assert all(dataset.chunks[index].start == 0 for index in chosen) == (sounds != 3)
    assert torch.equal(dataset[AS_IT_IS, 0, chosen[-1]], dataset[AS_IT_IS, 5, chosen[-1]])


def test_the_run_folder_tells_the_whole_story(finished):
    result, events, _, _ = finished
    folder = RunFolder(result["output_dir"])
    assert folder.events() == events
    info = folder.read_info()
    assert info.family == "vae"
    assert info.config["kl_weight_max"] == WEIGHT
    assert Path(info.model_path).is_file()
    assert folder.picture_path.read_bytes().startswith(b"\x89PNG")


def test_previews_are_random_sounds_and_pairs_that_can_be_heard(finished):
    result, events, _, _ = finished
    previews = of_kind(events, PreviewEvent)
    names = sorted(Path(event.audio_path).name for event in previews if event.epoch == 1)
    pairs = [f"epoch_0001_{n}_{role}.wav" for n in (1, 2) for role in ("original", "reconstruction")]
    assert names == sorted(pairs + [f"epoch_0001_{n}_random.wav" for n in range(1, 5)])
    assert {str(path) for path in list_previews(RunFolder(result["output_dir"]).previews)} == {
        event.audio_path for event in previews
    }
    for event in previews:
        assert abs(read_waveform(Path(event.audio_path), 48_000)).max() > 1e-4


def test_random_previews_are_of_the_same_latents_and_leave_torchs_numbers_alone(finished, tmp_path):
    result, _, _, _ = finished
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, other = (
        generate_preview(
            result["model"], AudioSpectrogram(get_family("vae").spectrogram), tmp_path / name, 0, "cpu", num_samples=1
        )
        for name in ("one", "other")
    )
    assert torch.equal(torch.rand(3), expected)
    assert one[0].read_bytes() == other[0].read_bytes()


def test_cancelling_leaves_a_checkpoint_and_the_same_keys(files, tmp_path):
    events, cancel = [], threading.Event()

    def stop_at_second_step(event):
        events.append(event)
        if isinstance(event, StepMetrics) and event.step == 1:
            cancel.set()

    result = train(
        small_vae_config(augmentation_copies=3), files, tmp_path / "run", callback=stop_at_second_step,
        cancel_event=cancel, models_dir=tmp_path / "models",
    )  # fmt: skip
    assert [type(e) for e in events] == [StepMetrics, StepMetrics, TrainingCompleteEvent]
    assert set(result) == RESULT_KEYS["vae"]
    assert result["analysis"] is None
    stopped = list_checkpoints(tmp_path / "run" / "checkpoints")[-1]
    assert stopped.name == "checkpoint_00000_00002_none.pt"
    assert not (tmp_path / "models").exists()


def test_a_vae_trains_on_a_background_thread(files, tmp_path):
    runner = TrainingRunner()
    runner.start(small_vae_config(max_epochs=1), files, tmp_path / "run", models_dir=tmp_path / "models")
    assert set(runner.wait()) == RESULT_KEYS["vae"]
    assert not runner.is_running
    assert len(list((tmp_path / "models").glob("*.distill"))) == 1


# Resume


@pytest.fixture(scope="module")
def resumable():
    return small_vae_config(
        augmentation_copies=3, max_epochs=3, checkpoint_interval=1, kl_warmup_fraction=0.8, kl_weight_max=0.002
    )


@pytest.fixture(scope="module")
def uninterrupted(resumable, files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    return folder, train(resumable, files, folder)["analysis"]


@pytest.mark.parametrize(
    "stop",
    [
        pytest.param(StopAt(StepMetrics, epoch=0, step=0), marks=pytest.mark.slow),
        StopAt(StepMetrics, epoch=1, step=1),
        pytest.param(StopAt(EpochMetrics, epoch=1), marks=pytest.mark.slow),
    ],
    ids=["first step", "mid epoch, in the warm-up", "epoch end"],
)
def test_a_run_stopped_anywhere_ends_like_the_uninterrupted_one(stop, resumable, files, uninterrupted, tmp_path):
    stop.cancel.clear()
    stopped = train(resumable, files, tmp_path / "run", callback=stop, cancel_event=stop.cancel)
    assert stopped["analysis"] is None
    resumed = train(resumable, files, tmp_path / "run", resume_from=tmp_path / "run")
    same_run(tmp_path / "run", uninterrupted[0], "vae")
    assert resumed["analysis"] == uninterrupted[1]


def test_a_checkpoint_says_which_family_it_is_of(uninterrupted):
    path = list_checkpoints(uninterrupted[0] / "checkpoints")[-1]
    checkpoint = load_checkpoint(path)
    assert (checkpoint.family, checkpoint.kl_weight, checkpoint.commitment_weight) == ("vae", 0.002, None)
    with pytest.raises(CheckpointError, match="from a vae run, not a vqvae run"):
        load_vqvae_checkpoint(path)


def test_another_kl_weight_is_refused_by_name(resumable, files, uninterrupted, tmp_path):
    other = dataclasses.replace(resumable, kl_weight_max=0.5)
    with pytest.raises(CheckpointError, match=r"kl_weight_max \(was 0.002, is 0.5\)"):
        train(other, files, tmp_path / "run", resume_from=uninterrupted[0])


def as_of_0_1_0(path: Path) -> None:
    """Take from a checkpoint the settings that 0.1.0 did not have."""
    content = read_archive(path)
    del content["identity"]["config"]["transform"], content["model_settings"]["transform"]
    for name in BEFORE:
        del content["identity"]["spectrogram_config"][name]
    write_archive(path, content)


def test_a_run_of_before_goes_on_with_its_convolutions_and_its_mel(files, tmp_path):
    config = small_vae_config(max_epochs=2, checkpoint_interval=1, transform="convolutions")
    whole = train(config, files, tmp_path / "whole", spectrogram_config=SpectrogramConfig())
    stop = StopAt(EpochMetrics, epoch=0)
    train(
        config, files, tmp_path / "run", spectrogram_config=SpectrogramConfig(), callback=stop, cancel_event=stop.cancel
    )
    info_path = RunFolder(tmp_path / "run").info_path
    info = json.loads(info_path.read_text())
    del info["config"]["transform"]
    for name in BEFORE:
        del info["spectrogram_config"][name]
    info_path.write_text(json.dumps(info))
    for path in list_checkpoints(tmp_path / "run" / "checkpoints"):
        as_of_0_1_0(path)
    result = run_training(TrainingRequest.resume(tmp_path / "run", models_dir=tmp_path / "models"))
    assert result["model"].settings == whole["model"].settings
    assert same(result["model"].state_dict(), whole["model"].state_dict())
    assert load_model(next((tmp_path / "models").glob("*.distill"))).spectrogram.config == SpectrogramConfig()


# Collapse


@pytest.mark.parametrize("free_bits", [0.1, 0.0])
def test_a_collapse_made_on_purpose_is_warned_of_in_plain_words(free_bits, files, tmp_path, caplog):
    # With what 0.1.0 had: a model that starts from components needs far more steps to lose them.
    config = small_vae_config(
        augmentation_copies=16, kl_weight_max=100.0, kl_warmup_fraction=0.0, free_bits=free_bits, learning_rate=5e-3,
        transform="convolutions",
    )  # fmt: skip
    train(config, files, tmp_path / "run", spectrogram_config=SpectrogramConfig())
    assert "carry information about the sound (posterior collapse)" in caplog.text
    assert "lower KL weight" in caplog.text


def test_a_run_that_is_not_pressed_is_not_warned_of(files, tmp_path, caplog):
    train(small_vae_config(kl_weight_max=0.0, kl_warmup_fraction=0.0), files, tmp_path / "run")
    assert "collapse" not in caplog.text


def watched(**settings) -> VAEObjective:
    return VAEObjective(small_vae_config(**settings))


def told(caplog, objective: VAEObjective, active: int, epoch: int, divergence: float = 0.5) -> str:
    """What is logged for an epoch of ten in which `active` of 64 dimensions have this divergence, the others none."""
    mu = torch.zeros(8, 64)
    mu[:, :active] = math.sqrt(2 * divergence)
    observed = [torch.cat([mu, torch.zeros(8, 64)], dim=1)]
    validation = {"val_loss": 1.0, "val_recon_loss": 1.0, "val_kl_loss": 0.0}
    caplog.clear()
    with caplog.at_level(logging.INFO):
        objective.epoch_event(ConvVAE(), EpochResult(epoch, 10, 1.0, validation, 1e-3, 0.0, 1.0), observed)
    return caplog.text


@pytest.mark.parametrize(("active", "warned"), [(0, True), (6, True), (7, False), (64, False)])
def test_fewer_than_a_tenth_of_the_dimensions_is_a_collapse(active, warned, caplog):
    text = told(caplog, watched(free_bits=0.1, kl_warmup_fraction=0.5), active, 9)
    assert f"latent space: {active} of 64 dimensions active, KL {active * 0.5:.1f} nats" in text
    assert (f"only {active} of 64 latent dimensions carry information about the sound" in text) == warned


@pytest.mark.parametrize(("epoch", "warned"), [(0, False), (4, False), (5, True), (9, True)])
def test_a_collapse_is_none_before_the_warmup_is_over(epoch, warned, caplog):
    assert ("posterior collapse" in told(caplog, watched(free_bits=0.1, kl_warmup_fraction=0.5), 0, epoch)) == warned


def test_a_collapse_under_a_warmup_as_long_as_the_run_is_told_at_its_end(caplog):
    assert "posterior collapse" in told(caplog, watched(free_bits=0.1, kl_warmup_fraction=1.0), 0, 9)


def test_a_dimension_held_at_its_free_bits_is_not_counted_as_active(caplog):
    # Pressed by a heavy weight a dimension hovers about its free bits, a hair above as often as below.
    assert "posterior collapse" in told(caplog, watched(free_bits=0.1, kl_warmup_fraction=0.0), 64, 9, divergence=0.102)


def test_without_free_bits_a_trace_of_divergence_is_no_activity(caplog):
    assert "posterior collapse" in told(caplog, watched(free_bits=0.0, kl_warmup_fraction=0.0), 64, 9, divergence=1e-4)


# One epoch


class TestOneEpoch:
    """The public functions for one epoch, with a loader of one's own."""

    @pytest.fixture
    def bench(self):
        torch.manual_seed(0)
        model = ConvVAE(latent_dim=8, frames=48, dropout=0.0)
        return model, torch.optim.AdamW(model.parameters(), lr=1e-3), AudioSpectrogram()

    @staticmethod
    def noise(count: int, seed: int) -> torch.Tensor:
        return torch.randn(count, 1, 24_000, generator=torch.Generator().manual_seed(seed)) * 0.1

    def test_an_epoch_returns_the_means_of_its_steps(self, bench):
        model, optimizer, spectrogram = bench
        events = []
        loader = [self.noise(4, 0), self.noise(4, 1)]
        means = train_epoch(model, loader, optimizer, spectrogram, "cpu", 1.0, kl_weight=0.5, callback=events.append)
        assert set(means) == {"train_loss", "recon_loss", "kl_loss"}
        for name in means:
            assert means[name] == pytest.approx(sum(getattr(e, name) for e in events) / 2)
        assert [event.kl_weight for event in events] == [0.5, 0.5]
        assert means["train_loss"] == pytest.approx(means["recon_loss"] + 0.5 * means["kl_loss"])

    def test_an_epoch_can_be_cancelled_between_two_steps(self, bench):
        model, optimizer, spectrogram = bench
        events, cancel = [], threading.Event()

        def stop(event):
            events.append(event)
            cancel.set()

        loader = [self.noise(4, 0), self.noise(4, 1)]
        train_epoch(model, loader, optimizer, spectrogram, "cpu", 1.0, callback=stop, cancel_event=cancel)
        assert [event.step for event in events] == [0]

    @pytest.mark.parametrize("poison", [math.nan, math.inf])
    def test_a_loss_that_is_not_finite_changes_nothing_and_is_told(self, bench, poison, caplog):
        model, optimizer, spectrogram = bench
        train_epoch(model, [self.noise(4, 0)], optimizer, spectrogram, "cpu", 1.0)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        moments = copy.deepcopy(optimizer.state_dict()["state"])
        events, bad = [], self.noise(4, 1)
        bad[0, 0, 100] = poison
        means = train_epoch(model, [bad], optimizer, spectrogram, "cpu", 1.0, epoch=1, callback=events.append)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        for key, state in optimizer.state_dict()["state"].items():
            assert all(torch.equal(state[name], moments[key][name]) for name in state)
        assert len(events) == 1
        assert not math.isfinite(events[0].train_loss)
        assert "not finite" in caplog.text
        assert math.isnan(means["train_loss"])

    def test_validation_means_are_per_example_and_the_divergence_covers_the_set(self, bench):
        model, _, spectrogram = bench
        sounds = torch.cat([self.noise(4, 2), self.noise(1, 3) * 3])
        together = validate_epoch(model, [sounds], spectrogram, "cpu", free_bits=0.0)
        apart = validate_epoch(model, [sounds[:4], sounds[4:]], spectrogram, "cpu", free_bits=0.0)
        assert set(together) == {"val_loss", "val_recon_loss", "val_kl_loss", "kl_divergence"}
        assert apart["kl_divergence"] == pytest.approx(together["kl_divergence"], rel=1e-4)
        assert apart["val_kl_loss"] == pytest.approx(together["val_kl_loss"], rel=1e-4)
        with torch.no_grad():
            mu, logvar = model.encode(spectrogram.waveform_to_mel(sounds))
        oracle = kl_divergence(Normal(mu, (0.5 * logvar).exp()), Normal(0.0, 1.0)).mean(dim=0).sum()
        assert together["kl_divergence"] == pytest.approx(float(oracle), rel=1e-4)

    def test_the_weight_scales_the_divergence_in_the_loss_and_nowhere_else(self, bench):
        model, _, spectrogram = bench
        light, heavy = (
            validate_epoch(model, [self.noise(4, 1)], spectrogram, "cpu", kl_weight=weight) for weight in (0.25, 0.5)
        )
        assert heavy["val_kl_loss"] == light["val_kl_loss"]
        assert heavy["val_loss"] - light["val_loss"] == pytest.approx(0.25 * light["val_kl_loss"], rel=1e-4)

    def test_a_batch_of_silence_trains_without_nan(self, bench):
        model, optimizer, spectrogram = bench
        loader = [self.noise(4, 0), torch.zeros(4, 1, 24_000)]
        train_epoch(model, loader, optimizer, spectrogram, "cpu", 1.0)
        assert all(torch.isfinite(value).all() for value in model.state_dict().values())
