"""The state shared by the parts of a run in progress: trainer, validation, recovery, conclusion."""

import dataclasses
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR

from distill.data.batches import Loader
from distill.training.budget import is_spent
from distill.training.config import EngineConfig
from distill.training.course import Course
from distill.training.metrics import EpochEvent, Event, MetricsCallback, StepEvent, seconds_left
from distill.training.objective import Context
from distill.training.run_folder import RunFolder
from distill.training.run_info import RunInfo
from distill.training.state import State
from distill.training.step import TrainStep


@dataclass
class Run:
    """A run in progress, with its output: files in the run folder, events for the caller."""

    context: Context
    loaders: tuple[Loader, Loader]  # of training and of validation
    config: EngineConfig
    state: State
    folder: RunFolder
    info: RunInfo
    optimizers: tuple[AdamW, ...]
    schedulers: tuple[CosineAnnealingLR, ...]  # one for each optimizer
    identity: dict[str, Any]  # a checkpoint of this run has the same
    callback: MetricsCallback | None
    cancel_event: threading.Event | None
    clock: Callable[[], float]  # seconds
    model_path: Path | None = None  # of the model file, once it is saved
    train_step: TrainStep = field(init=False)
    course: Course = field(init=False)
    began: float = field(init=False)  # clock reading at which it would have begun without interruptions
    saved_at: float = field(init=False)  # clock reading at its last checkpoint, or at its start …
    saving_s: float = 0.0  # … and how long that took
    validation_s: float = 0.0  # the last one took

    def __post_init__(self) -> None:
        self.renew_train_step()
        self.renew_course()
        self.saved_at = self.clock()
        self.began = self.saved_at - self.state.elapsed_s

    def renew_train_step(self) -> None:
        """Replace the training step after a state was loaded: recorded CUDA graphs use the optimizers' old tensors."""
        self.train_step = TrainStep(
            self.context, self.optimizers, self.config.gradient_clip_norm, recorded=self.context.objective.recordable
        )

    def renew_course(self) -> None:
        """Follow the history of the state from its beginning, after a state was loaded."""
        self.course = Course(self.state.history, self.context.objective.warmup_fraction)

    @property
    def cancelled(self) -> bool:
        """True if the caller asked the run to stop."""
        return self.cancel_event is not None and self.cancel_event.is_set()

    def elapsed(self) -> float:
        """Seconds the run has taken so far, including its parts before resuming; also stores them in the state."""
        self.state.elapsed_s = self.clock() - self.began
        return self.state.elapsed_s

    @property
    def budget_s(self) -> float | None:
        """The seconds that this part of the run may take, if there is a budget."""
        minutes = self.config.minutes
        return None if minutes is None else minutes * 60 * self.context.objective.budget_share

    def budget_spent(self) -> bool:
        """True if the run has to end, although more epochs or steps were planned."""
        return self.budget_s is not None and is_spent(self.budget_s, self.elapsed() + self.validation_s)

    def seconds_left(self) -> float:
        """The seconds that training will still take: those of the whole budget, or else at the pace of the epochs."""
        if self.config.minutes is not None:
            return max(0.0, self.config.minutes * 60 - self.state.elapsed_s)
        ends = [*self.state.history.epoch_ends, self.state.elapsed_s]
        return seconds_left(ends, self.state.total_epochs)

    def emit(self, event: Event) -> None:
        """Add an event to the history and to the log on disk, then pass it to the caller."""
        if isinstance(event, StepEvent):
            self.state.history.add_step(event)
        elif isinstance(event, EpochEvent):
            self.state.history.add_epoch(event)
        self.folder.append(event)
        if self.callback:
            self.callback(event)

    def update_info(self, **fields: Any) -> None:
        """Set fields of `run.json`; raises `StorageError`."""
        self.info = dataclasses.replace(self.info, **fields)
        self.folder.write_info(self.info)

    def best_model(self) -> nn.Module:
        """The model with the weights of the best validation epoch (the latest where there is none), in eval mode."""
        if self.state.best_weights is not None:
            self.context.model.load_state_dict(self.state.best_weights)
        return self.context.model.eval()


def finite(value: float) -> float | None:
    """`value`, or None if it is not finite: files hold finite numbers only."""
    return value if math.isfinite(value) else None
