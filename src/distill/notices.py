"""Notices: what distill tells while it goes on, as data. A notice has a kind and its numbers, and displays word it.

They go through `logging` like any message (`logger.warning(notice)`): who knows no kind prints `str(notice)`.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from distill.errors import Remedy, Vocabulary, remedy_from_json, remedy_to_json, worded
from distill.storage import readable_size

_REMEDY = "remedy"  # the one field whose values have kinds of their own


@dataclass(frozen=True)
class Notice:
    """The root of all kinds: a kind has fields, a sentence in which they stand, and what of them it is about."""

    kinds: ClassVar[dict[str, type["Notice"]]] = {}
    text: ClassVar[str] = ""
    about: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        Notice.kinds[cls.__name__] = cls

    def __str__(self) -> str:
        return self.worded({})

    def worded(self, vocabulary: Vocabulary) -> str:
        """The notice as a sentence; what helps, if it tells that, as `vocabulary` has it."""
        return worded(self.text.format(**vars(self)), getattr(self, _REMEDY, ""), vocabulary)

    @property
    def subject(self) -> tuple[Any, ...]:
        """The kind, and what of it the notice is about: in a display a later one replaces an earlier one."""
        return (type(self).__name__, *(getattr(self, name) for name in self.about))

    def to_dict(self) -> dict[str, Any]:
        """Its kind and values, as JSON can hold them; `notice_from_dict` makes an equal notice of them."""
        values = {name: remedy_to_json(value) if name == _REMEDY else value for name, value in vars(self).items()}
        return {"kind": type(self).__name__, "values": values}


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
class Remark(Notice):
    """A sentence that no kind is known for: from a log of an earlier version, or from elsewhere."""

    message: str
    text = "{message}"
    about = ("message",)


@dataclass(frozen=True)
class FileLeftOut(Notice):
    """A sound file is not trained on."""

    file: str
    reason: str
    remedy: Remedy | str = ""
    text = "{file} left out: {reason}"
    about = ("file",)


@dataclass(frozen=True)
class LevelUnderused(Notice):
    """A level of codes is used too little, counted over the validation set."""

    level: int
    utilization: float
    text = "Level {level}: utilization {utilization:.0%} (below 30% threshold)"
    about = ("level",)


@dataclass(frozen=True)
class Overfitting(Notice):
    """Validation loss exceeds training loss by a share of it."""

    gap: float
    text = "validation loss is {gap:.0%} above training loss; the model is learning the training files by heart"


@dataclass(frozen=True)
class LatentsActive(Notice):
    """The number of latent dimensions of a VAE that say anything about the sound; `divergence` is their KL in nats."""

    active: int
    dimensions: int
    divergence: float
    text = "latent space: {active} of {dimensions} dimensions active, KL {divergence:.1f} nats"


@dataclass(frozen=True)
class LatentsCollapsed(Notice):
    """Hardly any latent dimension of a VAE says anything about the sound (posterior collapse)."""

    active: int
    dimensions: int
    text = (
        "only {active} of {dimensions} latent dimensions say anything about the sound (posterior collapse); "
        "train longer, or with a lower KL weight (kl_weight_max)"
    )


@dataclass(frozen=True)
class StepSkipped(Notice):
    """The loss or a gradient of a step was not finite, so nothing was learnt from it."""

    epoch: int
    step: int
    text = "epoch {epoch} step {step}: loss or gradient is not finite; the step was skipped"


@dataclass(frozen=True)
class RolledBack(Notice):
    """A run went back to an epoch, counted from 1, because no step led on from where it was."""

    skipped: int
    back_to: int
    times: int
    at_most: int
    text = (
        "{skipped} steps in a row were not finite: back to epoch {back_to}, with half the learning rate "
        "(time {times} of at most {at_most})"
    )


@dataclass(frozen=True)
class BudgetTooShort(Notice):
    """One epoch takes longer than the time that was given."""

    minutes: float
    text = "going through the sounds once takes longer than the {minutes:g} minutes given"


@dataclass(frozen=True)
class CheckpointDamaged(Notice):
    """A checkpoint could not be read, and an earlier one is taken."""

    reason: str
    instead: str
    text = "{reason}; kept aside, going on from the one before it, {instead}"


@dataclass(frozen=True)
class EnvironmentChanged(Notice):
    """A run goes on with another device, torch, or number of threads or processes than it had: (before, now) each."""

    changes: dict[str, tuple[str, str]]

    def worded(self, vocabulary: Vocabulary) -> str:
        """The changes, and what may come of them."""
        changes = ", ".join(f"{name} {before} → {now}" for name, (before, now) in self.changes.items())
        how_much = "" if "processes" in self.changes else " in the last digits"
        sentence = f"the run goes on in other circumstances ({changes}); its outcome can differ{how_much}"
        return worded(sentence, "", vocabulary)


@dataclass(frozen=True)
class DiskNearlyFull(Notice):
    """A run will need more room than there is: `needed` and `free`, in bytes."""

    place: str
    needed: int
    free: int
    about = ("place",)

    def worded(self, vocabulary: Vocabulary) -> str:
        """The sizes as people read them."""
        needed, free = readable_size(self.needed), readable_size(self.free)
        reason = f"{self.place}: the run will need about {needed} there, and {free} are free"
        return worded(reason, "make room, or it will have to stop", vocabulary)


@dataclass(frozen=True)
class LibraryIndexDamaged(Notice):
    """The index of a library could not be used; it is set aside as `kept_as`, and another made of the model files."""

    index: str
    reason: str
    kept_as: str
    text = (
        "the library index {index} is damaged ({reason}); it was kept as {kept_as}, and a new one was made from the "
        "model files"
    )
    about = ("index",)


@dataclass(frozen=True)
class ModelNotListed(Notice):
    """A file in a library is not a model that can be read; the reason names it."""

    file: str
    reason: str
    remedy: Remedy | str = ""
    text = "not listed: {reason}"
    about = ("file",)


@dataclass(frozen=True)
class QueueNotSaved(Notice):
    """Runs that wait in a server's queue are not there any more when it has ended."""

    reason: str
    remedy: Remedy | str = ""
    text = "waiting runs will be lost when this server ends: {reason}"


@dataclass(frozen=True)
class QueueUnreadable(Notice):
    """The file in which the last server noted the runs that waited cannot be read."""

    file: str
    reason: str
    text = "{file} cannot be read ({reason}); the runs that were waiting are lost"


@dataclass(frozen=True)
class QueuedRunDropped(Notice):
    """A run that waited when the last server ended cannot be carried out any more; there can be several."""

    reason: str
    remedy: Remedy | str = ""
    text = "a waiting run was dropped: {reason}"
    about = ("reason",)
