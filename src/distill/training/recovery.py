"""Recovery of a diverged run: back to an earlier checkpoint, with a lower learning rate, a few times at most."""

import logging
from dataclasses import dataclass, field

from distill.errors import CheckpointError, LowerLearningRate, TrainingError
from distill.notices import RolledBack
from distill.training.checkpoint import Checkpoint, find_checkpoint
from distill.training.engine import MAX_SKIPS_IN_ROW
from distill.training.run import Run
from distill.training.snapshot import restore

logger = logging.getLogger(__name__)

MAX_ROLLBACKS = 3

Place = tuple[int, int]  # epoch and step


@dataclass
class Recovery:
    """Rolls a run back, and remembers the checkpoints from which every step failed."""

    run: Run
    _restored: Place | None = None
    _steps_at_restore: int = 0  # in the history, when it was restored
    _failed_positions: set[Place] = field(default_factory=set)

    def roll_back(self) -> None:
        """Restore the newest checkpoint that is healthy and not known to fail, and halve the learning rate.

        Raises `TrainingError` after `MAX_ROLLBACKS`, or when there is no such checkpoint.
        """
        run, failed = self.run, self.run.state
        # Nothing but skipped steps since the last rollback: a checkpoint that leads nowhere is not tried twice.
        if self._restored and len(failed.history.step_metrics) - self._steps_at_restore == MAX_SKIPS_IN_ROW:
            self._failed_positions.add(self._restored)
        if failed.rollbacks == MAX_ROLLBACKS:
            raise _diverged()
        try:
            checkpoint = find_checkpoint(run.folder.path, run.info.family, self._is_candidate)
        except CheckpointError as error:
            raise _diverged() from error
        began = run.began
        restore(run, checkpoint)
        run.began = began  # not the checkpoint's clock: the time of the failed steps is spent
        run.state.rollbacks = failed.rollbacks + 1
        _halve_rates(run, run.state.rollbacks - checkpoint.rollbacks)  # an older one still has a higher rate
        self._restored = checkpoint.epoch, checkpoint.step
        self._steps_at_restore = len(run.state.history.step_metrics)
        logger.warning(RolledBack(MAX_SKIPS_IN_ROW, checkpoint.epoch + 1, run.state.rollbacks, MAX_ROLLBACKS))

    def _is_candidate(self, checkpoint: Checkpoint) -> bool:
        # Only those between epochs: when the others are made depends on the clock, and a run must not.
        usable = checkpoint.step == 0 and checkpoint.skips["in_row"] == 0
        return usable and (checkpoint.epoch, checkpoint.step) not in self._failed_positions


def _halve_rates(run: Run, times: int) -> None:
    # Of the schedulers as well, which compute the rates of later epochs from their own base.
    for optimizer in run.optimizers:
        for group in optimizer.param_groups:
            group["lr"] *= 0.5**times
            group["initial_lr"] *= 0.5**times
    for scheduler in run.schedulers:
        scheduler.base_lrs = [rate * 0.5**times for rate in scheduler.base_lrs]


def _diverged() -> TrainingError:
    return TrainingError(
        "training diverges: losses or gradients are not finite numbers, step after step, from every checkpoint and "
        "with smaller learning rates as well",
        LowerLearningRate(),
    )
