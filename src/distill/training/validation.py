"""The validation that ends an epoch, and all that follows from it, job by job."""

import logging
import warnings

from torch import Tensor

from distill.errors import CollectionError
from distill.notices import BudgetTooShort, Overfitting
from distill.training.budget import epochs_within
from distill.training.engine import validate
from distill.training.metrics import OVERFITTING_GAP, seconds_left
from distill.training.objective import EpochResult
from distill.training.rank_worker import ValidateCommand, broadcast_command
from distill.training.run import Run

logger = logging.getLogger(__name__)


def validate_epoch(run: Run) -> bool:
    """Validate the epoch that was trained, and do what follows; returns False where a cancellation cut it short."""
    broadcast_command(ValidateCommand())
    means, observed = validate(run.context, run.loaders[1], run.cancel_event)
    if run.cancelled:
        return False
    _check_anything_was_heard(means)
    _note_run_info(run, observed)
    rate, elapsed = run.train_step.rate, run.elapsed()
    _plan_epochs(run, elapsed)
    _step_schedulers(run)
    result = _epoch_result(run, means, rate, elapsed)
    _warn_of_overfitting(run, result)
    _keep_best(run, means["val_loss"])
    _log_code_usage(run, observed)
    run.emit(run.context.objective.epoch_event(run.context.model, result, observed))
    return True


def _check_anything_was_heard(means: dict[str, float]) -> None:
    if not means:
        raise CollectionError(
            "all the sounds that were set aside for validation are silent or damaged, as the warnings say",
            "take these files out of the folder, and start a new run",
        )


def _note_run_info(run: Run, observed: list[Tensor]) -> None:
    """Note in `run.json` what is now known of the validation set; it is the same after every epoch."""
    fields = run.context.objective.run_info(observed)
    if any(getattr(run.info, name) is None for name in fields):
        run.update_info(**fields)


def _plan_epochs(run: Run, elapsed: float) -> None:
    """Under a time budget, settle the number of epochs once enough of them were timed."""
    state, minutes = run.state, run.config.minutes
    if state.planned or minutes is None:
        return
    ends = [event.elapsed_seconds for event in state.history.epoch_metrics] + [elapsed]
    state.total_epochs, state.planned = epochs_within(minutes * 60, ends)
    if elapsed > minutes * 60 and len(ends) == 1:
        logger.warning(BudgetTooShort(minutes))
    if state.planned:
        # From here on the cosine reaches zero at the last epoch; until now it stood still.
        for scheduler in run.schedulers:
            scheduler.T_max = state.total_epochs
        run.update_info(total_epochs=state.total_epochs)


def _step_schedulers(run: Run) -> None:
    with warnings.catch_warnings():  # a run resumed at an epoch's end has taken no step yet: torch warns of that
        warnings.simplefilter("ignore", UserWarning)
        for scheduler in run.schedulers:
            scheduler.step()


def _epoch_result(run: Run, means: dict[str, float], rate: float, elapsed: float) -> EpochResult:
    state = run.state
    eta = seconds_left(elapsed, state.epoch, state.total_epochs)
    train_loss = state.totals.mean("train_loss")
    return EpochResult(state.epoch, state.total_epochs, train_loss, means, rate, eta, elapsed)


def _warn_of_overfitting(run: Run, result: EpochResult) -> None:
    warm = result.epoch + 1 > run.context.objective.warmup_fraction * result.total_epochs
    if result.overfitting_gap > OVERFITTING_GAP and warm:
        logger.warning(Overfitting(result.overfitting_gap))


def _keep_best(run: Run, val_loss: float) -> None:
    state = run.state
    if val_loss < state.best_val_loss:
        state.best_epoch, state.best_val_loss = state.epoch, val_loss
        state.best_weights = {k: v.detach().cpu().clone() for k, v in run.context.model.state_dict().items()}


def _log_code_usage(run: Run, observed: list[Tensor]) -> None:
    counts = run.context.objective.code_counts(run.context.model, observed)
    if counts is not None:
        run.folder.append_usage(run.state.epoch, counts.tolist())
