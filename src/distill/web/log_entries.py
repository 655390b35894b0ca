"""The entries of a run's log as the page gets them: each with its type, epochs with verdicts, warnings in its words."""

import json
import re
from collections.abc import Callable, Iterable
from typing import Any

from distill.notices import Notice, Remark, notice_from_dict
from distill.training.metrics import EVENT_TYPES, EpochEvent, PreviewEvent, StepEvent, TrainingCompleteEvent
from distill.training.run_folder import WARNING
from distill.web.advice import level_verdicts
from distill.web.messages import in_page_words

Entry = dict[str, Any]

_TYPES = {StepEvent: "step", EpochEvent: "epoch", PreviewEvent: "preview", TrainingCompleteEvent: "complete"}
_FIGURES = re.compile(r"(?<!Level )\d")  # in a sentence: the rest is the same from epoch to epoch


def entry_type(event: str) -> str | None:
    """The kind of a log entry, of whichever family; None for an event that this version does not know."""
    if event == WARNING:
        return "warning"
    known = EVENT_TYPES.get(event, object)
    return next((name for base, name in _TYPES.items() if issubclass(known, base)), None)


def annotated(entries: Iterable[Entry], facts: Callable[[], Entry]) -> list[Entry]:
    """Log entries with what the page needs beside them; `facts` gives the run's record, where it is needed."""
    return [_annotated(entry | {"type": entry_type(entry["event"])}, facts) for entry in entries]


def _annotated(entry: Entry, facts: Callable[[], Entry]) -> Entry:
    if entry["type"] == "warning":
        notice = _notice(entry)
        return entry | {"message": in_page_words(str(notice)), "subject": _subject(notice)}
    if entry["type"] == "epoch" and (health := entry.get("codebook_health")):
        size, vectors = facts()["model_settings"].get("codebook_size"), facts().get("validation_vectors", 0)
        return entry | {"verdicts": level_verdicts(health, size, vectors)}
    return entry


def _notice(entry: Entry) -> Notice:
    try:
        return notice_from_dict(entry)
    except TypeError:  # of a version in which this kind had other values
        return Remark(entry["message"])


def _subject(notice: Notice) -> str:
    """A string that is the same for notices of which a later one replaces an earlier one."""
    if isinstance(notice, Remark):  # from a log of before notices had kinds
        return _FIGURES.sub("", notice.text)
    return json.dumps(notice.subject)
