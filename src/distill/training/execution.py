"""A training request carried out, from the first sound to the model file, whichever family it is for."""

import math
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from distill import distributed
from distill.errors import Cancelled
from distill.training.checkpoint import best_checkpoint
from distill.training.device import deterministic
from distill.training.metrics import History, MetricsCallback, TrainingCompleteEvent
from distill.training.rank_worker import run_worker, workers_shut_down
from distill.training.request import TrainingRequest
from distill.training.run import Run
from distill.training.run_folder import RunFolder
from distill.training.setup import build_components, run_device, seeded, set_up
from distill.training.step import TrainStep
from distill.training.trainer import Trainer


def run_training(
    request: TrainingRequest,
    callback: MetricsCallback | None = None,
    cancel_event: threading.Event | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Any]:
    """Train as `request` says.

    Returns `{model, metrics_history, output_dir, best_checkpoint_path}` and what the family adds. The model has the
    weights of the best validation epoch; where the request names a library, it is saved there as well. A cancellation
    leaves a checkpoint to go on from, or nothing where none was needed yet.
    Raises `CollectionError`, `ConfigError`, `CheckpointError`, `StorageError`, `TrainingError`.
    """
    objective = request.family.objective_type(request.config)
    folder, nothing = RunFolder(request.output_dir), dict.fromkeys(objective.result_keys)
    with distributed.process_group(run_device(request).type), deterministic():
        if distributed.rank() > 0:
            context, loaders, optimizers = build_components(objective, request, None)
            run_worker(TrainStep(context, optimizers, request.config.gradient_clip_norm), loaders, request.config.seed)
            return _result(context.model, request.family.history(), folder) | nothing
        with folder.in_use(), folder.keeps_warnings(), workers_shut_down():
            try:
                run = set_up(request, objective, callback, cancel_event, clock)
            except Cancelled:  # while the sounds were read: there is no run to go on with, and none is needed
                if callback:
                    callback(TrainingCompleteEvent(0, 0.0, math.nan, math.nan, math.inf, -1))
                model = seeded(request.config.seed, partial(objective.build_model, request)).eval()
                return _result(model, request.family.history(), folder) | nothing
            try:
                own = objective.conclude(run, Trainer(run).fit())
            except Cancelled:  # while a resumed run that had done its steps waited for its sounds
                own = nothing
            _complete(run)
            return _result(run.context.model, run.state.history, folder) | own


def _complete(run: Run) -> None:
    """Tell that the run is over."""
    state = run.state
    run.update_info(skipped_steps=state.skips.total)
    last = state.history.epoch_metrics[-1] if state.history.epoch_metrics else None
    run.emit(
        TrainingCompleteEvent(
            total_epochs=state.epoch,
            total_time_s=run.elapsed(),
            final_train_loss=last.train_loss if last else math.nan,
            final_val_loss=last.val_loss if last else math.nan,
            best_val_loss=state.best_val_loss,
            best_epoch=state.best_epoch,
        )
    )


def _result(model: nn.Module, history: History[Any, Any], folder: RunFolder) -> dict[str, Any]:
    return {
        "model": model,
        "metrics_history": history,
        "output_dir": folder.path,
        "best_checkpoint_path": best_checkpoint(folder.checkpoints),
    }
