"""What a run is told of the course of its losses: overfitting where there is one, jumps as jumps, and each once."""

import math
from collections.abc import Sequence

import pytest

from distill.notices import LossJumped, Notice, Overfitting
from distill.training.course import LASTING, Course
from distill.training.metrics import VQEpochMetrics, VQMetricsHistory, VQStepMetrics


def add(history: VQMetricsHistory, epoch: int, training: float, validation: float) -> VQEpochMetrics:
    """Add a step and return its epoch; the commitment is ten times the reconstruction and says the opposite."""
    history.add_step(VQStepMetrics(epoch, 0, 1, 9.0, training, 9.0, 0.25, 1e-3, 0.1))
    return VQEpochMetrics(epoch, 40, 9.0, 10 - validation, validation, 10 - 2 * validation, 0.9, 1e-3, 0.0, 0.0)


def told(training: Sequence[float], validation: Sequence[float], warmup: float = 0.0) -> list[tuple[int, Notice]]:
    """The epochs, from 0, and what is told after them."""
    history = VQMetricsHistory()
    course, found = Course(history, warmup), []
    for epoch, losses in enumerate(zip(training, validation)):
        event = add(history, epoch, *losses)
        found += [(epoch, notice) for notice in course.follow(event)]
        history.add_epoch(event)
        course = Course(history, warmup)  # as after a resume
    return found


FALLING = [1 / (epoch + 1) for epoch in range(20)]


def test_sounds_set_aside_that_come_out_worse_and_worse_are_overfitting_which_is_told_once() -> None:
    ((epoch, notice),) = told(FALLING, [1.0, 0.9, *(0.95 + at / 100 for at in range(18))])
    assert epoch == 1 + LASTING
    assert notice == Overfitting(2, pytest.approx((0.95 + 0.04) / 0.9 - 1))


def test_a_gap_between_the_two_sets_is_none() -> None:
    assert told(FALLING, [5.0] * 20) == []
    assert told(FALLING, [5 - epoch / 100 for epoch in range(20)]) == []


def test_a_little_worse_is_noise() -> None:
    assert told(FALLING, [1.0] + [1.02] * 19) == []


def test_worse_for_a_few_epochs_is_noise() -> None:
    few = [1.1] * (LASTING - 1)
    assert told(FALLING, [1.0, *few, 1.0, *few, 1.0, *few]) == []


def test_what_comes_out_worse_in_training_too_is_not_learnt_by_heart() -> None:
    assert told(FALLING[::-1], [1.0] + [1.1] * 19) == []


def test_a_jump_is_told_as_a_jump() -> None:
    high = [1.0] * 5 + [1.3, 1.2, 1.1] + [1.0] * 5
    assert told(FALLING, high) == [(5, LossJumped(6, 1.0, 1.3))]


def test_overfitting_after_a_jump_has_to_last_on_its_own() -> None:
    jump, by_heart = told(FALLING, [1.0] * 5 + [1.3] * 15)
    assert jump == (5, LossJumped(6, 1.0, 1.3))
    assert by_heart == (5 + LASTING, Overfitting(1, pytest.approx(0.3)))


def test_losses_that_are_no_numbers_say_nothing() -> None:
    assert told(FALLING, [math.nan, 1.0, math.inf, 1.0, math.nan, 1.0]) == []
    assert told([math.nan] * 20, [1.0] + [1.1] * 19) == []
    assert told(FALLING, [-2.0] + [-1.0] * 19) == []


def test_epochs_of_a_warm_up_are_not_compared() -> None:
    assert told(FALLING, [1.0] + [1.1] * 19, warmup=0.5) == []
    assert told(FALLING, [0.1] * 10 + [1.0] * 10, warmup=0.25) == []
