"""Notices: warnings and information from running code, as values that displays word in their own way.

They go through `logging` like any message (`logger.warning(notice)`); a handler that knows no notices prints the `str`.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from distill.errors import Remedy, Vocabulary, remedy_from_json, remedy_to_json, worded
from distill.storage import readable_size

_REMEDY = "remedy"  # the one field whose value may need a conversion for JSON


@dataclass(frozen=True)
class Notice:
    """The root of all kinds of notices: a kind has fields, a sentence to format with them, and a subject."""

    kinds: ClassVar[dict[str, type["Notice"]]] = {}  # by name, which is how logs refer to them
    text: ClassVar[str] = ""  # a format string
    about: ClassVar[tuple[str, ...]] = ()  # names of fields

    def __init_subclass__(cls) -> None:
        Notice.kinds[cls.__name__] = cls

    def __str__(self) -> str:
        return self.worded({})

    def worded(self, vocabulary: Vocabulary) -> str:
        """The notice as a sentence, with its remedy, if it has one, in the words of `vocabulary`."""
        return worded(self.text.format(**vars(self)), getattr(self, _REMEDY, ""), vocabulary)

    @property
    def subject(self) -> tuple[Any, ...]:
        """The kind and the fields named in `about`: in a display a notice replaces an earlier one of its subject."""
        return (type(self).__name__, *(getattr(self, name) for name in self.about))

    def to_dict(self) -> dict[str, Any]:
        """The kind and the values in JSON form; `notice_from_dict` makes an equal notice of them."""
        values = {name: remedy_to_json(value) if name == _REMEDY else value for name, value in vars(self).items()}
        return {"kind": type(self).__name__, "values": values}


def notice_from_dict(entry: dict[str, Any]) -> Notice:
    """The notice in an entry of a log; a `Remark` where it has only a message.

    Raises `TypeError` or `ValueError` for values that do not fit its kind.
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
    """A message without a kind: from the log of an earlier version, or from other code."""

    message: str
    text = "{message}"
    about = ("message",)


# Of training


@dataclass(frozen=True)
class FileLeftOut(Notice):
    """A sound file is left out of training."""

    file: str
    reason: str
    remedy: Remedy | str = ""
    text = "{file} left out: {reason}"
    about = ("file",)


@dataclass(frozen=True)
class LevelUnderused(Notice):
    """A codebook level is underused, counted over the validation set; `utilization` 0 to 1."""

    level: int
    utilization: float
    text = "Level {level}: utilization {utilization:.0%} (below 30% threshold)"
    about = ("level",)


@dataclass(frozen=True)
class Overfitting(Notice):
    """The sounds set aside come out worse by `worse` than after the `best` epoch (from 1); those trained on, better."""

    best: int
    worse: float
    text = (
        "the model is learning the training files by heart: since epoch {best} it has got better at them, but "
        "{worse:.0%} worse at the sounds set aside. The best epoch is kept, so nothing is lost; more sounds help most, "
        "and fewer epochs save time"
    )


@dataclass(frozen=True)
class LossJumped(Notice):
    """The loss on the sounds set aside rose suddenly, from one epoch to the next; `epoch` counts from 1."""

    epoch: int
    before: float
    after: float
    text = (
        "in epoch {epoch} the loss on the sounds set aside jumped from {before:.4f} to {after:.4f}. The best epoch is "
        "kept, so nothing is lost; where this happens again and again, a lower learning rate helps"
    )


@dataclass(frozen=True)
class Copying(Notice):
    """What a prior makes is nearer to the sounds it was trained on than these are to each other; `share` 0 to 1."""

    share: float
    text = (
        "new sounds come close to being copies: {share:.0%} of them, by length, is nearer to one of your sounds than "
        "90% of your sounds are to each other. More sounds help most; a higher temperature makes bolder ones"
    )


@dataclass(frozen=True)
class LatentsActive(Notice):
    """The number of active latent dimensions of a VAE; `divergence` is the KL divergence in nats."""

    active: int
    dimensions: int
    divergence: float
    text = "latent space: {active} of {dimensions} dimensions active, KL {divergence:.1f} nats"


@dataclass(frozen=True)
class LatentsCollapsed(Notice):
    """Hardly any latent dimension of a VAE is active (posterior collapse)."""

    active: int
    dimensions: int
    text = (
        "only {active} of {dimensions} latent dimensions carry information about the sound (posterior collapse); "
        "train longer, or with a lower KL weight (kl_weight_max)"
    )


@dataclass(frozen=True)
class StepSkipped(Notice):
    """A step was skipped because its loss or a gradient was not finite; both numbers count from 1."""

    epoch: int
    step: int
    text = "epoch {epoch} step {step}: loss or gradient is not finite; the step was skipped"


@dataclass(frozen=True)
class RolledBack(Notice):
    """A diverged run was rolled back to an epoch, counted from 1."""

    skipped: int
    back_to: int
    times: int
    at_most: int
    text = (
        "{skipped} steps in a row were not finite: rolled back to epoch {back_to}, with half the learning rate "
        "(rollback {times} of at most {at_most})"
    )


@dataclass(frozen=True)
class BudgetTooShort(Notice):
    """One epoch takes longer than the time budget, and was cut short."""

    minutes: float
    text = "a single pass over the sounds takes longer than the {minutes:g} minutes given"


@dataclass(frozen=True)
class CheckpointDamaged(Notice):
    """A checkpoint could not be read, and an earlier one is used."""

    reason: str
    instead: str
    text = "{reason}; it was set aside, and the run resumes from the one before it, {instead}"


@dataclass(frozen=True)
class EnvironmentChanged(Notice):
    """A run is resumed with another device, torch, or number of threads or processes; `changes` are (before, now)."""

    changes: dict[str, tuple[str, str]]

    def worded(self, vocabulary: Vocabulary) -> str:
        """The changes, and how far the outcome can differ."""
        changes = ", ".join(f"{name} {before} → {now}" for name, (before, now) in self.changes.items())
        # Another number of processes means another batch size; the rest only changes the order of sums.
        how_much = "" if "processes" in self.changes else " in the last digits"
        sentence = f"the run is resumed in another environment ({changes}); its result can differ{how_much}"
        return worded(sentence, "", vocabulary)


@dataclass(frozen=True)
class DiskNearlyFull(Notice):
    """A run will need more disk space than is free; `needed` and `free` in bytes."""

    place: str
    needed: int
    free: int
    about = ("place",)

    def worded(self, vocabulary: Vocabulary) -> str:
        """The notice as a sentence, with readable sizes."""
        needed, free = readable_size(self.needed), readable_size(self.free)
        reason = f"{self.place}: the run will need about {needed} there, but only {free} are free"
        return worded(reason, "free some space, or the run will have to stop", vocabulary)


@dataclass(frozen=True)
class ModelYoung(Notice):
    """A model was still getting better when its training ended, after few epochs."""

    epochs: int
    text = (
        "this model is young: it was still getting better when it stopped after {epochs} epochs, and what it makes is "
        "dull or quiet; train longer"
    )


# Of the model library


@dataclass(frozen=True)
class LibraryIndexDamaged(Notice):
    """The index of a library was damaged; it is kept as `kept_as`, and rebuilt from the model files."""

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
    """A file in a library is not a readable model; the reason names it."""

    file: str
    reason: str
    remedy: Remedy | str = ""
    text = "not listed: {reason}"
    about = ("file",)


# Of the queue of the web app


@dataclass(frozen=True)
class QueueNotSaved(Notice):
    """The queue of waiting runs could not be saved, and will be lost when the server ends."""

    reason: str
    remedy: Remedy | str = ""
    text = "waiting runs will be lost when this server ends: {reason}"


@dataclass(frozen=True)
class QueueUnreadable(Notice):
    """The saved queue of waiting runs cannot be read."""

    file: str
    reason: str
    text = "{file} cannot be read ({reason}); the runs that were waiting are lost"


@dataclass(frozen=True)
class QueuedRunDropped(Notice):
    """A run from the saved queue can no longer be carried out; there can be several."""

    reason: str
    remedy: Remedy | str = ""
    text = "a waiting run was dropped: {reason}"
    about = ("reason",)
