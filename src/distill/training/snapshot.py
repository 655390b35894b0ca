"""A run to a checkpoint and back, both directions side by side."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW

from distill.distributed import world_size
from distill.errors import CheckpointError
from distill.families import get_family
from distill.models.archive import same_form
from distill.training.budget import UNPLANNED
from distill.training.checkpoint import Checkpoint, drop_later, write_checkpoint
from distill.training.device import device_name
from distill.training.engine import Skips, Totals
from distill.training.run import Run, finite
from distill.training.state import State


def environment(device: torch.device) -> dict[str, str]:
    """The circumstances on which the last digits of a run depend, beside its settings and its sounds."""
    return {
        "device": device_name(device),
        "torch": torch.__version__,
        "threads": str(torch.get_num_threads()),
        "processes": str(world_size()),
    }


def save_checkpoint(run: Run) -> Path:
    """Write a checkpoint of the run as it is; raises `StorageError`."""
    began = run.elapsed()  # which also brings `State.elapsed_s` up to date
    run.folder.sync_events()  # no checkpoint may be ahead of the log on disk
    path = write_checkpoint(run.folder.checkpoints, snapshot(run), run.config.max_checkpoints)
    run.saved_at = run.clock()
    run.saving_s = run.saved_at - run.began - began
    return path


def snapshot(run: Run) -> Checkpoint:
    """The checkpoint of a run as it is."""
    state = run.state
    # Between epochs the last validation was of these very weights.
    whole = state.step == 0 and bool(state.history.epoch_metrics)
    return Checkpoint(
        family=run.info.family,
        identity=run.identity,
        environment=environment(run.context.device),
        epoch=state.epoch,
        step=state.step,
        val_loss=finite(state.history.judged_validation(state.history.epoch_metrics[-1])) if whole else None,
        total_epochs=state.total_epochs,
        planned=state.planned,
        elapsed_s=state.elapsed_s,
        totals=dataclasses.asdict(state.totals),
        skips=dataclasses.asdict(state.skips),
        rollbacks=state.rollbacks,
        model_state=run.context.model.state_dict(),
        optimizer_state=_one_or_all([optimizer.state_dict() for optimizer in run.optimizers]),
        scheduler_state=_one_or_all([scheduler.state_dict() for scheduler in run.schedulers]),
        best_epoch=state.best_epoch,
        best_val_loss=finite(state.best_val_loss),
        best_weights=state.best_weights,
        history=state.history,
        model_settings=run.info.model_settings,
        **run.context.objective.checkpoint_fields(state.history),
    )


def restore(run: Run, checkpoint: Checkpoint) -> None:
    """Put a run back to a checkpoint of its own, and delete what came after it.

    Raises `CheckpointError` when it does not fit, `StorageError`.
    """
    # Everything is checked first, so that a checkpoint that does not fit changes nothing.
    settings = {**get_family(run.info.family).file.before, **checkpoint.model_settings}
    if settings != run.info.model_settings or not _fits(checkpoint, run):
        raise CheckpointError("the checkpoint does not fit this run: parts of it are missing or of another shape")
    run.context.model.load_state_dict(checkpoint.model_state)
    for optimizer, optimizer_state in zip(run.optimizers, _as_list(checkpoint.optimizer_state)):
        optimizer.load_state_dict(optimizer_state)
    run.renew_train_step()
    for scheduler, scheduler_state in zip(run.schedulers, _as_list(checkpoint.scheduler_state)):
        scheduler.load_state_dict(scheduler_state)
    run.state = _state_of(checkpoint)
    run.renew_course()
    run.began = run.clock() - run.state.elapsed_s
    # In this order: if the process is killed in between, no run counts as finished whose log has lost its end, and no
    # later checkpoint is left without its events.
    run.update_info(model_path=None)
    drop_later(run.folder.checkpoints, checkpoint.epoch, checkpoint.step)
    run.folder.rewind(checkpoint.epoch, checkpoint.step)


def _state_of(checkpoint: Checkpoint) -> State:
    best = checkpoint.best_val_loss
    return State(
        history=checkpoint.history,
        total_epochs=checkpoint.total_epochs,
        planned=checkpoint.planned,
        epoch=checkpoint.epoch,
        step=checkpoint.step,
        totals=Totals(**checkpoint.totals),
        elapsed_s=checkpoint.elapsed_s,
        best_epoch=checkpoint.best_epoch,
        best_val_loss=math.inf if best is None else best,
        best_weights=checkpoint.best_weights,
        skips=Skips(**checkpoint.skips),
        rollbacks=checkpoint.rollbacks,
    )


def _one_or_all(states: list[dict[str, Any]]) -> Any:
    """A single state by itself, as in the first checkpoints, and several as a list."""
    return states[0] if len(states) == 1 else states


def _as_list(states: Any) -> list[dict[str, Any]]:
    return states if isinstance(states, list) else [states]


def _fits(checkpoint: Checkpoint, run: Run) -> bool:
    """True if every part of `checkpoint` is there, with the keys, shapes and types that this run has."""
    objective, model = run.context.objective, run.context.model
    optimizer_states, scheduler_states = _as_list(checkpoint.optimizer_state), _as_list(checkpoint.scheduler_state)
    try:
        own = objective.checkpoint_fields(checkpoint.history)
        return (
            _is_possible(checkpoint)
            and _fits_model(checkpoint, model.state_dict())
            and len(optimizer_states) == len(scheduler_states) == len(run.optimizers)
            and all(map(_fits_optimizer, optimizer_states, run.optimizers))
            # An optimizer lacks its moments only before the first step that was not skipped.
            and (any(state["state"] for state in optimizer_states) or _learnt_steps(checkpoint) == 0)
            and all(_alike(then, now.state_dict()) for then, now in zip(scheduler_states, run.schedulers))
            and _fits_totals(checkpoint.totals, {"train_loss", *objective.terms})
            and _alike(checkpoint.skips, dataclasses.asdict(Skips()))
            and all(getattr(checkpoint, name) == value for name, value in own.items())
        )
    except (AttributeError, KeyError, TypeError):  # some nested value is of another type
        return False


def _is_possible(checkpoint: Checkpoint) -> bool:
    """True if a run can get to this position: one epoch of history for each that is over, the best one among them."""
    epochs = [event.epoch for event in checkpoint.history.epoch_metrics]
    kept = checkpoint.best_epoch if checkpoint.best_weights is not None else -1
    return (
        epochs == list(range(checkpoint.epoch))
        and checkpoint.step >= 0
        and checkpoint.best_epoch == kept
        and kept in (-1, *epochs)
        and 0 <= checkpoint.epoch <= checkpoint.total_epochs <= UNPLANNED
        and checkpoint.rollbacks >= 0
        and 0 <= checkpoint.elapsed_s < math.inf
    )


def _alike(one: Any, other: Any) -> bool:
    """True if nested dictionaries and lists have the same keys and lengths, and values of the same types."""
    if isinstance(other, dict):
        return isinstance(one, dict) and one.keys() == other.keys() and all(_alike(one[k], other[k]) for k in other)
    if isinstance(other, list | tuple):
        return isinstance(one, list | tuple) and len(one) == len(other) and all(map(_alike, one, other))
    numbers = int | float
    return type(one) is type(other) or (isinstance(one, numbers) and isinstance(other, numbers))


def _fits_model(checkpoint: Checkpoint, expected: dict[str, Tensor]) -> bool:
    best = checkpoint.best_weights
    return same_form(checkpoint.model_state, expected) and (best is None or same_form(best, expected))


def _fits_totals(totals: dict[str, Any], summed: set[str]) -> bool:
    # Without examples `Totals` has no sums.
    sums = totals["sums"]
    return (
        totals.keys() == _names(Totals)
        and isinstance(totals["examples"], int)
        and sums.keys() == (summed if totals["examples"] else set())
        and all(isinstance(value, float) or (isinstance(value, Tensor) and value.ndim == 0) for value in sums.values())
    )


def _names(of: type[Totals]) -> set[str]:
    return {field.name for field in dataclasses.fields(of)}


def _learnt_steps(checkpoint: Checkpoint) -> int:
    return len(checkpoint.history.step_metrics) - checkpoint.skips["total"]


def _fits_optimizer(state: dict[str, Any], optimizer: AdamW) -> bool:
    """True if `state` has the groups of `optimizer`, and AdamW's moments for all its parameters, or for none yet."""
    own, groups, kept = optimizer.state_dict()["param_groups"], state.get("param_groups"), state.get("state")
    if state.keys() != {"param_groups", "state"} or not isinstance(groups, list) or not isinstance(kept, dict):
        return False
    if not _alike(groups, own):
        return False
    if [group["params"] for group in groups] != [group["params"] for group in own]:
        return False
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    # AdamW keeps a step count and two moments for each parameter.
    expected = [{"step": torch.zeros(()), "exp_avg": each, "exp_avg_sq": each} for each in parameters]
    return not kept or (
        kept.keys() == set(range(len(parameters))) and all(same_form(kept[n], form) for n, form in enumerate(expected))
    )
