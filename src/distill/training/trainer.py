"""The training loop of a run: epochs with validation, previews and checkpoints, to the end or a cancellation."""

from dataclasses import dataclass, field
from typing import cast

import torch

from distill.data.chunks import ChunkDataset
from distill.errors import LowerLearningRate, TrainingError
from distill.training.budget import UNPLANNED
from distill.training.engine import Diverged, Totals, train_steps
from distill.training.metrics import PreviewEvent
from distill.training.preview import PAIRS
from distill.training.rank_worker import TrainCommand, broadcast_command
from distill.training.recovery import Recovery
from distill.training.run import Run
from distill.training.snapshot import save_checkpoint
from distill.training.validation import validate_epoch

_SAVED_EVERY_S = 60.0  # at most, beside the checkpoints between epochs
_SAVING_SHARE = 0.01  # of the time of a run, at most


@dataclass
class Trainer:
    """Trains a run from its current position to its end, or to the next cancellation."""

    run: Run
    recovery: Recovery = field(init=False)

    def __post_init__(self) -> None:
        self.recovery = Recovery(self.run)

    def fit(self) -> bool:
        """Train; returns True where the run reached its end, False after a cancellation. Raises `TrainingError`."""
        run = self.run
        with torch.random.fork_rng(devices=[]):  # steps reseed torch; the caller's random numbers stay as they were
            while run.state.epoch < run.state.total_epochs:
                try:
                    trained = self._train_epoch()
                except Diverged:
                    self.recovery.roll_back()  # sets the epoch and step from which the loop continues
                    continue
                if not trained or not validate_epoch(run):
                    save_checkpoint(run)
                    return False
                self._end_epoch()
        if run.state.best_weights is None:
            raise TrainingError(
                "no epoch had a finite validation loss, so there is no model to keep", LowerLearningRate()
            )
        return True

    def _train_epoch(self) -> bool:
        run, state = self.run, self.run.state
        # Until a budget is settled, schedules stay at their beginning, so that the KL weight can never fall again.
        total_epochs = state.total_epochs if state.planned else UNPLANNED
        optimizer_states = [optimizer.state_dict() for optimizer in run.optimizers]
        broadcast_command(TrainCommand(state.epoch, state.step, total_epochs, optimizer_states, state.skips.in_row))
        state.step = train_steps(
            run.train_step,
            run.loaders[0],
            state.epoch,
            state.totals,
            total_epochs=total_epochs,
            first_step=state.step,
            seed=run.config.seed,
            skips=state.skips,
            callback=run.emit,
            cancel_event=run.cancel_event,
            after_step=self._after_step,
        )
        return not run.cancelled

    def _after_step(self, step: int) -> bool:
        """Save a checkpoint if the last one was long ago: ten epochs can take an hour; returns False to end the epoch.

        An epoch ends with the budget, and its validation (`validation.py`) finds that it was the last.
        """
        run = self.run
        run.state.step = step
        if run.clock() - run.saved_at >= max(_SAVED_EVERY_S, run.saving_s / _SAVING_SHARE):
            save_checkpoint(run)
        return not run.budget_spent()

    def _end_epoch(self) -> None:
        run, state = self.run, self.run.state
        state.epoch, state.step, state.totals = state.epoch + 1, 0, Totals()
        last = state.epoch == state.total_epochs
        if last or state.epoch % run.config.preview_interval == 0:
            self._preview()
        if last or state.epoch % run.config.checkpoint_interval == 0:
            save_checkpoint(run)

    def _preview(self) -> None:
        """Write audible examples of held-out sounds, and emit an event for each."""
        context, epoch = self.run.context, self.run.state.epoch - 1
        # From the data set, not the loader, whose batches may be mels.
        validation = cast(ChunkDataset, self.run.loaders[1].dataset)
        chunks = torch.stack([validation.waveform((0, 0, index)) for index in validation.examples(PAIRS)])
        waveforms = chunks.to(context.device)
        paths = context.objective.preview(
            context.model, context.spectrogram, waveforms, self.run.folder.previews, epoch
        )
        for path in paths:
            self.run.emit(PreviewEvent(epoch, str(path), context.spectrogram.config.sample_rate))
