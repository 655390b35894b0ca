"""A run while it goes on: all that its parts (epochs, validation, recovery, conclusion) act on."""

import dataclasses
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR

from distill.data.batches import Loader
from distill.training.config import EngineConfig
from distill.training.metrics import EpochEvent, Event, MetricsCallback, StepEvent
from distill.training.objective import Context
from distill.training.run_folder import RunFolder
from distill.training.run_info import RunInfo
from distill.training.state import State
from distill.training.step import TrainStep


@dataclass
class Run:
    """One run of the engine, and what it writes to its folder and tells its caller."""

    context: Context
    loaders: tuple[Loader, Loader]  # of training and of validation
    config: EngineConfig
    state: State
    folder: RunFolder
    info: RunInfo
    optimizers: tuple[AdamW, ...]
    schedulers: tuple[CosineAnnealingLR, ...]  # one for each optimizer
    identity: dict[str, Any]  # what a checkpoint of this run must agree with
    callback: MetricsCallback | None
    cancel_event: threading.Event | None
    clock: Callable[[], float]  # seconds
    train_step: TrainStep = field(init=False)
    began: float = field(init=False)  # on the clock, had the run never stopped

    def __post_init__(self) -> None:
        self.renew_train_step()
        self.began = self.clock() - self.state.elapsed_s

    def renew_train_step(self) -> None:
        """Make the training step anew, for the optimizers have other tensors now."""
        self.train_step = TrainStep(self.context, self.optimizers, self.config.gradient_clip_norm, recorded=True)

    @property
    def cancelled(self) -> bool:
        """True if the caller asked the run to stop."""
        return self.cancel_event is not None and self.cancel_event.is_set()

    def elapsed(self) -> float:
        """Seconds that the run has taken so far, the parts before it was resumed included; also noted in the state."""
        self.state.elapsed_s = self.clock() - self.began
        return self.state.elapsed_s

    def emit(self, event: Event) -> None:
        """Give an event to the history, to the log on disk, then to the caller."""
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
    """`value`, or None where a file may not hold it."""
    return value if math.isfinite(value) else None
