"""Where a run is, and whether a checkpoint is one of this run, whole and in form, before anything is taken from it."""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR

from distill.distributed import world_size
from distill.models.archive import same_form
from distill.training.checkpoint import Checkpoint
from distill.training.device import device_name
from distill.training.engine import Skips, Totals
from distill.training.metrics import MetricsHistory, VQMetricsHistory
from distill.training.objective import Context


@dataclass
class State:
    """Where a run is; with the model and the optimizer, all that a checkpoint has to hold."""

    history: VQMetricsHistory | MetricsHistory
    total_epochs: int
    planned: bool  # False while the first epochs are measured for a time budget
    epoch: int = 0
    step: int = 0
    totals: Totals = field(default_factory=Totals)
    elapsed_s: float = 0.0
    best_epoch: int = -1
    best_val_loss: float = math.inf
    best_weights: dict[str, Tensor] | None = None
    skips: Skips = field(default_factory=Skips)
    rollbacks: int = 0

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Self:
        """Where the checkpoint was made."""
        best = checkpoint.best_val_loss
        return cls(
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


def environment(device: torch.device) -> dict[str, str]:
    """What the last digits of a run depend on, beside its settings and its sounds."""
    return {
        "device": device_name(device),
        "torch": torch.__version__,
        "threads": str(torch.get_num_threads()),
        "processes": str(world_size()),
    }


def fits(checkpoint: Checkpoint, context: Context, optimizer: AdamW, scheduler: CosineAnnealingLR) -> bool:
    """Whether every part of `checkpoint` is there, and of the form that this run has it in."""
    try:
        own = context.family.checkpoint_fields(checkpoint.history)
        return (
            _fits_model(checkpoint, context.model.state_dict())
            and _fits_optimizer(checkpoint.optimizer_state, optimizer)
            and (bool(checkpoint.optimizer_state["state"]) or _learnt_steps(checkpoint) == 0)
            and checkpoint.scheduler_state.keys() == scheduler.state_dict().keys()
            and _fits_totals(checkpoint.totals, {"train_loss", *context.family.terms})
            and checkpoint.skips.keys() == _names(Skips)
            and all(getattr(checkpoint, name) == value for name, value in own.items())
        )
    except (AttributeError, KeyError, TypeError):  # of another type somewhere inside
        return False


def _fits_model(checkpoint: Checkpoint, expected: dict[str, Tensor]) -> bool:
    best = checkpoint.best_weights
    return same_form(checkpoint.model_state, expected) and (best is None or same_form(best, expected))


def _fits_totals(totals: dict[str, Any], all_reduce: set[str]) -> bool:
    return totals.keys() == _names(Totals) and totals["sums"].keys() == (all_reduce if totals["examples"] else set())


def _names(of: type[Totals] | type[Skips]) -> set[str]:
    return {field.name for field in dataclasses.fields(of)}


def _learnt_steps(checkpoint: Checkpoint) -> int:
    return len(checkpoint.history.step_metrics) - checkpoint.skips["total"]


def _fits_optimizer(state: dict[str, Any], optimizer: AdamW) -> bool:
    """Whether `state` has the groups of `optimizer`, and what AdamW keeps for all its parameters, or for none yet."""
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
