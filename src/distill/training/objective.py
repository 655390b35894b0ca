"""What a model family is to the engine: how to judge a batch, and what to tell of it.

The engine knows no loss term by name.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from distill.audio.spectrogram import AudioSpectrogram
from distill.training.metrics import Event, MetricsHistory, VQMetricsHistory, overfitting_gap


@dataclass(frozen=True)
class Evaluation:
    """A batch judged: the scalar `total` to differentiate, detached scalar `terms`, and what health is read from."""

    total: Tensor
    terms: dict[str, Tensor]
    observed: Tensor


@dataclass(frozen=True)
class Step:
    """The facts of one step that every family's event carries; `losses` holds `train_loss` and the terms.

    `step_time_s` leaves out what the next batch took, also where a GPU was at work meanwhile.
    """

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
    def facts(self, observed: list[Tensor]) -> dict[str, Any]:
        """What the run's record says of the validation set, all of which was `observed`."""

    @abstractmethod
    def ready(self, model: nn.Module) -> bool:
        """Whether `model` can take its first step."""

    @abstractmethod
    def prepare(self, model: nn.Module, mels: Iterable[Tensor], check_cancelled: Callable[[], None]) -> None:
        """Get `model` ready, if possible, from training mels `[B, 1, M, T]`.

        `check_cancelled` is called every now and then; it raises `Cancelled` when that is all for now.
        """

    @abstractmethod
    def evaluate(self, model: nn.Module, mel: Tensor, progress: Tensor) -> Evaluation:
        """Run `model` on a mel `[B, 1, M, T]` and judge the outcome; `progress` is how much of the run is done.

        In training nothing here may wait for the device, once the model is ready.
        """

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


@dataclass(frozen=True)
class Context:
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
