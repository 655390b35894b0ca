"""The events other programs read, and the history made of them."""

import dataclasses
import json
import math
import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from distill.training.metrics import (
    EpochMetrics,
    MetricsHistory,
    PreviewEvent,
    StepMetrics,
    TrainingCompleteEvent,
    VQEpochMetrics,
    VQMetricsHistory,
    VQStepMetrics,
    event_from_dict,
    event_to_dict,
    overfitting_gap,
)

FIELDS = {
    VQStepMetrics: "epoch step total_steps train_loss recon_loss commit_loss commitment_weight learning_rate "
    "step_time_s codebook_health",
    VQEpochMetrics: "epoch total_epochs train_loss val_loss val_recon_loss val_commit_loss overfitting_gap "
    "learning_rate eta_seconds elapsed_seconds codebook_health utilization_warnings",
    StepMetrics: "epoch step total_steps train_loss recon_loss kl_loss kl_weight learning_rate step_time_s",
    EpochMetrics: "epoch total_epochs train_loss val_loss val_recon_loss val_kl_loss kl_divergence overfitting_gap "
    "learning_rate eta_seconds elapsed_seconds",
    PreviewEvent: "epoch audio_path sample_rate",
    TrainingCompleteEvent: "total_epochs total_time_s final_train_loss final_val_loss best_val_loss best_epoch",
}

counts = st.integers(0, 10**6)
numbers = st.floats(width=32)  # NaN and the infinities included
levels = st.fixed_dictionaries({"utilization": st.floats(0, 1), "perplexity": numbers, "dead_codes": counts})
health = st.none() | st.lists(levels, min_size=1, max_size=4).map(
    lambda all: {f"level_{n}": x for n, x in enumerate(all)}
)
warnings = st.none() | st.lists(st.text(max_size=20), max_size=3)
vq_steps = st.builds(VQStepMetrics, counts, counts, counts, *[numbers] * 6, codebook_health=health)
vq_epochs = st.builds(
    VQEpochMetrics, counts, counts, *[numbers] * 8, codebook_health=health, utilization_warnings=warnings
)
steps = st.builds(StepMetrics, counts, counts, counts, *[numbers] * 6)
epochs = st.builds(EpochMetrics, counts, counts, *[numbers] * 9)
previews = st.builds(PreviewEvent, counts, st.text(), counts)
completions = st.builds(TrainingCompleteEvent, counts, *[numbers] * 4, counts)
vq_histories = st.builds(VQMetricsHistory, st.lists(vq_steps, max_size=3), st.lists(vq_epochs, max_size=3))
histories = st.builds(MetricsHistory, st.lists(steps, max_size=3), st.lists(epochs, max_size=3))


def vq_epoch(epoch: int = 0, **values: object) -> VQEpochMetrics:
    """An epoch with a different number in every field."""
    names = FIELDS[VQEpochMetrics].split()[1:10]
    return VQEpochMetrics(**{"epoch": epoch} | {name: n + 1.0 for n, name in enumerate(names)} | values)


def v1_epoch(epoch: int = 0, **values: object) -> EpochMetrics:
    names = FIELDS[EpochMetrics].split()[1:]
    return EpochMetrics(**{"epoch": epoch} | {name: n + 1.0 for n, name in enumerate(names)} | values)


def vq_history(*val_losses: float) -> VQMetricsHistory:
    history = VQMetricsHistory()
    for number, loss in enumerate(val_losses):
        history.add_epoch(vq_epoch(number, val_loss=loss))
    return history


@pytest.mark.parametrize("event", FIELDS, ids=lambda event: event.__name__)
def test_an_event_has_the_contracts_fields_in_the_contracts_order(event):
    assert [field.name for field in dataclasses.fields(event)] == FIELDS[event].split()


def test_health_and_warnings_are_the_only_fields_that_may_be_left_out():
    optional = {
        (event.__name__, field.name): field.default
        for event in FIELDS
        for field in dataclasses.fields(event)
        if field.default is not dataclasses.MISSING
    }
    assert optional == {
        ("VQStepMetrics", "codebook_health"): None,
        ("VQEpochMetrics", "codebook_health"): None,
        ("VQEpochMetrics", "utilization_warnings"): None,
    }


def test_events_are_read_without_torch():
    script = "import sys, distill.training.metrics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_the_gap_is_what_validation_costs_more_in_parts_of_the_training_loss():
    assert overfitting_gap(0.5, 0.75) == 0.5
    assert overfitting_gap(0.5, 0.25) == -0.5
    assert overfitting_gap(0.0, 0.25) == 0.0


@example(PreviewEvent(0, "NaN", 48_000))
@given(st.one_of(vq_steps, vq_epochs, steps, epochs, previews, completions))
def test_every_event_survives_strict_json(event):
    text = json.dumps(event_to_dict(event), allow_nan=False)
    back = event_from_dict(json.loads(text))
    assert type(back) is type(event)
    assert repr(back) == repr(event)  # by text, where NaN equals NaN


@pytest.mark.parametrize(
    "data", [{}, {"event": "Nothing"}, {"event": "PreviewEvent"}, {"event": "StepMetrics", "x": 1}]
)
def test_what_is_no_event_is_refused(data):
    with pytest.raises((KeyError, TypeError)):
        event_from_dict(data)


@given(st.one_of(vq_histories, histories))
def test_a_history_survives_strict_json(history):
    back = type(history).from_dict(json.loads(json.dumps(history.to_dict(), allow_nan=False)))
    assert back == history
    assert repr(back.step_metrics) == repr(history.step_metrics)
    assert repr(back.epoch_metrics) == repr(history.epoch_metrics)


def test_histories_that_differ_in_one_figure_are_not_equal():
    assert vq_history(0.5) == vq_history(0.5)
    assert vq_history(0.5) != vq_history(0.6)
    assert vq_history(math.nan) != vq_history(math.inf)
    assert VQMetricsHistory() != MetricsHistory()


def test_a_history_keeps_what_is_added_in_order():
    history = MetricsHistory()
    first, second = StepMetrics(0, 0, 2, *[0.5] * 6), StepMetrics(0, 1, 2, *[0.4] * 6)
    history.add_step(first)
    history.add_step(second)
    history.add_epoch(v1_epoch())
    assert (history.step_metrics, history.epoch_metrics) == ([first, second], [v1_epoch()])


def test_two_histories_share_nothing():
    VQMetricsHistory().add_epoch(vq_epoch())
    assert VQMetricsHistory().epoch_metrics == []


def test_rvq_loss_curves_have_one_value_per_epoch_under_the_contracts_names():
    history = VQMetricsHistory()
    history.add_epoch(vq_epoch(train_loss=1.0, val_loss=2.0, val_recon_loss=3.0, val_commit_loss=4.0))
    history.add_epoch(vq_epoch(train_loss=5.0, val_loss=6.0, val_recon_loss=7.0, val_commit_loss=8.0))
    assert history.get_loss_curves() == {
        "train_losses": [1.0, 5.0],
        "val_losses": [2.0, 6.0],
        "recon_losses": [3.0, 7.0],
        "commit_losses": [4.0, 8.0],
    }


def test_vae_loss_curves_have_the_kl_in_place_of_the_commitment():
    history = MetricsHistory()
    history.add_epoch(v1_epoch(train_loss=1.0, val_loss=2.0, val_recon_loss=3.0, val_kl_loss=4.0))
    assert history.get_loss_curves() == {
        "train_losses": [1.0],
        "val_losses": [2.0],
        "recon_losses": [3.0],
        "kl_losses": [4.0],
    }


def test_the_best_epoch_is_the_first_with_the_lowest_finite_validation_loss():
    assert vq_history(math.nan, 0.5, 0.3, -math.inf, 0.3, 0.4).get_best_epoch() == 2
    assert vq_history(math.nan, math.inf).get_best_epoch() is None


def test_an_rvq_epoch_is_judged_by_its_reconstruction_and_a_vae_epoch_by_its_whole_loss():
    losses = [(0.5, 0.2), (0.3, 0.3), (0.4, 0.1), (0.2, math.nan)]
    for history, make, best in ((VQMetricsHistory(), vq_epoch, 2), (MetricsHistory(), v1_epoch, 1)):
        for number, (whole, reconstruction) in enumerate(losses[: 4 if best == 2 else 3]):
            history.add_epoch(make(number, val_loss=whole, val_recon_loss=reconstruction))
        assert history.get_best_epoch() == best


def test_the_training_loss_of_an_epoch_is_the_mean_of_its_steps_without_those_that_were_skipped():
    history = VQMetricsHistory()
    for epoch, loss in [(0, 9.0), (1, 1.0), (1, math.nan), (1, 3.0), (2, 9.0), (3, math.inf)]:
        history.add_step(VQStepMetrics(epoch, 0, 1, 100.0, loss, 0.0, 0.25, 1e-3, 0.1))
    assert history.judged_training(1) == 2.0
    assert math.isnan(history.judged_training(3))
    assert math.isnan(history.judged_training(4))


def test_the_remaining_time_is_that_of_an_epoch_after_the_first_times_the_epochs_left():
    history = VQMetricsHistory()
    history.add_epoch(vq_epoch(0, elapsed_seconds=10.0))
    history.add_epoch(vq_epoch(1, elapsed_seconds=16.0))
    assert history.compute_eta(0, 10) == 10.0 * 9
    assert history.compute_eta(1, 10) == 6.0 * 8
    assert history.compute_eta(1, 2) == 0.0


def test_overfitting_is_a_last_gap_above_the_threshold():
    history = VQMetricsHistory()
    history.add_epoch(vq_epoch(0, overfitting_gap=0.9))
    assert history.is_overfitting()
    history.add_epoch(vq_epoch(1, overfitting_gap=0.2))
    assert not history.is_overfitting()
    assert history.is_overfitting(threshold=0.1)


@pytest.mark.parametrize("kind", [VQMetricsHistory, MetricsHistory])
def test_an_empty_history_has_an_answer_to_everything(kind):
    empty = kind()
    assert set(map(len, empty.get_loss_curves().values())) == {0}
    assert empty.get_best_epoch() is None
    assert empty.compute_eta(0, 10) == 0.0
    assert not empty.is_overfitting()
    assert kind.from_dict(json.loads(json.dumps(empty.to_dict()))) == empty


@pytest.mark.parametrize("data", [{}, [], {"step_metrics": [{}], "epoch_metrics": []}, {"step_metrics": 5}])
def test_what_is_no_history_is_refused(data):
    with pytest.raises((KeyError, TypeError)):
        VQMetricsHistory.from_dict(data)
