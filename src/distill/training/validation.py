"""The validation at the end of an epoch, and its consequences: plan, schedules, warnings, best weights, logs."""

import logging
import warnings

from torch import Tensor

from distill.errors import CollectionError
from distill.notices import BudgetTooShort
from distill.training.budget import epochs_within
from distill.training.engine import validate
from distill.training.metrics import EpochEvent
from distill.training.objective import EpochResult
from distill.training.rank_worker import ValidateCommand, broadcast_command
from distill.training.run import Run

logger = logging.getLogger(__name__)


def validate_epoch(run: Run) -> bool:
    """Validate the epoch just trained and update the run; returns False where a cancellation cut it short."""
    broadcast_command(ValidateCommand())
    began = run.elapsed()
    means, observed = validate(run.context, run.loaders[1], run.cancel_event)
    if run.cancelled:
        return False
    run.validation_s = run.elapsed() - began
    _check_not_all_silent(means)
    _record_run_info(run, observed)
    rate, elapsed = run.train_step.rate, run.elapsed()  # the rate of this epoch: the schedulers are about to move it
    _plan_epochs(run, elapsed)
    _step_schedulers(run)
    result = _epoch_result(run, means, rate, elapsed)
    event = run.context.objective.epoch_event(run.context.model, result, observed)
    for notice in run.course.follow(event):
        logger.warning(notice)
    _log_code_usage(run, observed)
    run.emit(event)
    _keep_best(run, event)
    return True


def _check_not_all_silent(means: dict[str, float]) -> None:
    # Possible in a long collection, of which only headers were read; no epoch could be chosen as the best.
    if not means:
        raise CollectionError(
            "all the sounds that were set aside for validation are silent or damaged, as the warnings say",
            "take these files out of the folder, and start a new run",
        )


def _record_run_info(run: Run, observed: list[Tensor]) -> None:
    """Record facts about the validation set in `run.json`, once: they are the same after every epoch."""
    fields = run.context.objective.run_info(observed)
    if any(getattr(run.info, name) is None for name in fields):
        run.update_info(**fields)


def _plan_epochs(run: Run, elapsed: float) -> None:
    """Settle the number of epochs of a time budget, once enough of them have been timed, and end with the budget."""
    state, minutes, budget = run.state, run.config.minutes, run.budget_s
    if minutes is None or budget is None:
        return
    if run.budget_spent():
        _end_now(run, minutes)
        return
    if state.planned:
        return
    state.total_epochs, state.planned = epochs_within(budget, [*state.history.epoch_ends, elapsed])
    if state.planned:
        # From here on the cosine falls, to zero at the last epoch; until now it stayed at its maximum.
        for scheduler in run.schedulers:
            scheduler.T_max = state.total_epochs
        run.update_info(total_epochs=state.total_epochs)


def _end_now(run: Run, minutes: float) -> None:
    """Make this epoch the last one: it has taken what was left of the budget."""
    state = run.state
    if state.epoch == 0:
        logger.warning(BudgetTooShort(minutes))
    state.total_epochs, state.planned = state.epoch + 1, True
    run.update_info(total_epochs=state.total_epochs)


def _step_schedulers(run: Run) -> None:
    # torch warns of a scheduler step without an optimizer step, which is right in a run resumed at the end of an epoch.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for scheduler in run.schedulers:
            scheduler.step()


def _epoch_result(run: Run, means: dict[str, float], rate: float, elapsed: float) -> EpochResult:
    state = run.state
    train_loss = state.totals.mean("train_loss")
    return EpochResult(state.epoch, state.total_epochs, train_loss, means, rate, run.seconds_left(), elapsed)


def _keep_best(run: Run, event: EpochEvent) -> None:
    state = run.state
    if state.history.get_best_epoch() == event.epoch:
        state.best_epoch, state.best_val_loss = event.epoch, event.val_loss
        # A copy, since training changes the weights in place.
        state.best_weights = {k: v.detach().cpu().clone() for k, v in run.context.model.state_dict().items()}


def _log_code_usage(run: Run, observed: list[Tensor]) -> None:
    counts = run.context.objective.code_counts(run.context.model, observed)
    if counts is not None:
        run.folder.append_usage(run.state.epoch, counts.tolist())
