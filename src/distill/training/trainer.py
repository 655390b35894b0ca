"""A whole run: epochs, cancellation, the time budget, previews, checkpoints, and the best weights."""

import dataclasses
import logging
import math
import threading
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR

from distill import __version__
from distill.data.chunks import ChunkDataset
from distill.errors import CheckpointError, CollectionError, TrainingError
from distill.library.header import ModelMetadata
from distill.training.budget import UNPLANNED, epochs_within
from distill.training.checkpoint import Checkpoint, drop_later, find_checkpoint, write_checkpoint
from distill.training.config import EngineConfig
from distill.training.dataset import Loader
from distill.training.engine import MAX_SKIPS_IN_ROW, Diverged, Totals, train_steps, validate
from distill.training.metrics import (
    OVERFITTING_GAP,
    EpochMetrics,
    Event,
    MetricsCallback,
    PreviewEvent,
    StepMetrics,
    TrainingCompleteEvent,
    VQEpochMetrics,
    VQStepMetrics,
    seconds_left,
)
from distill.training.objective import Context, Epoch
from distill.training.preview import PAIRS
from distill.training.rank_worker import TrainCommand, ValidateCommand, tell
from distill.training.run_folder import RunFolder
from distill.training.state import State, environment, fits
from distill.training.step import TrainStep

logger = logging.getLogger(__name__)

MAX_ROLLBACKS = 3

_DIVERGED = (
    "training does not get on: losses or gradients are no finite numbers, step after step, from every checkpoint and "
    "with smaller learning rates as well; try a lower --learning-rate, and look for odd files with `distill inspect`"
)


class _Restored(NamedTuple):
    """Where a run was rolled back to: epoch and step, and how many steps its history had there."""

    place: tuple[int, int]
    steps: int


@dataclass
class Trainer:
    """One run of the engine: `fit` takes it from its `state` to the end, or to the next cancellation."""

    context: Context
    loaders: tuple[Loader, Loader]
    config: EngineConfig
    state: State
    folder: RunFolder
    facts: dict[str, Any]  # what run.json holds
    callback: MetricsCallback | None
    cancel_event: threading.Event | None
    identity: dict[str, Any]  # what a checkpoint of this run must agree with
    optimizer: AdamW
    scheduler: CosineAnnealingLR
    stepper: TrainStep = field(init=False)
    _clock: float = field(init=False, default=0.0)  # when the run would have begun, had it never stopped
    _restored: _Restored | None = field(init=False, default=None)
    _fruitless: set[tuple[int, int]] = field(init=False, default_factory=set)  # from where no step was learnt

    def __post_init__(self) -> None:
        self._equip()
        self._clock = time.perf_counter() - self.state.elapsed_s

    def _equip(self) -> None:
        self.stepper = TrainStep(self.context, self.optimizer, self.config.gradient_clip_norm, recorded=True)

    def fit(self) -> bool:
        """Train; returns whether the run reached its end rather than a cancellation. Raises `TrainingError`."""
        with torch.random.fork_rng(devices=[]):
            while self.state.epoch < self.state.total_epochs:
                try:
                    trained = self._train_epoch()
                except Diverged:
                    self._roll_back()
                    continue
                if not trained or not self._validate_epoch():
                    self.checkpoint()
                    return False
                self._end_epoch()
        if self.state.best_weights is None:
            raise TrainingError(
                "no epoch had a finite validation loss, so there is no model to keep; "
                "try a lower --learning-rate, and look for damaged files with `distill inspect`"
            )
        return True

    def emit(self, event: Event) -> None:
        """Give an event to the history, to the log on disk, then to the caller."""
        if isinstance(event, VQStepMetrics | StepMetrics):
            self.state.history.add_step(event)  # type: ignore[arg-type]
        elif isinstance(event, VQEpochMetrics | EpochMetrics):
            self.state.history.add_epoch(event)  # type: ignore[arg-type]
        self.folder.append(event)
        if self.callback:
            self.callback(event)

    def note(self, **facts: Any) -> None:
        """Add facts to the run's `run.json`; raises `StorageError`."""
        self.facts |= facts
        self.folder.write_info(self.facts)

    def best_model(self) -> nn.Module:
        """The model with the weights of the best validation epoch (the latest where there is none), in eval mode."""
        if self.state.best_weights is not None:
            self.context.model.load_state_dict(self.state.best_weights)
        return self.context.model.eval()

    def metadata(self) -> ModelMetadata:
        """What the model file says of this run."""
        best = self.state.history.epoch_metrics[self.state.best_epoch]
        return ModelMetadata(
            name=self.facts["model_name"],
            model_id=self.facts["model_id"],
            dataset_name=self.facts["dataset_name"],
            file_count=len(self.facts["files"]),
            duration_s=self.facts["duration_s"],
            epochs=self.state.epoch,
            best_epoch=self.state.best_epoch,
            train_loss=_finite(best.train_loss),
            val_loss=_finite(best.val_loss),
            validation_vectors=self.facts.get("validation_vectors", 0),
            seed=self.config.seed,
            distill_version=__version__,
        )

    def training_config(self) -> dict[str, Any]:
        """The run's settings as they were used, for the record in the model file."""
        return dataclasses.asdict(self.config) | {
            "max_epochs": self.state.total_epochs,
            "device": str(self.context.device),
        }

    def complete(self) -> None:
        """Tell that the run is over."""
        state = self.state
        self.note(skipped_steps=state.skips.total)
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
        total_epochs = state.total_epochs if state.planned else UNPLANNED
        tell(TrainCommand(state.epoch, state.step, total_epochs, self.optimizer.state_dict(), state.skips.in_row))
        state.step = train_steps(
            self.stepper,
            self.loaders[0],
            state.epoch,
            state.totals,
            total_epochs=total_epochs,
            first_step=state.step,
            seed=self.config.seed,
            skips=state.skips,
            callback=self.emit,
            cancel_event=self.cancel_event,
        )
        return not self._cancelled()

    def _roll_back(self) -> None:
        """Go back to the newest checkpoint that steps were learnt from, with half the rate it had at first.

        Raises `TrainingError` after `MAX_ROLLBACKS`, or when there is none.
        """
        failed = self.state
        if self._restored and len(failed.history.step_metrics) - self._restored.steps == MAX_SKIPS_IN_ROW:
            self._fruitless.add(self._restored.place)
        if failed.rollbacks == MAX_ROLLBACKS:
            raise TrainingError(_DIVERGED)
        try:
            checkpoint = find_checkpoint(self.folder.path, self.context.family.name, self._leads_on)
        except CheckpointError as error:
            raise TrainingError(_DIVERGED) from error
        clock = self._clock
        self.restore(checkpoint)
        self._clock = clock  # the time is spent, whatever came of it
        self.state.rollbacks = failed.rollbacks + 1
        self._halve_rate(self.state.rollbacks - checkpoint.rollbacks)
        self._restored = _Restored((checkpoint.epoch, checkpoint.step), len(self.state.history.step_metrics))
        logger.warning(
            "%d steps in a row were not finite: back to epoch %d, with half the learning rate (time %d of at most %d)",
            MAX_SKIPS_IN_ROW, checkpoint.epoch + 1, self.state.rollbacks, MAX_ROLLBACKS,
        )  # fmt: skip

    def _leads_on(self, checkpoint: Checkpoint) -> bool:
        return checkpoint.skips["in_row"] == 0 and (checkpoint.epoch, checkpoint.step) not in self._fruitless

    def _halve_rate(self, times: int) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] *= 0.5**times
            group["initial_lr"] *= 0.5**times
        self.scheduler.base_lrs = [rate * 0.5**times for rate in self.scheduler.base_lrs]

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take model, optimizer, schedule and state from a checkpoint of this run, and forget what came after it.

        Raises `CheckpointError` when it does not fit, `StorageError`.
        """
        model, optimizer, scheduler = self.context.model, self.optimizer, self.scheduler
        if checkpoint.model_settings != self.facts["model_settings"] or not fits(
            checkpoint, self.context, optimizer, scheduler
        ):
            raise CheckpointError("the checkpoint does not fit this run: parts of it are missing or of another form")
        model.load_state_dict(checkpoint.model_state)
        optimizer.load_state_dict(checkpoint.optimizer_state)
        self._equip()
        scheduler.load_state_dict(checkpoint.scheduler_state)
        self.state = State.of(checkpoint)
        self._clock = time.perf_counter() - self.state.elapsed_s
        # In this order: a checkpoint that stayed would be ahead of the log, and its events gone for good.
        drop_later(self.folder.checkpoints, checkpoint.epoch, checkpoint.step)
        self.folder.rewind(checkpoint.epoch, checkpoint.step)

    def _validate_epoch(self) -> bool:
        """Validate, and settle what follows from it; returns whether it was not cut short by a cancellation."""
        state = self.state
        tell(ValidateCommand())
        validation, observed = validate(self.context, self.loaders[1], self.cancel_event)
        if self._cancelled():
            return False
        if not validation:
            raise CollectionError(
                "all the sounds that were set aside for validation are silent or damaged, as the warnings say; "
                "take these files out of the folder, and start a new run"
            )
        facts = self.context.family.facts(observed)
        if not facts.keys() <= self.facts.keys():
            self.note(**facts)
        rate = self.optimizer.param_groups[0]["lr"]
        elapsed = self._elapsed()
        self._plan(elapsed)
        with warnings.catch_warnings():  # a run resumed at an epoch's end has taken no step yet: torch warns of that
            warnings.simplefilter("ignore", UserWarning)
            self.scheduler.step()
        eta = seconds_left(elapsed, state.epoch, state.total_epochs)
        train_loss = state.totals.mean("train_loss")
        epoch = Epoch(state.epoch, state.total_epochs, train_loss, validation, rate, eta, elapsed)
        warm = state.epoch + 1 > self.context.family.warmup_fraction * state.total_epochs
        if epoch.overfitting_gap > OVERFITTING_GAP and warm:
            logger.warning(
                "validation loss is %.0f%% above training loss; the model is learning the training files by heart",
                100 * epoch.overfitting_gap,
            )
        if validation["val_loss"] < state.best_val_loss:
            state.best_epoch, state.best_val_loss = state.epoch, validation["val_loss"]
            state.best_weights = {k: v.detach().cpu().clone() for k, v in self.context.model.state_dict().items()}
        counts = self.context.family.code_counts(self.context.model, observed)
        if counts is not None:
            self.folder.append_usage(state.epoch, counts.tolist())
        self.emit(self.context.family.epoch_event(self.context.model, epoch, observed))
        return True

    def _end_epoch(self) -> None:
        state = self.state
        state.epoch, state.step, state.totals = state.epoch + 1, 0, Totals()
        self._preview()
        if state.epoch % self.config.checkpoint_interval == 0 or state.epoch == state.total_epochs:
            self.checkpoint()

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
        validation = cast(ChunkDataset, self.loaders[1].dataset)
        waveforms = torch.stack([validation.waveform((0, 0, index)) for index in validation.examples(PAIRS)])
        paths = self.context.family.preview(
            self.context.model,
            self.context.spectrogram,
            waveforms.to(self.context.device),
            self.folder.previews,
            done - 1,
        )
        for path in paths:
            self.emit(PreviewEvent(done - 1, str(path), self.context.spectrogram.config.sample_rate))

    def checkpoint(self) -> Path:
        """Write a checkpoint of the run as it is; raises `StorageError`."""
        state = self.state
        self._elapsed()
        whole = state.step == 0 and bool(state.history.epoch_metrics)
        self.folder.sync_events()  # so that no checkpoint is ahead of the events before it
        return write_checkpoint(
            self.folder.checkpoints,
            Checkpoint(
                family=self.context.family.name,
                identity=self.identity,
                environment=environment(self.context.device),
                epoch=state.epoch,
                step=state.step,
                val_loss=_finite(state.history.epoch_metrics[-1].val_loss) if whole else None,
                total_epochs=state.total_epochs,
                planned=state.planned,
                elapsed_s=state.elapsed_s,
                totals=dataclasses.asdict(state.totals),
                skips=dataclasses.asdict(state.skips),
                rollbacks=state.rollbacks,
                model_state=self.context.model.state_dict(),
                optimizer_state=self.optimizer.state_dict(),
                scheduler_state=self.scheduler.state_dict(),
                best_epoch=state.best_epoch,
                best_val_loss=_finite(state.best_val_loss),
                best_weights=state.best_weights,
                history=state.history,
                model_settings=self.facts["model_settings"],
                **self.context.family.checkpoint_fields(state.history),
            ),
            self.config.max_checkpoints,
        )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
