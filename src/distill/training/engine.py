"""The training engine that all families share: the passes over a loader in training and validation.

`step.py` has a single step, `trainer.py` the loop over the epochs of a run. An `Objective` (`objective.py`) computes
the losses of a batch and makes events of the numbers.
"""

import hashlib
import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from distill import distributed
from distill.audio.spectrogram import real_frames
from distill.data.batches import EpochBatches, Loader, initial_batches, rank_part
from distill.errors import Cancelled
from distill.notices import StepSkipped
from distill.training.metrics import MetricsCallback
from distill.training.objective import Context, StepResult
from distill.training.step import TrainStep, losses_of

logger = logging.getLogger(__name__)


@dataclass
class Totals:
    """Running sums over the examples of an epoch, for their means; part of every checkpoint."""

    examples: int = 0
    sums: dict[str, float] = field(default_factory=dict)

    def add(self, values: dict[str, float], examples: int) -> None:
        """Add a batch of so many examples, given the means over them."""
        if examples == 0:  # a batch of padding; without examples a checkpoint must have no sums either
            return
        self.examples += examples
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value * examples

    def mean(self, name: str) -> float:
        """The mean per example, NaN when nothing was counted."""
        return self.sums.get(name, math.nan) / self.examples if self.examples else math.nan


MAX_SKIPS_IN_ROW = 10


@dataclass
class Skips:
    """The number of steps skipped because a loss or gradient was not finite; part of every checkpoint."""

    total: int = 0
    in_row: int = 0

    def count(self, learnt: bool) -> None:
        """Count a step; raises `Diverged` when too many in a row were skipped."""
        self.in_row = 0 if learnt else self.in_row + 1
        self.total += not learnt
        if self.in_row >= MAX_SKIPS_IN_ROW:
            raise Diverged


class Diverged(Exception):
    """Raised after `MAX_SKIPS_IN_ROW` skipped steps: these weights no longer give finite losses and gradients."""


def _step_seed(seed: int, epoch: int, step: int) -> int:
    # A function of the position in the run alone, so that no other random draw can change the training. Seven bytes fit
    # a signed 64-bit seed.
    return int.from_bytes(hashlib.sha256(f"{seed}:{epoch}:{step}".encode()).digest()[:7], "big")


def train_steps(
    train_step: TrainStep,
    loader: Loader,
    epoch: int,
    totals: Totals,
    *,
    total_epochs: int | None = None,
    first_step: int = 0,
    seed: int | None = None,
    skips: Skips | None = None,
    callback: MetricsCallback | None = None,
    cancel_event: threading.Event | None = None,
    after_step: Callable[[int], bool] | None = None,
) -> int:
    """Train from `first_step` to the end of the epoch or until cancelled; returns the step to continue with.

    Without `total_epochs`, schedules that follow the progress of a run have their final values.
    With `skips`, raises `Diverged` after too many skipped steps in a row. `after_step` gets the step to continue with,
    and ends the epoch there if it returns False.
    """
    context = train_step.context
    context.model.train()
    _prepare(context, loader, epoch, seed, cancel_event)
    total_steps = len(loader)
    with distributed.collective():
        batches = _batches(loader, cancel_event, first_step)
        step, batch, ended = first_step, next(batches, None), False
        while batch is not None:
            # Decided by all ranks together: one that stopped alone would leave the others waiting for it.
            if distributed.any_rank(ended or _asked_to_stop(cancel_event)):
                return step
            if seed is not None:  # at every step, so that resuming needs no saved generator state
                torch.manual_seed(_step_seed(seed, epoch, step))
            started = time.perf_counter()
            # By position, not by time, so that the KL weight is the same in a resumed run.
            progress = min(1.0, (epoch + step / total_steps) / total_epochs) if total_epochs else 1.0
            inputs = context.batch(batch)
            outcome = train_step.launch(inputs, progress)
            launched = time.perf_counter()
            batch = next(batches, None)  # loaded while a GPU computes the step, in whose time it does not count
            started += time.perf_counter() - launched
            losses, learnt = train_step.read(outcome)
            if learnt:
                totals.add(losses, _examples(inputs.mel, loader))
            else:
                logger.warning(StepSkipped(epoch + 1, step + 1))
            taken = time.perf_counter() - started
            result = StepResult(epoch, step, total_steps, losses, train_step.rate, taken, progress)
            event = context.objective.step_event(context.model, result, distributed.all_gather(outcome.observed))
            if callback:
                callback(event)
            if skips:  # after the event, for `Recovery` counts the skipped steps in the history
                skips.count(learnt)
            step += 1
            if after_step:
                ended = not after_step(step)
    return total_steps


def _batches(loader: Loader, cancel_event: threading.Event | None, first: int = 0) -> Iterator[Tensor]:
    """The batches from `first` on, each reduced to the part of this rank.

    A cancellation ends the wait for a sound: an empty batch takes its place, at which all ranks agree to stop.
    """
    try:
        yield from itertools.islice(rank_part(loader), first, None)
    except Cancelled:
        if not _asked_to_stop(cancel_event):
            raise
        yield torch.empty(0)  # never reaches the model: the loop asks for cancellations first


def _prepare(
    context: Context, loader: Loader, epoch: int, seed: int | None, cancel_event: threading.Event | None
) -> None:
    """Prepare the model for its first step, and the loader for the order of the epoch."""
    if seed is not None:
        torch.manual_seed(_step_seed(seed, epoch, -1))
    # On rank 0 only, from whole batches: the others get the codebooks with its weights.
    if distributed.rank() == 0 and not context.objective.ready(context.model):
        with suppress(Cancelled):  # `train_steps` will notice it before its first step
            context.objective.prepare(
                context.model, context.mels(initial_batches(loader, epoch)), partial(_check_cancelled, cancel_event)
            )
    distributed.broadcast_model(context.model)
    # Set last, because `initial_batches` leaves the sampler at another epoch.
    if isinstance(batches := getattr(loader, "batch_sampler", None), EpochBatches):
        batches.set_epoch(epoch)


def _asked_to_stop(cancel_event: threading.Event | None) -> bool:
    return cancel_event is not None and cancel_event.is_set()


def _check_cancelled(cancel_event: threading.Event | None) -> None:
    if _asked_to_stop(cancel_event):
        raise Cancelled("stopped before the first step")


def _examples(mel: Tensor, loader: Loader) -> int:
    """The number of chunks in `[B, 1, M, T]` of all ranks together, not counting chunks of padding."""
    if distributed.world_size() == 1 and not getattr(getattr(loader, "dataset", None), "prefetched", False):
        return len(mel)  # none is padding, and counting them would wait for the GPU
    return int(distributed.all_reduce(real_frames(mel).any(dim=-1).sum()))


@torch.no_grad()
def validate(
    context: Context, loader: Loader, cancel_event: threading.Event | None = None
) -> tuple[dict[str, float], list[Tensor]]:
    """Means per example of `val_loss` and `val_` + each term, and the observed tensors of all batches.

    A cancellation cuts it short.
    """
    context.model.eval()
    totals, observed = Totals(), []
    # The progress of a finished run: with the final loss weights in all of them, epochs can be compared.
    whole = torch.ones((), device=context.device)
    with distributed.collective():
        for batch in _batches(loader, cancel_event):
            if distributed.any_rank(_asked_to_stop(cancel_event)):
                break
            inputs = context.batch(batch)
            evaluation = context.objective.evaluate(context.model, inputs, whole)
            losses = zip(("loss", *evaluation.terms), losses_of(evaluation).tolist())
            totals.add({f"val_{name}": value for name, value in losses}, _examples(inputs.mel, loader))
            observed.append(distributed.all_gather(evaluation.observed))
    return {name: totals.mean(name) for name in totals.sums}, observed
