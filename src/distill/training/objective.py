"""The interface between a family and the engine, which knows no loss term by name."""

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
    """Sounds of a step: mels `[B, 1, M, T]`, and waveforms `[B, 1, S]` where the objective needs them.

    `power` is that of the mels' settings.
    """

    mel: Tensor
    waveform: Tensor | None = None
    power: float | None = None


@dataclass(frozen=True)
class Evaluation:
    """The losses of a batch, and a tensor to observe.

    `totals` are the scalars to differentiate, one for each optimizer; the first is the loss that is reported. `terms`
    are detached scalars. `observed` `[B, …]` is the input of health figures: codes, or latents.
    """

    totals: tuple[Tensor, ...]
    terms: dict[str, Tensor]
    observed: Tensor


@dataclass(frozen=True)
class StepResult:
    """The part that step events of all families have in common; `losses` holds `train_loss` and the terms.

    `step_time_s` leaves out the loading of the next batch, even where a GPU computes at the same time.
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
    """The part that epoch events of all families have in common; `validation` holds `val_loss` and the terms."""

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
    """The objective of a family, made from a configuration: its model, loss, events, previews and results."""

    terms: ClassVar[tuple[str, ...]]  # the names of the loss terms that `evaluate` returns beside the total
    result_keys: ClassVar[tuple[str, ...]] = ()  # the keys that `conclude` returns
    needs_waveform: ClassVar[bool] = False  # in a batch, beside the mel

    def __init__(self, config: Any) -> None:
        self.config = config

    # The part of the run in which the training loss is weighted otherwise than the validation loss, which always has
    # the final weights; until then the two are not compared.
    warmup_fraction: float = 0.0
    # Of a budget of minutes: the rest is for what `conclude` does.
    budget_share: float = 1.0
    # False where a step waits for the device, and cannot be recorded as a CUDA graph.
    recordable: bool = True

    @abstractmethod
    def build_model(self, request: "TrainingRequest") -> nn.Module:
        """The network for a request, its weights drawn from torch's global generator."""

    def begin(self, run: "Run") -> None:  # noqa: B027  most families need nothing of it
        """Take from a run, before it starts or goes on, what events and results need beside the model."""

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
        """Initialize `model` from training mels `[B, 1, M, T]`, if they allow it.

        It calls `check_cancelled` every now and then, which raises `Cancelled` after a cancellation.
        """

    @abstractmethod
    def evaluate(self, model: nn.Module, batch: Batch, progress: Tensor) -> Evaluation:
        """Run `model` on a batch and compute its losses; `progress` is the part of the run that is done, 0 to 1.

        In training nothing here may wait for the device once the model is ready, unless the objective is not
        `recordable`: the step is recorded as a CUDA graph.
        """

    @abstractmethod
    def step_event(self, model: nn.Module, step: StepResult, observed: Tensor) -> StepEvent:
        """The event of one training step."""

    @abstractmethod
    def epoch_event(self, model: nn.Module, epoch: EpochResult, observed: list[Tensor]) -> EpochEvent:
        """The event of one epoch; `observed` covers the whole validation set."""

    def run_info(self, observed: list[Tensor]) -> dict[str, Any]:
        """Fields of `RunInfo` about the validation set; `observed` covers all of it."""
        del observed
        return {}

    def code_counts(self, model: nn.Module, observed: list[Tensor]) -> Tensor | None:
        """The number of uses of each code over the validation set: int64 `[Q, K]`, or None without codes."""
        del model, observed
        return None

    def checkpoint_fields(self, history: History[Any, Any]) -> dict[str, Any]:
        """The fields of `Checkpoint` that only this family fills; anything without a field goes under `own`."""
        del history
        return {}

    @abstractmethod
    def preview(
        self, model: nn.Module, spectrogram: AudioSpectrogram, waveforms: Tensor, folder: Path, epoch: int
    ) -> list[Path]:
        """Write audible examples for waveforms `[B, 1, S]`; returns the paths to announce."""

    def part_request(self, request: "TrainingRequest", run: "Run") -> "TrainingRequest | None":
        """The request to train a part of the model that a finished run has saved; None where there is nothing to add.

        It is trained before the run counts as complete, in a folder within the run's.
        """
        del request, run
        return None

    @abstractmethod
    def conclude(self, run: "Run", finished: bool) -> dict[str, Any]:
        """Conclude a run: if it is finished, save its model and draw its picture; returns the `result_keys`."""


@dataclass(frozen=True)
class Context:
    """A model with its objective, the spectrogram that makes its input, and its device."""

    objective: Objective
    model: nn.Module
    spectrogram: AudioSpectrogram
    device: torch.device

    def batch(self, loaded: Tensor) -> Batch:
        """A loader's batch, mels `[B, 1, M, T]` or waveforms `[B, 1, S]`, on the run's device."""
        loaded = loaded.to(self.device)
        power = self.spectrogram.config.power
        if loaded.dim() == 4:  # from a `MelDataset`
            return Batch(loaded, power=power)
        mel = self.spectrogram.waveform_to_mel(loaded)
        return Batch(mel, loaded if self.objective.needs_waveform else None, power)

    def mels(self, loader: Iterable[Tensor]) -> Iterator[Tensor]:
        """The mels of the loader's batches."""
        return (self.batch(loaded).mel for loaded in loader)
