"""The page's words for errors and remedies, which name its buttons and pages and no option of the command line."""

from typing import Any

from distill.errors import (
    CutRecordings,
    DistillError,
    FindSounds,
    GeneratingFamily,
    ListModels,
    LowerLearningRate,
    NewRun,
    RaiseLimit,
    ResumeRun,
    TrainPrior,
    UsedFolder,
    Vocabulary,
)

_WITHIN_LIMITS = {  # the page has no way to raise a limit, so the sounds have to change
    "hours": "cut it into shorter files",
    "gib": "cut it into shorter files",
    "channels": "save it with fewer channels, as stereo or mono",
    "min_hz": "save it with a usual rate, as 44100 or 48000 Hz",
    "max_hz": "save it with a usual rate, as 44100 or 48000 Hz",
    "min_dbfs": "raise its level and save it again",
}

PAGE: Vocabulary = {
    RaiseLimit: lambda it: _WITHIN_LIMITS[it.name],
    LowerLearningRate: lambda _: "try a lower learning rate, and look for odd files on the page of the collection",
    ResumeRun: lambda it: f"{it.first}{', and ' if it.first else ''}continue the run with Resume",
    FindSounds: lambda _: "put them back where they were, or start a new run",
    NewRun: lambda it: f"{it.otherwise}{', or ' if it.otherwise else ''}start a new run",
    UsedFolder: lambda _: "continue that run with Resume, or give another folder",
    GeneratingFamily: lambda _: "its page plays sounds through it; a model of the continuous family makes new ones",
    TrainPrior: lambda _: "models that are trained here from now on have one",
    CutRecordings: lambda _: "below its table, a long recording can be cut into several sounds",
    ListModels: lambda _: "the library shows which models there are",
}

_FIELDS = {
    "author": "the author",
    "licence": "the licence",
    "tags": "the list of tags",
    "path": "the folder",
    "name": "the name",
    "excluded": "the list of sounds to leave out",
    "family": "the family",
    "settings": "the list of settings",
    "collection": "the collection",
    "undo": "the key to undo",
    "which": "the picture",
    "start": "the first epoch",
    "levels": "the number of levels",
    "seed": "the seed",
    "seconds": "the length in seconds",
    "temperature": "the temperature",
    "strength": "the strength",
    "codes": "the codes",
    "columns": "the columns",
    "rows": "the rows",
    "made": "the list of sounds",
    "count": "the number of sounds",
    "sounds": "the list of sounds",
    "avoid": "the list of sounds to keep away from",
    "moves": "the list of directions",
    "how": "the way to make sounds",
}

_WRONG = {
    "missing": "is missing",
    "extra_forbidden": "is not known here",
    "string_too_short": "is empty",
    "string_too_long": "is too long: at most {max_length} characters",
    "string_pattern_mismatch": "has characters that cannot be shown",
    "literal_error": "must be {expected}",
    "greater_than": "must be more than {gt:.15g}",
    "greater_than_equal": "must be at least {ge:.15g}",
    "less_than": "must be less than {lt:.15g}",
    "less_than_equal": "must be at most {le:.15g}",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "finite_number": "must be a number",
    "string_type": "must be text",
    "list_type": "must be a list",
    "dict_type": "must be a list of settings",
}


def in_page_words(error: Exception) -> str:
    """A sentence for any error, whether distill raised it on purpose or not."""
    if isinstance(error, DistillError):
        return error.worded(PAGE)
    if isinstance(error, MemoryError):
        return "out of memory; try a smaller batch size or fewer, shorter files"
    return f"unexpected {type(error).__name__}: {error} (a fault in distill)"


def what_is_wrong(error: dict[str, Any]) -> str:
    """A sentence for one of pydantic's errors on a request."""
    # The first part of the location is the kind of parameter; numbers are places in a list.
    names = [part for part in error["loc"][1:] if isinstance(part, str)]
    if error["type"] == "json_invalid" or not names:
        return "this request cannot be read"
    field = _FIELDS.get(names[0], names[0].replace("_", " "))
    return f"{field} {_WRONG.get(error['type'], 'is not valid').format(**error.get('ctx', {}))}"
