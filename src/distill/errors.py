"""Every error distill raises on purpose: what was found and what was expected, and, as a value, what would help.

An error does not know who reads it. Where what helps is done differently on the command line, on the page and in
Python, it is a `Remedy`, which each of them words in its own way (`DistillError.worded`); elsewhere it is a sentence.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self


@dataclass(frozen=True)
class Remedy:
    """Something a user can do, as a value; `str` words it for somebody who calls distill from Python."""

    kinds: ClassVar[dict[str, type["Remedy"]]] = {}

    def __init_subclass__(cls) -> None:
        Remedy.kinds[cls.__name__] = cls

    def __str__(self) -> str:
        raise NotImplementedError


@dataclass(frozen=True)
class RaiseLimit(Remedy):
    """Allow more (or, of a lower bound, less) of a sound file: the field `name` of `AudioLimits` to be `value`."""

    name: str
    value: str

    def __str__(self) -> str:
        return f"allow it with AudioLimits({self.name}={self.value})"


@dataclass(frozen=True)
class LowerLearningRate(Remedy):
    """Take smaller steps, and look for files that are not what they seem."""

    def __str__(self) -> str:
        return "try a lower learning_rate, and look for odd files among the sounds"


@dataclass(frozen=True)
class ResumeRun(Remedy):
    """Go on with a run from its last checkpoint, once `first` is done."""

    first: str = ""

    def __str__(self) -> str:
        return f"{self.first}{', then ' if self.first else ''}continue the run with resume_from"


@dataclass(frozen=True)
class NewRun(Remedy):
    """Begin a new run instead of going on with one, unless `otherwise` is done."""

    otherwise: str = ""

    def __str__(self) -> str:
        return f"{self.otherwise}{', or ' if self.otherwise else ''}start a new run, without resume_from"


@dataclass(frozen=True)
class UsedFolder(Remedy):
    """Go on with the run that a folder holds already, or put the new one elsewhere."""

    def __str__(self) -> str:
        return "continue that run with resume_from, or give another output_dir"


@dataclass(frozen=True)
class ListModels(Remedy):
    """Look which models there are."""

    def __str__(self) -> str:
        return "ModelLibrary.entries() lists the models there are"


@dataclass(frozen=True)
class GeneratingFamily(Remedy):
    """Use a model of a family that makes new sounds; this one only plays sounds through itself."""

    families: tuple[str, ...]

    def __str__(self) -> str:
        return f"use a model of the family {' or '.join(self.families)}; reconstruct plays sounds through this one"


Vocabulary = Mapping[type[Remedy], Callable[[Any], str]]


def worded(reason: str, remedy: Remedy | str, vocabulary: Vocabulary) -> str:
    """A reason and what would help in one sentence, the latter worded as `vocabulary` has it."""
    helps = remedy if isinstance(remedy, str) else vocabulary.get(type(remedy), str)(remedy)
    return f"{reason}; {helps}" if helps else reason


def remedy_to_json(remedy: Remedy | str) -> Any:
    """A remedy as JSON can hold it; `remedy_from_json` makes an equal one of it."""
    if isinstance(remedy, str):
        return remedy
    return {"kind": type(remedy).__name__, "values": dataclasses.asdict(remedy)}


def remedy_from_json(value: Any) -> Remedy | str:
    """The remedy that `remedy_to_json` was given; raises `ValueError` for anything else."""
    if isinstance(value, str):
        return value
    try:
        return Remedy.kinds[value["kind"]](**value["values"])
    except (LookupError, TypeError) as error:
        raise ValueError("not a remedy") from error


class DistillError(Exception):
    """The root of the tree: a `reason`, and what would help, or nothing."""

    def __init__(self, reason: str, remedy: Remedy | str = "") -> None:
        self.reason, self.remedy = reason, remedy
        super().__init__(worded(reason, remedy, {}))  # one argument: of two, an `OSError` takes the first for a number

    def worded(self, vocabulary: Vocabulary) -> str:
        """The whole message, its remedy worded as `vocabulary` has it."""
        return worded(self.reason, self.remedy, vocabulary)

    def with_reason(self, reason: str) -> Self:
        """An error of the same kind and with the same remedy for another reason; it has no traceback yet."""
        return type(self)(reason, self.remedy)

    def to_dict(self) -> dict[str, Any]:
        """Reason and remedy as JSON can hold them; `from_dict` of the same class makes an error like this of them."""
        return {"reason": self.reason, "remedy": remedy_to_json(self.remedy)}

    @classmethod
    def from_dict(cls, value: Any) -> Self:
        """An error of this class with the reason and remedy that `to_dict` gave; raises `ValueError`."""
        try:
            return cls(str(value["reason"]), remedy_from_json(value["remedy"]))
        except (LookupError, TypeError) as error:
            raise ValueError("not an error") from error


class ConfigError(DistillError):
    """A setting is unknown, of the wrong type or out of range."""


class AudioError(DistillError):
    """A file could not be decoded to sound."""


class CollectionError(DistillError):
    """A folder or list of files does not hold what training needs."""


class ModelFileError(DistillError, ValueError):
    """A model file is damaged, foreign, or of another family or version."""


class CheckpointError(DistillError):
    """A checkpoint is missing, damaged, or belongs to another run."""


class LibraryError(DistillError):
    """A model is not in the library, or a name does not tell which one is meant."""


class StorageError(DistillError, OSError):
    """A file could not be written; what was there before is untouched."""


class TrainingError(DistillError):
    """Training cannot start or go on."""


class Cancelled(DistillError):
    """The caller asked to stop before a run had begun, or while it waited for sounds; nothing is lost."""
