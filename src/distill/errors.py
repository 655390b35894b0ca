"""Every error distill raises on purpose: a message says what was found, what was expected, what to do."""


class DistillError(Exception):
    """The root of the tree; the command line prints its message and leaves with code 1."""


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
