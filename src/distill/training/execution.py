"""Execution of a training request, from the first sound to the model file, for any family."""

import math
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

from torch import nn

from distill import distributed
from distill.errors import Cancelled
from distill.training.checkpoint import best_checkpoint
from distill.training.device import deterministic
from distill.training.metrics import Event, History, MetricsCallback, TrainingCompleteEvent
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
    """Carry out a training request.

    Returns `{model, metrics_history, output_dir, best_checkpoint_path}` and what the family adds. The model has the
    weights of the best validation epoch; where the request names a library, it is saved there as well. A cancellation
    leaves a checkpoint to resume from, or nothing where the run had not begun yet.
    Raises `CollectionError`, `ConfigError`, `CheckpointError`, `StorageError`, `TrainingError`.
    """
    with ExitStack() as group:
        group.enter_context(distributed.process_group(run_device(request).type))
        return _run(request, callback, cancel_event, clock, group.close)


def _run(
    request: TrainingRequest,
    callback: MetricsCallback | None,
    cancel_event: threading.Event | None,
    clock: Callable[[], float],
    leave: Callable[[], None],
) -> dict[str, Any]:
    """`run_training` within a process group, which it leaves by `leave` once the model itself is trained."""
    objective = request.family.objective_type(request.config)
    # `nothing`: a run without a result of its family still returns all the keys.
    folder, nothing = RunFolder(request.output_dir), dict.fromkeys(objective.result_keys)
    with deterministic():
        if distributed.rank() > 0:
            # Without a cancel event: only rank 0 is cancelled, and the others stop with it.
            context, loaders, optimizers = build_components(objective, request, None)
            # Not `recorded`, as a run on several ranks never is.
            run_worker(TrainStep(context, optimizers, request.config.gradient_clip_norm), loaders, request.config.seed)
            return _result(context.model, request.family.history(), folder) | nothing
        with folder.in_use(), folder.keeps_warnings():
            try:
                with workers_shut_down():
                    run = set_up(request, objective, callback, cancel_event, clock)
                    own, complete = _fit(run)
            except Cancelled:  # while the sounds were read: there is no run to resume yet
                if callback:
                    callback(TrainingCompleteEvent(0, 0.0, math.nan, math.nan, math.inf, -1))
                model = seeded(request.config.seed, partial(objective.build_model, request)).eval()
                return _result(model, request.family.history(), folder) | nothing
            leave()  # the other ranks have ended; a part is small, and trained by this process alone
            complete = complete and _train_part(objective.part_request(request, run), run, leave)
            _complete(run, str(run.model_path) if complete else None)
            return _result(run.context.model, run.state.history, folder) | own


def _fit(run: Run) -> tuple[dict[str, Any], bool]:
    """Train a run to its end, or to a cancellation; returns what its family adds, and whether a model is saved."""
    objective = run.context.objective
    try:
        own = objective.conclude(run, Trainer(run).fit())
    except Cancelled:  # while a resumed run without any steps left waited for its sounds
        return dict.fromkeys(objective.result_keys), False
    return own, run.model_path is not None


def _train_part(request: TrainingRequest | None, run: Run, leave: Callable[[], None]) -> bool:
    """Train a part of the model that the run has saved, if there is one; returns False if it was cancelled.

    Its events are the run's, but for its end.
    """

    def passed_on(event: Event) -> None:
        if run.callback and not isinstance(event, TrainingCompleteEvent):
            run.callback(event)

    if request is None:
        return True
    folder = RunFolder(_run(request, passed_on, run.cancel_event, run.clock, leave)["output_dir"])
    return folder.info_path.exists() and folder.read_info().model_path is not None


def _complete(run: Run, model_path: str | None) -> None:
    """Emit and record the end of the run; a run whose record has a `model_path` is finished."""
    state = run.state
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
    run.folder.sync_events()
    # Last, and in one: a run that is killed before it is not finished, so that resuming it does all of its end again.
    run.update_info(skipped_steps=state.skips.total, model_path=model_path)


def _result(model: nn.Module, history: History[Any, Any], folder: RunFolder) -> dict[str, Any]:
    return {
        "model": model,
        "metrics_history": history,
        "output_dir": folder.path,
        "best_checkpoint_path": best_checkpoint(folder.checkpoints),
    }
