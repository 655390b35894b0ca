"""What a family adds to the engine: how a batch is judged, and what is told of it. The engine knows no loss by name."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from distill.audio.spectrogram import AudioSpectrogram
from distill.training.metrics import EpochEvent, History, StepEvent, overfitting_gap

if TYPE_CHECKING:
    from distill.training.request import TrainingRequest
    from distill.training.run import Run


class Batch(NamedTuple):
    """Sounds to be judged: mels `[B, 1, M, T]`, and waveforms `[B, 1, S]` where the objective needs them."""

    mel: Tensor
    waveform: Tensor | None = None


@dataclass(frozen=True)
class Evaluation:
    """A batch judged.

    `totals` are the scalars that the optimizers differentiate, one for each; the first is the loss that is told.
    `terms` are detached scalars, `observed` is what health is read from, `[B, …]`.
    """

    totals: tuple[Tensor, ...]
    terms: dict[str, Tensor]
    observed: Tensor


@dataclass(frozen=True)
class StepResult:
    """What the step events of all families have in common; `losses` holds `train_loss` and the terms.

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
class EpochResult:
    """What the epoch events of all families have in common; `validation` holds `val_loss` and the terms."""

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


class Objective(ABC):
    """What a run of a family strives for, made of its configuration."""

    terms: ClassVar[tuple[str, ...]]  # that `evaluate` names beside the total
    result_keys: ClassVar[tuple[str, ...]] = ()  # of what `conclude` returns
    needs_waveform: ClassVar[bool] = False  # beside the mel

    def __init__(self, config: Any) -> None:
        self.config = config

    warmup_fraction: float = 0.0  # of the run, in which the train loss is not yet weighted like the validation loss

    @abstractmethod
    def build_model(self, request: "TrainingRequest") -> nn.Module:
        """The network that a request asks for, its weights drawn from torch's generator."""

    def parameter_groups(self, model: nn.Module) -> Sequence[Iterable[nn.Parameter]]:
        """The parameters of each optimizer; `Evaluation.totals` has a scalar for each."""
        return [model.parameters()]

    def ready(self, model: nn.Module) -> bool:
        """True if `model` can take its first step."""
        del model
        return True

    def prepare(  # noqa: B027  most families have nothing to prepare
        self, model: nn.Module, mels: Iterable[Tensor], check_cancelled: Callable[[], None]
    ) -> None:
        """Get `model` ready, if possible, from training mels `[B, 1, M, T]`.

        `check_cancelled` is called every now and then; it raises `Cancelled` when that is all for now.
        """

    @abstractmethod
    def evaluate(self, model: nn.Module, batch: Batch, progress: Tensor) -> Evaluation:
        """Run `model` on a batch and judge the outcome; `progress` is how much of the run is done, from 0 to 1.

        In training nothing here may wait for the device, once the model is ready.
        """

    @abstractmethod
    def step_event(self, model: nn.Module, step: StepResult, observed: Tensor) -> StepEvent:
        """The event of one training step."""

    @abstractmethod
    def epoch_event(self, model: nn.Module, epoch: EpochResult, observed: list[Tensor]) -> EpochEvent:
        """The event of one epoch; `observed` covers the whole validation set."""

    def run_info(self, observed: list[Tensor]) -> dict[str, Any]:
        """Fields of `RunInfo` that tell of the validation set, all of which was `observed`."""
        del observed
        return {}

    def code_counts(self, model: nn.Module, observed: list[Tensor]) -> Tensor | None:
        """How often each code was used over the validation set: int64 `[Q, K]`, or None where there are no codes."""
        del model, observed
        return None

    def checkpoint_fields(self, history: History[Any, Any]) -> dict[str, Any]:
        """The fields of `Checkpoint` that only this family fills; what has no field goes under `own`."""
        del history
        return {}

    @abstractmethod
    def preview(
        self, model: nn.Module, spectrogram: AudioSpectrogram, waveforms: Tensor, folder: Path, epoch: int
    ) -> list[Path]:
        """Write audible examples for waveforms `[B, 1, S]`; returns the files to tell of."""

    @abstractmethod
    def conclude(self, run: "Run", finished: bool) -> dict[str, Any]:
        """End a run: where it is finished, save its model and draw its picture; returns its own part of the result."""


@dataclass(frozen=True)
class Context:
    """A model, and what it takes to judge it."""

    objective: Objective
    model: nn.Module
    spectrogram: AudioSpectrogram
    device: torch.device

    def batch(self, loaded: Tensor) -> Batch:
        """A loader's batch, mels `[B, 1, M, T]` or waveforms `[B, 1, S]`, on the run's device."""
        loaded = loaded.to(self.device)
        if loaded.dim() == 4:
            return Batch(loaded)
        mel = self.spectrogram.waveform_to_mel(loaded)
        return Batch(mel, loaded if self.objective.needs_waveform else None)

    def mels(self, loader: Iterable[Tensor]) -> Iterator[Tensor]:
        """The mels of the loader's batches."""
        return (self.batch(loaded).mel for loaded in loader)
