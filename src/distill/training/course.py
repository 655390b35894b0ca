"""The course of a run: what the losses that it is judged by say from one epoch to the next."""

import math
from collections import deque
from typing import Any

from distill.notices import LossJumped, Notice, Overfitting
from distill.training.metrics import EpochEvent, History, finite_mean

WORSE = 1.03  # times the best validation loss: above it, the sounds set aside come out worse
LASTING = 5  # epochs that this has to last, and over which the noise of training losses is averaged
JUMP = 1.15  # times the validation loss of the epoch before


class Course:
    """Follows a run epoch by epoch, and tells of overfitting, once, and of every sudden jump.

    A validation loss above the training loss is no overfitting: where there are few sounds, those set aside are always
    harder. They have to come out worse than before, while those trained on come out better. What is told depends on
    the history alone, so a resumed run is told the same as one that was not interrupted.
    """

    def __init__(self, history: History[Any, Any], warmup_fraction: float) -> None:
        self._history, self._warmup_fraction = history, warmup_fraction
        self._training: deque[float] = deque(maxlen=LASTING)
        self._before = self._best = self._training_at_best = math.nan
        self._best_epoch = self._worse = 0
        self._told = False
        for event in history.epoch_metrics:
            self.follow(event)

    def follow(self, event: EpochEvent) -> list[Notice]:
        """What there is to tell after the next epoch; its steps are in the history."""
        validation = self._history.judged_validation(event)
        # During a warm-up the training loss has smaller weights than the validation loss.
        warm = event.epoch + 1 > self._warmup_fraction * event.total_epochs
        if not warm or not math.isfinite(validation):
            return []
        self._training.append(self._history.judged_training(event.epoch))
        jump = self._jump(event.epoch, validation)
        return jump or self._overfitting(event.epoch, validation)

    def _jump(self, epoch: int, validation: float) -> list[Notice]:
        before, self._before = self._before, validation
        if not 0 < JUMP * before < validation:
            return []
        self._worse = 0  # what follows a jump has to last on its own account
        return [LossJumped(epoch + 1, before, validation)]

    def _overfitting(self, epoch: int, validation: float) -> list[Notice]:
        if not validation >= self._best:
            self._best, self._best_epoch, self._training_at_best = validation, epoch, finite_mean(self._training)
        self._worse = self._worse + 1 if 0 < WORSE * self._best < validation else 0
        if self._told or self._worse < LASTING or not finite_mean(self._training) < self._training_at_best:
            return []
        self._told = True
        return [Overfitting(self._best_epoch + 1, validation / self._best - 1)]
