"""Every error distill raises on purpose: what was found and what was expected, and, as a value, what would help.

An error does not know who reads it. Where what helps is done differently on the command line, on the page and in
Python, it is a `Remedy`, which each of them words in its own way (`DistillError.worded`); elsewhere it is a sentence.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Remedy:
    """Something a user can do, as a value; `str` words it for somebody who calls distill from Python."""

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
        return f"{self.first}{', then ' if self.first else ''}go on with the run by resume_from"


@dataclass(frozen=True)
class NewRun(Remedy):
    """Begin a new run instead of going on with one, unless `otherwise` is done."""

    otherwise: str = ""

    def __str__(self) -> str:
        return f"{self.otherwise}{', or ' if self.otherwise else ''}start a new run, without resume_from"


@dataclass(frozen=True)
class UsedFolder(Remedy):
    """Go on with the run that a folder holds, or choose another folder."""

    def __str__(self) -> str:
        return "go on with it by resume_from, or give another folder"


@dataclass(frozen=True)
class ListModels(Remedy):
    """Look which models there are."""

    def __str__(self) -> str:
        return "ModelLibrary.entries() has those there are"


@dataclass(frozen=True)
class GeneratingFamily(Remedy):
    """Use a model of a family that makes new sounds; this one only plays sounds through itself."""

    families: tuple[str, ...]

    def __str__(self) -> str:
        return f"use a model of the family {' or '.join(self.families)}; reconstruct plays sounds through this one"


Vocabulary = Mapping[type[Remedy], Callable[[Any], str]]


class DistillError(Exception):
    """The root of the tree: a `reason`, and what would help, or nothing."""

    def __init__(self, reason: str, remedy: Remedy | str = "") -> None:
        self.reason, self.remedy = reason, remedy
        super().__init__(self.worded({}))

    def worded(self, vocabulary: Vocabulary) -> str:
        """The whole message, its remedy worded as `vocabulary` has it."""
        word = vocabulary.get(type(self.remedy), str)  # type: ignore[arg-type]
        helps = word(self.remedy)
        return f"{self.reason}; {helps}" if helps else self.reason


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
