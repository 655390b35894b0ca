"""The errors that distill raises on purpose: each has a reason (found, expected) and a remedy.

An error does not know who reads it. A remedy that differs between command line, web page and Python is a `Remedy`,
which each of them words in its own way (`DistillError.worded`); any other is a sentence.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

# Remedies


@dataclass(frozen=True)
class Remedy:
    """The root of remedies: something a user can do, as a value; `str` words it for callers from Python."""

    kinds: ClassVar[dict[str, type["Remedy"]]] = {}  # by name, which is how JSON refers to them

    def __init_subclass__(cls) -> None:
        Remedy.kinds[cls.__name__] = cls

    def __str__(self) -> str:
        raise NotImplementedError


@dataclass(frozen=True)
class RaiseLimit(Remedy):
    """Relax a limit on sound files: set the field `name` of `AudioLimits` to `value`."""

    name: str
    value: str

    def __str__(self) -> str:
        return f"allow it with AudioLimits({self.name}={self.value})"


@dataclass(frozen=True)
class LowerLearningRate(Remedy):
    """Lower the learning rate, and look for odd files among the sounds."""

    def __str__(self) -> str:
        return "try a lower learning_rate, and look for odd files among the sounds"


@dataclass(frozen=True)
class ResumeRun(Remedy):
    """Resume a run from its last checkpoint, once `first` is done."""

    first: str = ""

    def __str__(self) -> str:
        return f"{self.first}{', then ' if self.first else ''}continue the run with resume_from"


@dataclass(frozen=True)
class FindSounds(Remedy):
    """Say where the sounds of a run are now, or put them back."""

    def __str__(self) -> str:
        return "give `files` where they are now (distill.training.moved finds them), or put them back"


@dataclass(frozen=True)
class NewRun(Remedy):
    """Start a new run instead of resuming one, unless `otherwise` is done."""

    otherwise: str = ""

    def __str__(self) -> str:
        return f"{self.otherwise}{', or ' if self.otherwise else ''}start a new run, without resume_from"


@dataclass(frozen=True)
class UsedFolder(Remedy):
    """Resume the run that a folder already holds, or choose another folder."""

    def __str__(self) -> str:
        return "continue that run with resume_from, or give another output_dir"


@dataclass(frozen=True)
class ListModels(Remedy):
    """List the models that exist."""

    def __str__(self) -> str:
        return "ModelLibrary.entries() lists the models there are"


@dataclass(frozen=True)
class GeneratingFamily(Remedy):
    """Use a model of a family that generates sounds; this one can only reconstruct."""

    families: str  # their names

    def __str__(self) -> str:
        return f"use a model of the family {self.families}; reconstruct plays sounds through this one"


@dataclass(frozen=True)
class CutRecordings(Remedy):
    """Cut a long recording into several sounds, where it is silent or into equal lengths."""

    def __str__(self) -> str:
        return "distill.data.cutting.cut_recordings makes several sounds of a long recording"


@dataclass(frozen=True)
class TrainPrior(Remedy):
    """Train a prior for the model, on the sounds it was trained on."""

    def __str__(self) -> str:
        return "distill.train_prior(model, folder) adds one, from the sounds that the model was trained on"


Vocabulary = Mapping[type[Remedy], Callable[[Any], str]]


def worded(reason: str, remedy: Remedy | str, vocabulary: Vocabulary) -> str:
    """The reason and the remedy in one sentence, the latter in the words of `vocabulary`, if it has any for it."""
    helps = remedy if isinstance(remedy, str) else vocabulary.get(type(remedy), str)(remedy)
    return f"{reason}; {helps}" if helps else reason


def remedy_to_json(remedy: Remedy | str) -> Any:
    """The JSON form of a remedy; `remedy_from_json` makes an equal one of it."""
    if isinstance(remedy, str):
        return remedy
    return {"kind": type(remedy).__name__, "values": dataclasses.asdict(remedy)}


def remedy_from_json(value: Any) -> Remedy | str:
    """The inverse of `remedy_to_json`; raises `ValueError` for anything else."""
    if isinstance(value, str):
        return value
    try:
        return Remedy.kinds[value["kind"]](**value["values"])
    except (LookupError, TypeError) as error:
        raise ValueError("not a remedy") from error


# Errors


class DistillError(Exception):
    """The root of all errors: a `reason` and a `remedy`, which may be empty."""

    def __init__(self, reason: str, remedy: Remedy | str = "") -> None:
        self.reason, self.remedy = reason, remedy
        super().__init__(worded(reason, remedy, {}))  # one argument: an `OSError` takes the first of two for its errno

    def worded(self, vocabulary: Vocabulary) -> str:
        """The whole message, its remedy in the words of `vocabulary`."""
        return worded(self.reason, self.remedy, vocabulary)

    def with_reason(self, reason: str) -> Self:
        """An error of the same class and with the same remedy, for another reason; it has no traceback."""
        return type(self)(reason, self.remedy)

    def to_dict(self) -> dict[str, Any]:
        """The reason and the remedy in JSON form; `from_dict` of the same class makes an equal error of them."""
        return {"reason": self.reason, "remedy": remedy_to_json(self.remedy)}

    @classmethod
    def from_dict(cls, value: Any) -> Self:
        """The inverse of `to_dict`; raises `ValueError` for anything else."""
        try:
            return cls(str(value["reason"]), remedy_from_json(value["remedy"]))
        except (LookupError, TypeError) as error:
            raise ValueError("not an error") from error


class ConfigError(DistillError):
    """A setting is unknown, of the wrong type or out of range."""


class AudioError(DistillError):
    """A sound file could not be decoded."""


class CollectionError(DistillError):
    """A folder or list of files does not hold what training needs."""


class ModelFileError(DistillError, ValueError):
    """A model file is damaged, foreign, or of another family or version."""


class CodesError(DistillError, ValueError):
    """Codes are damaged, impossible, or of another model."""


class CheckpointError(DistillError):
    """A checkpoint is missing, damaged, or belongs to another run."""


class LibraryError(DistillError):
    """A model is not in the library, or a name is ambiguous."""


class ExportError(DistillError):
    """A model could not be exported for other programs."""


class HubError(DistillError):
    """A model could not be sent to the hub or fetched from it."""


class StorageError(DistillError, OSError):
    """A file could not be written; its previous content is untouched."""


class TrainingError(DistillError):
    """Training cannot start or continue."""


class Cancelled(DistillError):
    """The caller cancelled a run before it had begun, or while it waited for sounds; nothing is lost."""
