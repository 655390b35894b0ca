"""Training that goes wrong: nothing that is not finite is learnt or saved, and there is a way back."""

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from distill.data.collection import find_audio_files
from distill.errors import TrainingError
from distill.models.archive import read_archive
from distill.training.checkpoint import list_checkpoints
from distill.training.loop import train, train_vqvae
from distill.training.metrics import VQStepMetrics
from distill.training.objective import Evaluation
from distill.training.run_folder import RunFolder
from distill.training.step import TrainStep
from support.runs import newest, same_run, small_config, small_vae_config
from support.sounds import RATE

pytestmark = pytest.mark.usefixtures("quick_runs")

Fault = Callable[[int], bool]  # of the steps taken so far: whether the loss of the next one is made NaN


@contextmanager
def poisoned(monkeypatch: pytest.MonkeyPatch, fault: Fault) -> Iterator[None]:
    """A loss turned into NaN wherever `fault` says so."""
    real, taken = TrainStep.launch, 0

    def launch(self, batch, progress):
        nonlocal taken
        taken += 1
        with pytest.MonkeyPatch.context() as patch:
            if fault(taken - 1):
                objective = type(self.context.objective)
                judge = objective.evaluate

                def evaluate(*arguments):
                    judged = judge(*arguments)
                    return Evaluation((judged.totals[0] * math.nan,), judged.terms, judged.observed)

                patch.setattr(objective, "evaluate", evaluate)
            return real(self, batch, progress)

    with monkeypatch.context() as patch:
        patch.setattr(TrainStep, "launch", launch)
        yield


@pytest.fixture
def config():
    """Four epochs of six steps, a checkpoint after each."""
    return small_config(augmentation_copies=6, max_epochs=4, checkpoint_interval=1, preview_interval=99)


@pytest.fixture
def files(collection: Path) -> list[Path]:
    return find_audio_files(collection)


def rates(history) -> list[float]:
    return [step.learning_rate for step in history.step_metrics]


def test_ten_steps_in_a_row_that_are_not_finite_go_back_to_a_healthy_checkpoint_with_half_the_rate(
    config, files, tmp_path, monkeypatch, caplog
):
    steps = 6
    with poisoned(monkeypatch, lambda taken: steps * 2 <= taken < steps * 2 + 10):
        history = train_vqvae(config, files, tmp_path / "run", "cpu")["metrics_history"]

    assert "10 steps in a row were not finite: rolled back to epoch 3, with half the learning rate" in caplog.text
    assert "(rollback 1 of at most 3)" in caplog.text
    assert [event.epoch for event in history.epoch_metrics] == [0, 1, 2, 3]
    assert all(math.isfinite(step.train_loss) for step in history.step_metrics)  # what went wrong is taken back
    usual = train_vqvae(config, files, tmp_path / "usual", "cpu")["metrics_history"]
    assert rates(history)[: steps * 2] == rates(usual)[: steps * 2]
    assert rates(history)[steps * 2 :] == pytest.approx([rate / 2 for rate in rates(usual)[steps * 2 :]])
    assert RunFolder(tmp_path / "run").events()[: len(history.step_metrics)] != []
    assert newest(tmp_path / "run").rollbacks == 1


def test_a_run_resumed_after_a_way_back_ends_like_the_uninterrupted_one(config, files, tmp_path, monkeypatch):
    cancel = threading.Event()

    def stop(event):  # not on the first way through epoch 3, which is the one that fails
        if isinstance(event, VQStepMetrics) and (event.epoch, event.step) == (3, 2) and math.isfinite(event.train_loss):
            cancel.set()

    for name, options in (("whole", {}), ("stopped", {"callback": stop, "cancel_event": cancel})):
        with poisoned(monkeypatch, lambda taken: 12 <= taken < 22):
            train_vqvae(config, files, tmp_path / name, "cpu", **options)
    train_vqvae(config, files, tmp_path / "stopped", "cpu", resume_from=tmp_path / "stopped")
    same_run(tmp_path / "stopped", tmp_path / "whole")


def test_from_where_nothing_is_learnt_the_way_back_goes_further_back(config, files, tmp_path, monkeypatch, caplog):
    with poisoned(monkeypatch, lambda taken: 12 <= taken < 32):
        history = train_vqvae(config, files, tmp_path / "run", "cpu")["metrics_history"]
    assert "back to epoch 3, with half the learning rate (rollback 1" in caplog.text
    assert "back to epoch 2, with half the learning rate (rollback 2" in caplog.text
    assert rates(history)[6:12] == pytest.approx([rates(history)[0] * 0.25 * (1 + math.cos(math.pi / 4)) / 2] * 6)
    assert [event.epoch for event in history.epoch_metrics] == [0, 1, 2, 3]


def test_a_run_that_gets_nowhere_stops_with_advice_and_keeps_its_checkpoints(config, files, tmp_path, monkeypatch):
    with (
        poisoned(monkeypatch, lambda taken: taken >= 12),
        pytest.raises(TrainingError, match="try a lower learning_rate"),
    ):
        train_vqvae(config, files, tmp_path / "run", "cpu")
    assert list_checkpoints(tmp_path / "run" / "checkpoints")
    train_vqvae(config, files, tmp_path / "run", "cpu", resume_from=tmp_path / "run")


def test_a_run_that_never_takes_a_step_stops_with_advice(config, files, tmp_path, monkeypatch):
    with poisoned(monkeypatch, lambda taken: True), pytest.raises(TrainingError, match="training diverges"):
        train_vqvae(config, files, tmp_path / "run", "cpu")


def test_skipped_steps_are_counted_and_shown(config, files, tmp_path, monkeypatch, caplog):
    with poisoned(monkeypatch, lambda taken: taken in (1, 2, 8)):
        train_vqvae(config, files, tmp_path / "run", "cpu")
    assert newest(tmp_path / "run").skips == {"total": 3, "in_row": 0}
    assert caplog.text.count("the step was skipped") == 3
    assert RunFolder(tmp_path / "run").read_info().skipped_steps == 3


def odd_sounds(folder: Path) -> Path:
    """Silence, DC, one sample, square waves at full scale, and a tone or two."""
    time = np.arange(RATE // 4) / RATE
    sounds = {
        "dc": np.full(RATE // 4, 0.5),
        "square": np.sign(np.sin(2 * np.pi * 220 * time)),
        "fast square": np.where(np.arange(RATE // 4) % 2, 1.0, -1.0),
        "one sample": np.array([0.9]),
        "two samples": np.array([0.9, -0.9]),
        "nearly silent": np.full(RATE // 4, 2e-3),
        "silence": np.zeros(RATE // 4),
        "silence, then a click": np.append(np.zeros(RATE // 4), 1.0),
        "tone": np.sin(2 * np.pi * 440 * time),
    }
    folder.mkdir()
    for name, sound in sounds.items():
        soundfile.write(folder / f"{name}.wav", sound, RATE, subtype="FLOAT")
    return folder


@pytest.mark.parametrize(
    ("run", "make"), [(train_vqvae, small_config), (train, small_vae_config)], ids=["vqvae", "vae"]
)
def test_silence_dc_single_samples_and_square_waves_train_without_nan(run, make, tmp_path, caplog):
    files = find_audio_files(odd_sounds(tmp_path / "odd"))
    config = make(augmentation_copies=4, max_epochs=2)
    result = run(config, files, tmp_path / "run", "cpu", models_dir=tmp_path / "models")
    assert "not finite" not in caplog.text
    assert all(math.isfinite(step.train_loss) for step in result["metrics_history"].step_metrics)
    for path in [*(tmp_path / "models").glob("*.distill"), *list_checkpoints(tmp_path / "run" / "checkpoints")]:
        assert_finite(read_archive(path))


def assert_finite(value: object) -> None:
    if isinstance(value, torch.Tensor):
        assert torch.isfinite(value).all()
    elif isinstance(value, float):
        assert math.isfinite(value)
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            assert_finite(item)
