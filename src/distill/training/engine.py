"""The training engine both families share: the step, the pass over a loader, the validation.

It knows no loss term by name. A `Family` tells it how to judge a batch and which events to make of the numbers.
`trainer.py` makes a whole run of it.
"""

import hashlib
import itertools
import logging
import math
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from distill.audio.spectrogram import AudioSpectrogram, real_frames
from distill.errors import Cancelled
from distill.models import ranks
from distill.training.dataset import EpochBatches, Loader, looks, own_part
from distill.training.metrics import (
    Event,
    MetricsCallback,
    MetricsHistory,
    VQMetricsHistory,
    overfitting_gap,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """A batch judged: the scalar `total` to differentiate, detached scalar `terms`, and what health is read from."""

    total: Tensor
    terms: dict[str, Tensor]
    observed: Tensor


@dataclass(frozen=True)
class Step:
    """The facts of one step that every family's event carries; `losses` holds `train_loss` and the terms."""

    epoch: int
    step: int
    total_steps: int
    losses: dict[str, float]
    learning_rate: float
    step_time_s: float
    progress: float

    def fields(self) -> dict[str, Any]:
        """The fields that the step events of all families share, their losses included."""
        names = ("epoch", "step", "total_steps", "learning_rate", "step_time_s")
        return {name: getattr(self, name) for name in names} | self.losses


@dataclass(frozen=True)
class Epoch:
    """The facts of one epoch that every family's event carries; `validation` holds `val_loss` and the terms."""

    epoch: int
    total_epochs: int
    train_loss: float
    validation: dict[str, float]
    learning_rate: float
    eta_seconds: float
    elapsed_seconds: float

    @property
    def overfitting_gap(self) -> float:
        """(val_loss - train_loss) / train_loss."""
        return overfitting_gap(self.train_loss, self.validation["val_loss"])

    def fields(self) -> dict[str, Any]:
        """The fields that the epoch events of all families share, their losses included."""
        names = ("epoch", "total_epochs", "train_loss", "overfitting_gap", "learning_rate")
        clocks = ("eta_seconds", "elapsed_seconds")
        return {name: getattr(self, name) for name in names + clocks} | self.validation


class Family(ABC):
    """What a model family adds to the engine."""

    name: ClassVar[str]
    terms: ClassVar[tuple[str, ...]]  # what `evaluate` names beside the total
    warmup_fraction: float = 0.0  # of the run, in which the train loss is not yet weighted like the validation loss

    @abstractmethod
    def facts(self, mels: Iterable[Tensor]) -> dict[str, Any]:
        """What the run's record says of the validation mels `[B, 1, M, T]`."""

    @abstractmethod
    def prepare(self, model: nn.Module, mels: Iterable[Tensor], go_on: Callable[[], None]) -> None:
        """Get `model` ready for its first step, from training mels `[B, 1, M, T]`.

        `go_on` is called every now and then; it raises `Cancelled` when that is all for now.
        """

    @abstractmethod
    def evaluate(self, model: nn.Module, mel: Tensor, progress: float) -> Evaluation:
        """Run `model` on a mel `[B, 1, M, T]` and judge the outcome; `progress` is how much of the run is done."""

    @abstractmethod
    def step_event(self, model: nn.Module, step: Step, observed: Tensor) -> Event:
        """The event of one training step."""

    @abstractmethod
    def epoch_event(self, model: nn.Module, epoch: Epoch, observed: list[Tensor]) -> Event:
        """The event of one epoch; `observed` covers the whole validation set."""

    def code_counts(self, model: nn.Module, observed: list[Tensor]) -> Tensor | None:
        """How often each code was used over the validation set: int64 `[Q, K]`, or None where there are no codes."""
        del model, observed
        return None

    @abstractmethod
    def checkpoint_fields(self, history: VQMetricsHistory | MetricsHistory) -> dict[str, Any]:
        """The fields of `Checkpoint` that only this family fills."""

    @abstractmethod
    def preview(
        self, model: nn.Module, spectrogram: AudioSpectrogram, waveforms: Tensor, folder: Path, epoch: int
    ) -> list[Path]:
        """Write audible examples for waveforms `[B, 1, S]`; returns the files to tell of."""


@dataclass
class Totals:
    """Running sums over the examples of an epoch, from which the means come; part of every checkpoint."""

    examples: int = 0
    sums: dict[str, float] = field(default_factory=dict)

    def add(self, values: dict[str, float], examples: int) -> None:
        """Count a batch of so many examples in."""
        self.examples += examples
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value * examples

    def mean(self, name: str) -> float:
        """The mean per example, NaN when nothing was counted."""
        return self.sums.get(name, math.nan) / self.examples if self.examples else math.nan


@dataclass(frozen=True)
class Workbench:
    """A model, and what it takes to judge it."""

    family: Family
    model: nn.Module
    spectrogram: AudioSpectrogram
    device: torch.device

    def mel(self, batch: Tensor) -> Tensor:
        """The mel `[B, 1, M, T]`, on the run's device, of a batch that is one, or of waveforms `[B, 1, S]`."""
        batch = batch.to(self.device)
        return batch if batch.dim() == 4 else self.spectrogram.waveform_to_mel(batch)

    def mels(self, loader: Iterable[Tensor]) -> Iterator[Tensor]:
        """The mels of the loader's batches."""
        return map(self.mel, loader)


MAX_SKIPS_IN_ROW = 10


@dataclass
class Skips:
    """The steps that were skipped because something in them was not a finite number; part of every checkpoint."""

    total: int = 0
    in_row: int = 0

    def count(self, learnt: bool) -> None:
        """Count a step; raises `Diverged` when too many in a row were skipped."""
        self.in_row = 0 if learnt else self.in_row + 1
        self.total += not learnt
        if self.in_row >= MAX_SKIPS_IN_ROW:
            raise Diverged


class Diverged(Exception):
    """No step leads on from here: the weights are such that losses or gradients are no finite numbers."""


def _step_seed(seed: int, epoch: int, step: int) -> int:
    # A function of the place in the run, so that nothing else that draws numbers can move the training.
    return int.from_bytes(hashlib.sha256(f"{seed}:{epoch}:{step}".encode()).digest()[:7], "big")


def train_steps(
    bench: Workbench,
    loader: Loader,
    optimizer: Optimizer,
    gradient_clip_norm: float,
    epoch: int,
    totals: Totals,
    *,
    total_epochs: int | None = None,
    first_step: int = 0,
    seed: int | None = None,
    skips: Skips | None = None,
    callback: MetricsCallback | None = None,
    cancel_event: threading.Event | None = None,
) -> int:
    """Train from `first_step` to the end of the epoch or until cancelled; returns the step to go on with.

    Without `total_epochs`, schedules that follow the progress of a run stand at their end.
    Raises `Diverged` when `skips` are counted, and there were too many in a row.
    """
    bench.model.train()
    if seed is not None:
        torch.manual_seed(_step_seed(seed, epoch, -1))
    if ranks.rank() == 0:
        with suppress(Cancelled):  # the first step sees to it
            bench.family.prepare(bench.model, bench.mels(looks(loader, epoch)), partial(_go_on, cancel_event))
    ranks.share(bench.model)
    if isinstance(batches := getattr(loader, "batch_sampler", None), EpochBatches):
        batches.set_epoch(epoch)
    total_steps = len(loader)
    with ranks.joint():
        for step, batch in enumerate(itertools.islice(own_part(loader), first_step, None), first_step):
            if ranks.any_of(_asked_to_stop(cancel_event)):
                return step
            if seed is not None:
                torch.manual_seed(_step_seed(seed, epoch, step))
            started = time.perf_counter()
            progress = min(1.0, (epoch + step / total_steps) / total_epochs) if total_epochs else 1.0
            mel = bench.mel(batch)
            evaluation, losses, learnt = _train_step(bench, optimizer, gradient_clip_norm, mel, progress)
            if learnt:
                totals.add(losses, _examples(mel))
            else:
                logger.warning("epoch %d step %d: loss or gradient is not finite; the step was skipped", epoch, step)
            rate = optimizer.param_groups[0]["lr"]
            facts = Step(epoch, step, total_steps, losses, rate, time.perf_counter() - started, progress)
            event = bench.family.step_event(bench.model, facts, ranks.gathered(evaluation.observed))
            if callback:
                callback(event)
            if skips:
                skips.count(learnt)
    return total_steps


def _asked_to_stop(cancel_event: threading.Event | None) -> bool:
    return cancel_event is not None and cancel_event.is_set()


def _go_on(cancel_event: threading.Event | None) -> None:
    if _asked_to_stop(cancel_event):
        raise Cancelled("stopped before the first step")


def _examples(mel: Tensor) -> int:
    """How many chunks `[B, 1, M, T]` all ranks have together, without those that stand for none."""
    if ranks.world_size() == 1:
        return len(mel)
    return int(ranks.summed(real_frames(mel).any(dim=-1).sum()))


def _train_step(
    bench: Workbench, optimizer: Optimizer, gradient_clip_norm: float, mel: Tensor, progress: float
) -> tuple[Evaluation, dict[str, float], bool]:
    """One optimizer step; a loss or gradient that is not finite changes neither weight nor buffer nor optimizer."""
    before = {name: buffer.clone() for name, buffer in bench.model.named_buffers()}
    evaluation = bench.family.evaluate(bench.model, mel, progress)
    optimizer.zero_grad(set_to_none=True)
    learnt = bool(torch.isfinite(ranks.summed(evaluation.total)))
    if learnt:
        evaluation.total.backward()  # type: ignore[no-untyped-call]
        ranks.sum_gradients(list(bench.model.parameters()))
        norm = nn.utils.clip_grad_norm_(bench.model.parameters(), gradient_clip_norm)
        learnt = bool(torch.isfinite(norm))
    if learnt:
        optimizer.step()
    else:
        optimizer.zero_grad(set_to_none=True)
        bench.model.load_state_dict(before, strict=False)
    return evaluation, _losses("train_loss", evaluation), learnt


def _losses(total: str, evaluation: Evaluation) -> dict[str, float]:
    names = [total, *evaluation.terms]
    values = torch.stack([evaluation.total.detach(), *evaluation.terms.values()])
    return dict(zip(names, ranks.summed(values).tolist()))


@torch.no_grad()
def validate(
    bench: Workbench, loader: Loader, cancel_event: threading.Event | None = None
) -> tuple[dict[str, float], list[Tensor]]:
    """Means per example of `val_loss` and `val_` + each term, and what was observed batch by batch.

    A cancellation cuts it short.
    """
    bench.model.eval()
    totals, observed = Totals(), []
    with ranks.joint():
        for mel in bench.mels(own_part(loader)):
            if ranks.any_of(_asked_to_stop(cancel_event)):
                break
            evaluation = bench.family.evaluate(bench.model, mel, 1.0)  # one yardstick for all epochs
            losses = _losses("loss", evaluation)
            totals.add({f"val_{name}": value for name, value in losses.items()}, _examples(mel))
            observed.append(ranks.gathered(evaluation.observed))
    return {name: totals.mean(name) for name in totals.sums}, observed
