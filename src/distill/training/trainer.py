"""A whole run: epochs, cancellation, the time budget, previews, checkpoints, and the best weights."""

import dataclasses
import logging
import math
import threading
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR

from distill import __version__
from distill.errors import TrainingError
from distill.library.header import ModelMetadata
from distill.training.budget import UNPLANNED, epochs_within
from distill.training.checkpoint import Checkpoint, write_checkpoint
from distill.training.config import EngineConfig
from distill.training.dataset import Loader
from distill.training.engine import Epoch, Totals, Workbench, train_steps, validate
from distill.training.metrics import (
    OVERFITTING_GAP,
    MetricsCallback,
    MetricsHistory,
    PreviewEvent,
    TrainingCompleteEvent,
    VQMetricsHistory,
    seconds_left,
)
from distill.training.run_folder import RunFolder

logger = logging.getLogger(__name__)


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


@dataclass
class Trainer:
    """One run of the engine: `fit` takes it from its `state` to the end, or to the next cancellation."""

    bench: Workbench
    loaders: tuple[Loader, Loader]
    config: EngineConfig
    state: State
    folder: RunFolder
    facts: dict[str, Any]  # what run.json holds
    emit: MetricsCallback
    cancel_event: threading.Event | None
    identity: dict[str, Any]  # what a checkpoint of this run must agree with
    optimizer: AdamW
    scheduler: CosineAnnealingLR
    _clock: float = field(init=False, default=0.0)  # when the run would have begun, had it never stopped

    def fit(self) -> bool:
        """Train; returns whether the run reached its end rather than a cancellation. Raises `TrainingError`."""
        self._clock = time.perf_counter() - self.state.elapsed_s
        state = self.state
        with torch.random.fork_rng(devices=[]):
            while state.epoch < state.total_epochs:
                if not self._train_epoch():
                    self._checkpoint()
                    return False
                self._validate_epoch()
                state.epoch, state.step, state.totals = state.epoch + 1, 0, Totals()
                self._preview()
                if state.epoch % self.config.checkpoint_interval == 0 or state.epoch == state.total_epochs:
                    self._checkpoint()
        if state.best_weights is None:
            raise TrainingError(
                "no epoch had a finite validation loss, so there is no model to keep; "
                "try a lower --learning-rate, and look for damaged files with `distill inspect`"
            )
        return True

    def note(self, **facts: Any) -> None:
        """Add facts to the run's `run.json`; raises `StorageError`."""
        self.facts |= facts
        self.folder.write_facts(self.facts)

    def best_model(self) -> nn.Module:
        """The model with the weights of the best validation epoch (the latest where there is none), in eval mode."""
        if self.state.best_weights is not None:
            self.bench.model.load_state_dict(self.state.best_weights)
        return self.bench.model.eval()

    def metadata(self) -> ModelMetadata:
        """What the model file says of this run."""
        best = self.state.history.epoch_metrics[self.state.best_epoch]
        return ModelMetadata(
            name=self.facts["model_name"],
            dataset_name=self.facts["dataset_name"],
            file_count=len(self.facts["files"]),
            duration_s=self.facts["duration_s"],
            epochs=self.state.epoch,
            best_epoch=self.state.best_epoch,
            train_loss=best.train_loss,
            val_loss=best.val_loss,
            validation_vectors=self.facts.get("validation_vectors", 0),
            seed=self.config.seed,
            distill_version=__version__,
        )

    def training_config(self) -> dict[str, Any]:
        """The run's settings as they were used, for the record in the model file."""
        return dataclasses.asdict(self.config) | {
            "max_epochs": self.state.total_epochs,
            "device": str(self.bench.device),
        }

    def complete(self) -> None:
        """Tell that the run is over."""
        state = self.state
        last = state.history.epoch_metrics[-1] if state.history.epoch_metrics else None
        self.emit(
            TrainingCompleteEvent(
                total_epochs=state.epoch,
                total_time_s=self._elapsed(),
                final_train_loss=last.train_loss if last else math.nan,
                final_val_loss=last.val_loss if last else math.nan,
                best_val_loss=state.best_val_loss,
                best_epoch=state.best_epoch,
            )
        )

    def _elapsed(self) -> float:
        self.state.elapsed_s = time.perf_counter() - self._clock
        return self.state.elapsed_s

    def _cancelled(self) -> bool:
        return self.cancel_event is not None and self.cancel_event.is_set()

    def _train_epoch(self) -> bool:
        state = self.state
        state.step = train_steps(
            self.bench,
            self.loaders[0],
            self.optimizer,
            self.config.gradient_clip_norm,
            state.epoch,
            state.totals,
            total_epochs=state.total_epochs if state.planned else UNPLANNED,
            first_step=state.step,
            seed=self.config.seed,
            callback=self.emit,
            cancel_event=self.cancel_event,
        )
        return not self._cancelled()

    def _validate_epoch(self) -> None:
        state = self.state
        validation, observed = validate(self.bench, self.loaders[1])
        rate = self.optimizer.param_groups[0]["lr"]
        elapsed = self._elapsed()
        self._plan(elapsed)
        with warnings.catch_warnings():  # a run resumed at an epoch's end has taken no step yet: torch warns of that
            warnings.simplefilter("ignore", UserWarning)
            self.scheduler.step()
        eta = seconds_left(elapsed, state.epoch, state.total_epochs)
        train_loss = state.totals.mean("train_loss")
        facts = Epoch(state.epoch, state.total_epochs, train_loss, validation, rate, eta, elapsed)
        warm = state.epoch + 1 > self.bench.family.warmup_fraction * state.total_epochs
        if facts.overfitting_gap > OVERFITTING_GAP and warm:
            logger.warning(
                "validation loss is %.0f%% above training loss; the model is learning the training files by heart",
                100 * facts.overfitting_gap,
            )
        if validation["val_loss"] < state.best_val_loss:
            state.best_epoch, state.best_val_loss = state.epoch, validation["val_loss"]
            state.best_weights = {k: v.detach().cpu().clone() for k, v in self.bench.model.state_dict().items()}
        self.emit(self.bench.family.epoch_event(self.bench.model, facts, observed))

    def _plan(self, elapsed: float) -> None:
        """Under a time budget, settle the number of epochs once enough of them were timed."""
        if self.state.planned or self.config.minutes is None:
            return
        ends = [event.elapsed_seconds for event in self.state.history.epoch_metrics] + [elapsed]
        self.state.total_epochs, self.state.planned = epochs_within(self.config.minutes * 60, ends)
        if elapsed > self.config.minutes * 60 and len(ends) == 1:
            logger.warning("going through the sounds once takes longer than the %g minutes given", self.config.minutes)
        if self.state.planned:
            # From here on the cosine reaches zero at the last epoch; until now it stood still.
            self.scheduler.T_max = self.state.total_epochs
            self.note(total_epochs=self.state.total_epochs)

    def _preview(self) -> None:
        done = self.state.epoch
        if done % self.config.preview_interval and done != self.state.total_epochs:
            return
        waveforms = next(iter(self.loaders[1])).to(self.bench.device)
        paths = self.bench.family.preview(
            self.bench.model, self.bench.spectrogram, waveforms, self.folder.previews, done - 1
        )
        for path in paths:
            self.emit(PreviewEvent(done - 1, str(path), self.bench.spectrogram.config.sample_rate))

    def _checkpoint(self) -> Path:
        state = self.state
        self._elapsed()
        whole = state.step == 0 and bool(state.history.epoch_metrics)
        return write_checkpoint(
            self.folder.checkpoints,
            Checkpoint(
                family=self.bench.family.name,
                identity=self.identity,
                epoch=state.epoch,
                step=state.step,
                val_loss=state.history.epoch_metrics[-1].val_loss if whole else None,
                total_epochs=state.total_epochs,
                planned=state.planned,
                elapsed_s=state.elapsed_s,
                totals={"examples": state.totals.examples, "sums": state.totals.sums},
                model_state=self.bench.model.state_dict(),
                optimizer_state=self.optimizer.state_dict(),
                scheduler_state=self.scheduler.state_dict(),
                best_epoch=state.best_epoch,
                best_val_loss=state.best_val_loss,
                best_weights=state.best_weights,
                history=state.history,
                model_settings=self.facts["model_settings"],
                **self.bench.family.checkpoint_fields(state.history),
            ),
            self.config.max_checkpoints,
        )
