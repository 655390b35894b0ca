"""The events of a run in progress, and the history made of them. Imports no torch.

Events are plain facts, in the order they happen; every display, log and file is made from them. Codebook health is
`{"level_0": {"utilization": 0..1, "perplexity": float, "dead_codes": int}, "level_1": …}` everywhere.
"""

import dataclasses
import functools
import math
import typing
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from distill.library.header import WholeHealth
from distill.training.strict_json import from_json, to_json

OVERFITTING_GAP = 0.2  # the threshold of `History.is_overfitting`
USUALLY_COPIED = 0.1  # of new sounds, at most: so much of real sounds comes as near to others of their collection

CodebookHealth = dict[str, dict[str, float]]


# Events


class StepEvent:
    """One optimizer step, of any family; epoch and step count from 0, `step` within the epoch."""

    if TYPE_CHECKING:  # inherited fields would come first, and each family has its fields in an order of its own
        epoch: int
        step: int
        total_steps: int
        train_loss: float
        learning_rate: float


class EpochEvent:
    """One epoch, of any family; losses are means per example."""

    if TYPE_CHECKING:
        epoch: int
        total_epochs: int
        train_loss: float
        val_loss: float
        overfitting_gap: float
        eta_seconds: float
        elapsed_seconds: float


@dataclass(frozen=True)
class StepMetrics(StepEvent):
    """One optimizer step of a VAE run (v1); epoch and step count from 0, `step` within the epoch."""

    epoch: int
    step: int
    total_steps: int
    train_loss: float
    recon_loss: float
    kl_loss: float
    kl_weight: float
    learning_rate: float
    step_time_s: float


@dataclass(frozen=True)
class EpochMetrics(EpochEvent):
    """One epoch of a VAE run (v1); losses are means per example."""

    epoch: int
    total_epochs: int
    train_loss: float
    val_loss: float
    val_recon_loss: float
    val_kl_loss: float
    kl_divergence: float
    overfitting_gap: float
    learning_rate: float
    eta_seconds: float
    elapsed_seconds: float


@dataclass(frozen=True)
class VQStepMetrics(StepEvent):
    """One optimizer step of an RVQ-VAE run (v1.1); every tenth has the codebook health, counted over its batch."""

    epoch: int
    step: int
    total_steps: int
    train_loss: float
    recon_loss: float
    commit_loss: float
    commitment_weight: float
    learning_rate: float
    step_time_s: float
    codebook_health: CodebookHealth | None = None


@dataclass(frozen=True)
class VQEpochMetrics(EpochEvent):
    """One epoch of an RVQ-VAE run (v1.1); codebook health is counted once over the whole validation set."""

    epoch: int
    total_epochs: int
    train_loss: float
    val_loss: float
    val_recon_loss: float
    val_commit_loss: float
    overfitting_gap: float
    learning_rate: float
    eta_seconds: float
    elapsed_seconds: float
    codebook_health: CodebookHealth | None = None
    utilization_warnings: list[str] | None = None


@dataclass(frozen=True)
class PriorStepMetrics(StepEvent):
    """One optimizer step of a prior; `code_bits` is the mean information in a code, in bits."""

    epoch: int
    step: int
    total_steps: int
    train_loss: float
    code_bits: float
    end_bits: float
    learning_rate: float
    step_time_s: float


@dataclass(frozen=True)
class PriorEpochMetrics(EpochEvent):
    """One epoch of a prior; `unigram_bits` is what a code would take if only frequencies of codes were known.

    `copied` is the share (0 to 1) of new sounds that come nearer to a training sound than others of the collection do
    (`distill.training.copying`); it is None in epochs after which nobody has looked.
    """

    epoch: int
    total_epochs: int
    train_loss: float
    val_loss: float
    val_code_bits: float
    val_end_bits: float
    unigram_bits: float
    overfitting_gap: float
    learning_rate: float
    eta_seconds: float
    elapsed_seconds: float
    copied: float | None = None


@dataclass(frozen=True)
class PreviewEvent:
    """A preview was written to `audio_path`."""

    epoch: int
    audio_path: str
    sample_rate: int


@dataclass(frozen=True)
class TrainingCompleteEvent:
    """Training ended, by itself or because it was cancelled; `total_epochs` were completed."""

    total_epochs: int
    total_time_s: float
    final_train_loss: float
    final_val_loss: float
    best_val_loss: float
    best_epoch: int


Event = StepEvent | EpochEvent | PreviewEvent | TrainingCompleteEvent
MetricsCallback = Callable[[Event], None]

# Step and epoch events are added with the `History` of their family.
EVENT_TYPES: dict[str, type[Event]] = {kind.__name__: kind for kind in (PreviewEvent, TrainingCompleteEvent)}
_HEALTH = "codebook_health"


# Events as JSON


def overfitting_gap(train_loss: float, val_loss: float) -> float:
    """(val_loss - train_loss) / train_loss; 0 where there is no train loss to compare with."""
    return (val_loss - train_loss) / train_loss if train_loss else 0.0


def finite_mean(values: Iterable[float]) -> float:
    """The mean of those values that are finite, NaN without any."""
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan


def event_to_dict(event: Event) -> dict[str, Any]:
    """The event as a JSON-ready dictionary, its type under `"event"`."""
    return {"event": type(event).__name__, **to_json(_plain(event))}


def _plain(event: Any) -> dict[str, Any]:
    return dataclasses.asdict(event)


def event_from_dict(data: dict[str, Any]) -> Event:
    """The inverse of `event_to_dict`; raises `KeyError` or `TypeError` for anything else."""
    if not isinstance(data, dict):
        raise TypeError(f"not an event: {data!r}")
    kind = EVENT_TYPES[str(data["event"])]
    event: Event = _event(kind, {name: value for name, value in data.items() if name != "event"})
    return event


def _event(kind: Any, data: dict[str, Any]) -> Any:
    # Only in numeric fields does the word NaN stand for a number; a path or a sentence may well be that word.
    numbers = {f.name for f in dataclasses.fields(kind) if f.type is float} | {_HEALTH}
    event = kind(**{name: from_json(value) if name in numbers else value for name, value in data.items()})
    try:
        _form(kind).validate_python(vars(event), strict=True)
    except ValidationError as error:
        raise TypeError(f"not a {kind.__name__}: {error.errors()[0]['msg']}") from error
    return event


@functools.cache
def _form(kind: type) -> TypeAdapter[Any]:
    """The types of an event's fields, which a file from somebody else need not keep to."""
    types = typing.get_type_hints(kind)
    if _HEALTH in types:
        types[_HEALTH] = WholeHealth | None
    return TypeAdapter(TypedDict(kind.__name__, types))  # type: ignore[operator]


# Histories

Step = TypeVar("Step", bound=StepEvent)
Epoch = TypeVar("Epoch", bound=EpochEvent)


@dataclass(eq=False)
class History(ABC, Generic[Step, Epoch]):
    """The step and epoch events of a run, and figures derived from them; each family has a subclass."""

    step_metrics: list[Step] = field(default_factory=list)
    epoch_metrics: list[Epoch] = field(default_factory=list)

    step_type: ClassVar[type[StepEvent]]
    epoch_type: ClassVar[type[EpochEvent]]
    # What a run is judged by: fields of step and of epoch events, the same loss in training and in validation.
    judged_by: ClassVar[tuple[str, str]] = ("train_loss", "val_loss")

    def __init_subclass__(cls) -> None:
        EVENT_TYPES.update({kind.__name__: kind for kind in (cls.step_type, cls.epoch_type)})

    @abstractmethod
    def get_loss_curves(self) -> dict[str, list[float]]:
        """One value per epoch: `train_losses`, `val_losses`, `recon_losses` and the family's own."""

    def _curves(self, **fields: str) -> dict[str, list[float]]:
        shared = {"train_losses": "train_loss", "val_losses": "val_loss", "recon_losses": "val_recon_loss"}
        named = {**shared, **fields}
        return {curve: [getattr(e, name) for e in self.epoch_metrics] for curve, name in named.items()}

    def add_step(self, metrics: Step) -> None:
        """Append the event of one step."""
        self.step_metrics.append(metrics)

    def add_epoch(self, metrics: Epoch) -> None:
        """Append the event of one epoch."""
        self.epoch_metrics.append(metrics)

    def judged_validation(self, event: Epoch) -> float:
        """The validation loss that an epoch is judged by."""
        return float(getattr(event, self.judged_by[1]))

    def judged_training(self, epoch: int) -> float:
        """The training loss that an epoch is judged by: the mean over its finite steps, NaN without any."""
        first, stop = (bisect_left(self.step_metrics, at, key=lambda step: step.epoch) for at in (epoch, epoch + 1))
        return finite_mean(float(getattr(step, self.judged_by[0])) for step in self.step_metrics[first:stop])

    def get_best_epoch(self) -> int | None:
        """The first epoch with the lowest finite loss that a run is judged by, or None when there is none.

        Where several have it, their whole validation losses decide.
        """
        losses = [(self.judged_validation(e), e.val_loss, e.epoch) for e in self.epoch_metrics]
        return min((each for each in losses if all(map(math.isfinite, each))), default=(0, 0, None))[2]

    def compute_eta(self, current_epoch: int, total_epochs: int) -> float:
        """Seconds until the end of `total_epochs`, at the pace of the epochs up to `current_epoch`."""
        return seconds_left(self.epoch_ends[: current_epoch + 1], total_epochs)

    @property
    def epoch_ends(self) -> list[float]:
        """The seconds after which each epoch ended."""
        return [event.elapsed_seconds for event in self.epoch_metrics]

    def is_overfitting(self, threshold: float = OVERFITTING_GAP) -> bool:
        """True if the last epoch's overfitting gap exceeds `threshold`."""
        return bool(self.epoch_metrics) and self.epoch_metrics[-1].overfitting_gap > threshold

    def to_dict(self) -> dict[str, Any]:
        """A strict-JSON dictionary; `from_dict` makes an equal history of it."""
        return {
            "step_metrics": [to_json(_plain(e)) for e in self.step_metrics],
            "epoch_metrics": [to_json(_plain(e)) for e in self.epoch_metrics],
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The history that `to_dict` wrote; raises `KeyError` or `TypeError` for anything else."""
        return cls(
            [_event(cls.step_type, item) for item in data["step_metrics"]],
            [_event(cls.epoch_type, item) for item in data["epoch_metrics"]],
        )

    def __eq__(self, other: object) -> bool:
        # By `to_dict`, in which NaN is a name: NaN is not equal to itself, but a history with one equals its copy.
        return isinstance(other, type(self)) and other.to_dict() == self.to_dict()


def seconds_left(epoch_ends: Sequence[float], total_epochs: int) -> float:
    """Seconds for the rest of `total_epochs` at the pace of those that have ended, the first of which is slower."""
    done = len(epoch_ends)
    if not done:
        return 0.0
    pace = (epoch_ends[-1] - epoch_ends[0]) / (done - 1) if done > 1 else epoch_ends[0]
    return pace * max(0, total_epochs - done)


class VQMetricsHistory(History[VQStepMetrics, VQEpochMetrics]):
    """The history of an RVQ-VAE run, judged by the reconstruction loss: nobody hears the commitment loss."""

    step_type, epoch_type = VQStepMetrics, VQEpochMetrics
    judged_by = ("recon_loss", "val_recon_loss")

    def get_loss_curves(self) -> dict[str, list[float]]:
        """One value per epoch: `train_losses`, `val_losses`, `recon_losses`, `commit_losses`."""
        return self._curves(commit_losses="val_commit_loss")


class MetricsHistory(History[StepMetrics, EpochMetrics]):
    """The history of a VAE run."""

    step_type, epoch_type = StepMetrics, EpochMetrics

    def get_loss_curves(self) -> dict[str, list[float]]:
        """One value per epoch: `train_losses`, `val_losses`, `recon_losses`, `kl_losses`."""
        return self._curves(kl_losses="val_kl_loss")


class PriorHistory(History[PriorStepMetrics, PriorEpochMetrics]):
    """The history of a prior."""

    step_type, epoch_type = PriorStepMetrics, PriorEpochMetrics

    def get_loss_curves(self) -> dict[str, list[float]]:
        """One value per epoch: `train_losses`, `val_losses`, and `recon_losses`, the bits of a code."""
        return self._curves(recon_losses="val_code_bits")
