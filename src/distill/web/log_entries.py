"""The entries of a run's log as the page gets them: with types, epochs with verdicts, warnings worded for the page."""

import json
from collections.abc import Iterable
from typing import Any

from distill.notices import Notice, Remark, notice_from_dict
from distill.training.metrics import EVENT_TYPES, EpochEvent, PreviewEvent, StepEvent, TrainingCompleteEvent
from distill.training.run_folder import WARNING
from distill.training.run_info import RunInfo
from distill.web.advice import level_verdicts
from distill.web.messages import PAGE

Entry = dict[str, Any]

_TYPES = {StepEvent: "step", EpochEvent: "epoch", PreviewEvent: "preview", TrainingCompleteEvent: "complete"}


def entry_type(event: str) -> str | None:
    """The type of a log entry, the same for all families; None for an event that this version does not know.

    The page must not know the class names of events, which differ by family.
    """
    if event == WARNING:
        return "warning"
    known = EVENT_TYPES.get(event, object)
    return next((name for base, name in _TYPES.items() if issubclass(known, base)), None)


def annotated(entries: Iterable[Entry], info: RunInfo | None) -> list[Entry]:
    """Add to log entries what the page needs beside them; `info` is the run's record."""
    return [_annotated(entry | {"type": entry_type(entry["event"])}, info) for entry in entries]


def _annotated(entry: Entry, info: RunInfo | None) -> Entry:
    if entry["type"] == "warning":
        notice = _notice(entry)
        return entry | {"message": notice.worded(PAGE), "subject": _subject(notice)}
    health = entry.get("codebook_health")
    size = info.model_settings.get("codebook_size") if info else None
    if entry["type"] == "epoch" and health and info and size:
        return entry | {"verdicts": level_verdicts(health, size, info.validation_vectors or 0)}
    return entry


def _notice(entry: Entry) -> Notice:
    try:
        return notice_from_dict(entry)
    except (TypeError, ValueError):  # from a version in which this kind had other values
        return Remark(entry["message"])


def _subject(notice: Notice) -> str:
    """A string that is the same for notices of which a later one replaces the earlier ones."""
    return json.dumps(notice.subject)
