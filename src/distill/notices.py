"""Notices: what distill tells while it goes on, as data. A notice has a kind and its numbers, and displays word it.

They go through `logging` like any message (`logger.warning(notice)`): who knows no kind prints `str(notice)`.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from distill.errors import Remedy, Vocabulary, remedy_from_json, remedy_to_json, worded

_REMEDY = "remedy"  # the one field whose values have kinds of their own


@dataclass(frozen=True)
class Notice:
    """The root of all kinds; `subject` says which earlier notice a later one replaces in a display.

    A kind defines `__str__`, or `worded` where it passes on what an error says.
    """

    kinds: ClassVar[dict[str, type["Notice"]]] = {}

    def __init_subclass__(cls) -> None:
        Notice.kinds[cls.__name__] = cls

    def __str__(self) -> str:
        return self.worded({})

    def worded(self, vocabulary: Vocabulary) -> str:
        """The notice as a sentence; what helps, if it tells that, as `vocabulary` has it."""
        del vocabulary
        return str(self)

    @property
    def subject(self) -> tuple[Any, ...]:
        """The kind, and what of it the notice is about."""
        return (type(self).__name__,)

    def to_dict(self) -> dict[str, Any]:
        """Its kind and values, as JSON can hold them; `notice_from_dict` makes an equal notice of them."""
        values = {name: remedy_to_json(value) if name == _REMEDY else value for name, value in vars(self).items()}
        return {"kind": type(self).__name__, "values": values}


@dataclass(frozen=True)
class Remark(Notice):
    """A sentence that no kind is known for: from a log of an earlier version, or from elsewhere."""

    text: str

    def __str__(self) -> str:
        return self.text

    @property
    def subject(self) -> tuple[Any, ...]:
        """The sentence."""
        return (type(self).__name__, self.text)


def notice_from_dict(entry: dict[str, Any]) -> Notice:
    """The notice that an entry of a log holds, a `Remark` where it has only a message.

    Raises `TypeError` or `ValueError` for values that are not those of its kind.
    """
    kind = Notice.kinds.get(str(entry.get("kind")))
    values = entry.get("values")
    if kind is None or not isinstance(values, dict):
        return Remark(str(entry.get("message", "")))
    if _REMEDY in values:
        values = values | {_REMEDY: remedy_from_json(values[_REMEDY])}
    return kind(**values)


@dataclass(frozen=True)
class FileLeftOut(Notice):
    """A sound file is not trained on."""

    file: str
    reason: str
    remedy: Remedy | str = ""

    def worded(self, vocabulary: Vocabulary) -> str:
        """The file, and what its reader said of it."""
        return f"{self.file} left out: {worded(self.reason, self.remedy, vocabulary)}"

    @property
    def subject(self) -> tuple[Any, ...]:
        """The file."""
        return (type(self).__name__, self.file)


@dataclass(frozen=True)
class LevelUnderused(Notice):
    """A level of codes is used too little, counted over the validation set."""

    level: int
    utilization: float

    def __str__(self) -> str:
        return f"Level {self.level}: utilization {self.utilization:.0%} (below 30% threshold)"

    @property
    def subject(self) -> tuple[Any, ...]:
        """The level."""
        return (type(self).__name__, self.level)


@dataclass(frozen=True)
class Overfitting(Notice):
    """Validation loss exceeds training loss by a share of it."""

    gap: float

    def __str__(self) -> str:
        return (
            f"validation loss is {self.gap:.0%} above training loss; the model is learning the training files by heart"
        )


@dataclass(frozen=True)
class LatentsActive(Notice):
    """The number of latent dimensions of a VAE that say anything about the sound; `divergence` is their KL in nats."""

    active: int
    dimensions: int
    divergence: float

    def __str__(self) -> str:
        return f"latent space: {self.active} of {self.dimensions} dimensions active, KL {self.divergence:.1f} nats"


@dataclass(frozen=True)
class LatentsCollapsed(Notice):
    """Hardly any latent dimension of a VAE says anything about the sound (posterior collapse)."""

    active: int
    dimensions: int

    def __str__(self) -> str:
        return (
            f"only {self.active} of {self.dimensions} latent dimensions say anything about the sound "
            "(posterior collapse); train longer, or with a lower KL weight (kl_weight_max)"
        )


@dataclass(frozen=True)
class StepSkipped(Notice):
    """The loss or a gradient of a step was not finite, so nothing was learnt from it."""

    epoch: int
    step: int

    def __str__(self) -> str:
        return f"epoch {self.epoch} step {self.step}: loss or gradient is not finite; the step was skipped"


@dataclass(frozen=True)
class RolledBack(Notice):
    """A run went back to a checkpoint, because no step led on from where it was."""

    skipped: int
    epoch: int
    times: int
    at_most: int

    def __str__(self) -> str:
        return (
            f"{self.skipped} steps in a row were not finite: back to epoch {self.epoch + 1}, with half the learning "
            f"rate (time {self.times} of at most {self.at_most})"
        )


@dataclass(frozen=True)
class BudgetTooShort(Notice):
    """One epoch takes longer than the time that was given."""

    minutes: float

    def __str__(self) -> str:
        return f"going through the sounds once takes longer than the {self.minutes:g} minutes given"


@dataclass(frozen=True)
class CheckpointDamaged(Notice):
    """A checkpoint could not be read, and an earlier one is taken."""

    reason: str
    instead: str

    def __str__(self) -> str:
        return f"{self.reason}; kept aside, going on from the one before it, {self.instead}"


@dataclass(frozen=True)
class EnvironmentChanged(Notice):
    """A run goes on with another device, torch, or number of threads or processes than it had: (before, now) each."""

    changes: dict[str, tuple[str, str]]

    def __str__(self) -> str:
        changes = ", ".join(f"{name} {before} → {now}" for name, (before, now) in self.changes.items())
        how_much = "" if "processes" in self.changes else " in the last digits"
        return f"the run goes on in other circumstances ({changes}); its outcome can differ{how_much}"


@dataclass(frozen=True)
class DiskNearlyFull(Notice):
    """A run will need more room than there is: `needed` and `free`, in bytes."""

    place: str
    needed: int
    free: int

    def __str__(self) -> str:
        from distill.storage import readable_size

        return (
            f"{self.place}: the run will need about {readable_size(self.needed)} there, "
            f"and {readable_size(self.free)} are free; make room, or it will have to stop"
        )

    @property
    def subject(self) -> tuple[Any, ...]:
        """The place."""
        return (type(self).__name__, self.place)


@dataclass(frozen=True)
class LibraryIndexDamaged(Notice):
    """The index of a library could not be used; it is set aside as `kept_as`, and another made of the model files."""

    index: str
    reason: str
    kept_as: str

    def __str__(self) -> str:
        return (
            f"the library index {self.index} is damaged ({self.reason}); it was kept as {self.kept_as}, "
            "and a new one was made from the model files"
        )

    @property
    def subject(self) -> tuple[Any, ...]:
        """The index."""
        return (type(self).__name__, self.index)


@dataclass(frozen=True)
class ModelNotListed(Notice):
    """A file in a library is not a model that can be read; the reason names it."""

    file: str
    reason: str
    remedy: Remedy | str = ""

    def worded(self, vocabulary: Vocabulary) -> str:
        """The reason, for it begins with the file."""
        return f"not listed: {worded(self.reason, self.remedy, vocabulary)}"

    @property
    def subject(self) -> tuple[Any, ...]:
        """The file."""
        return (type(self).__name__, self.file)


@dataclass(frozen=True)
class QueueNotSaved(Notice):
    """Runs that wait in a server's queue are not there any more when it has ended."""

    reason: str
    remedy: Remedy | str = ""

    def worded(self, vocabulary: Vocabulary) -> str:
        """The consequence, and why."""
        return f"waiting runs will be lost when this server ends: {worded(self.reason, self.remedy, vocabulary)}"


@dataclass(frozen=True)
class QueueUnreadable(Notice):
    """The file in which the last server noted the runs that waited cannot be read."""

    file: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file} cannot be read ({self.reason}); the runs that were waiting are lost"


@dataclass(frozen=True)
class QueuedRunDropped(Notice):
    """A run that waited when the last server ended cannot be carried out any more."""

    reason: str
    remedy: Remedy | str = ""

    def worded(self, vocabulary: Vocabulary) -> str:
        """The reason."""
        return f"a waiting run was dropped: {worded(self.reason, self.remedy, vocabulary)}"

    @property
    def subject(self) -> tuple[Any, ...]:
        """The reason: there can be several such runs."""
        return (type(self).__name__, self.reason)
