"""The entries of a run's log as the page gets them: with types, epochs with verdicts, warnings worded for the page."""

import json
from collections.abc import Iterable
from typing import Any

from distill.notices import Remark, notice_from_dict
from distill.training.metrics import EVENT_TYPES, EpochEvent, PreviewEvent, StepEvent, TrainingCompleteEvent
from distill.training.run_folder import WARNING, is_entry
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
    """Add to log entries what the page needs beside them; `info` is the run's record. Damaged ones are left out."""
    kinds = ((entry, entry.get("event")) for entry in entries)
    return [
        _annotated(entry | {"type": entry_type(kind)}, info)
        for entry, kind in kinds
        if isinstance(kind, str) and (entry_type(kind) is None or is_entry(entry))
    ]


def _annotated(entry: Entry, info: RunInfo | None) -> Entry:
    if entry["type"] == "warning":
        return entry | _worded(entry)
    health = entry.get("codebook_health")
    size = info.number("codebook_size") if info else None
    if entry["type"] == "epoch" and health and info and size:
        return entry | {"verdicts": level_verdicts(health, int(size), info.validation_vectors or 0)}
    return entry


def _worded(entry: Entry) -> Entry:
    """A warning in the page's words; its `subject` is the same for those of which a later one replaces the earlier."""
    try:
        notice = notice_from_dict(entry)
        message = notice.worded(PAGE)
    except (TypeError, ValueError, LookupError, AttributeError):  # of a version in which its kind had other values
        notice = Remark(entry["message"])
        message = str(notice)
    return {"message": message, "subject": json.dumps(notice.subject)}
