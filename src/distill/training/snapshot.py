"""A run to a checkpoint and back: what is taken, and, side by side with it, how it is put back."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW

from distill.distributed import world_size
from distill.errors import CheckpointError
from distill.models.archive import same_form
from distill.training.checkpoint import Checkpoint, drop_later, write_checkpoint
from distill.training.device import device_name
from distill.training.engine import Skips, Totals
from distill.training.run import Run, finite
from distill.training.state import State


def environment(device: torch.device) -> dict[str, str]:
    """All that the last digits of a run depend on, beside its settings and its sounds."""
    return {
        "device": device_name(device),
        "torch": torch.__version__,
        "threads": str(torch.get_num_threads()),
        "processes": str(world_size()),
    }


def save_checkpoint(run: Run) -> Path:
    """Write a checkpoint of the run as it is; raises `StorageError`."""
    run.elapsed()
    run.folder.sync_events()  # so that no checkpoint is ahead of the events before it
    return write_checkpoint(run.folder.checkpoints, snapshot(run), run.config.max_checkpoints)


def snapshot(run: Run) -> Checkpoint:
    """The checkpoint of a run as it is."""
    state = run.state
    whole = state.step == 0 and bool(state.history.epoch_metrics)
    return Checkpoint(
        family=run.info.family,
        identity=run.identity,
        environment=environment(run.context.device),
        epoch=state.epoch,
        step=state.step,
        val_loss=finite(state.history.epoch_metrics[-1].val_loss) if whole else None,
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
    """Put a run back to a checkpoint of its own, and forget what came after it.

    Raises `CheckpointError` when it does not fit, `StorageError`.
    """
    if checkpoint.model_settings != run.info.model_settings or not _fits(checkpoint, run):
        raise CheckpointError("the checkpoint does not fit this run: parts of it are missing or of another form")
    run.context.model.load_state_dict(checkpoint.model_state)
    for optimizer, optimizer_state in zip(run.optimizers, _all(checkpoint.optimizer_state)):
        optimizer.load_state_dict(optimizer_state)
    run.renew_train_step()
    for scheduler, scheduler_state in zip(run.schedulers, _all(checkpoint.scheduler_state)):
        scheduler.load_state_dict(scheduler_state)
    run.state = _state_of(checkpoint)
    run.began = run.clock() - run.state.elapsed_s
    # In this order: a checkpoint that stayed would be ahead of the log, and its events gone for good.
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
    """The state of one optimizer as it is, for so it stood in the first checkpoints; of several a list."""
    return states[0] if len(states) == 1 else states


def _all(states: Any) -> list[dict[str, Any]]:
    return states if isinstance(states, list) else [states]


def _fits(checkpoint: Checkpoint, run: Run) -> bool:
    """True if every part of `checkpoint` is there, and of the form that this run has it in."""
    objective, model = run.context.objective, run.context.model
    optimizer_states, scheduler_states = _all(checkpoint.optimizer_state), _all(checkpoint.scheduler_state)
    try:
        own = objective.checkpoint_fields(checkpoint.history)
        return (
            _fits_model(checkpoint, model.state_dict())
            and len(optimizer_states) == len(scheduler_states) == len(run.optimizers)
            and all(map(_fits_optimizer, optimizer_states, run.optimizers))
            and (any(state["state"] for state in optimizer_states) or _learnt_steps(checkpoint) == 0)
            and all(then.keys() == now.state_dict().keys() for then, now in zip(scheduler_states, run.schedulers))
            and _fits_totals(checkpoint.totals, {"train_loss", *objective.terms})
            and checkpoint.skips.keys() == _names(Skips)
            and all(getattr(checkpoint, name) == value for name, value in own.items())
        )
    except (AttributeError, KeyError, TypeError):  # of another type somewhere inside
        return False


def _fits_model(checkpoint: Checkpoint, expected: dict[str, Tensor]) -> bool:
    best = checkpoint.best_weights
    return same_form(checkpoint.model_state, expected) and (best is None or same_form(best, expected))


def _fits_totals(totals: dict[str, Any], summed: set[str]) -> bool:
    return totals.keys() == _names(Totals) and totals["sums"].keys() == (summed if totals["examples"] else set())


def _names(of: type[Totals] | type[Skips]) -> set[str]:
    return {field.name for field in dataclasses.fields(of)}


def _learnt_steps(checkpoint: Checkpoint) -> int:
    return len(checkpoint.history.step_metrics) - checkpoint.skips["total"]


def _fits_optimizer(state: dict[str, Any], optimizer: AdamW) -> bool:
    """True if `state` has the groups of `optimizer`, and what AdamW keeps for all its parameters, or for none yet."""
    own, groups, kept = optimizer.state_dict()["param_groups"], state.get("param_groups"), state.get("state")
    if state.keys() != {"param_groups", "state"} or not isinstance(groups, list) or not isinstance(kept, dict):
        return False
    if [group.keys() for group in groups] != [group.keys() for group in own]:
        return False
    if [group["params"] for group in groups] != [group["params"] for group in own]:
        return False
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    expected = [{"step": torch.zeros(()), "exp_avg": each, "exp_avg_sq": each} for each in parameters]
    return not kept or (
        kept.keys() == set(range(len(parameters))) and all(same_form(kept[n], form) for n, form in enumerate(expected))
    )
