"""A run on disk, complete in one folder: `run.json`, the logs, checkpoints, previews, the picture."""

import itertools
import json
import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from filelock import FileLock, Timeout
from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from distill.errors import CheckpointError, ConfigError, StorageError
from distill.notices import Notice, Remark
from distill.plain_files import json_lines, parse_json, read_plain
from distill.storage import append_text, atomic_write_text, storage_errors, sync
from distill.training.metrics import (
    Event,
    TrainingCompleteEvent,
    event_from_dict,
    event_to_dict,
)
from distill.training.preview_files import preview_files
from distill.training.run_info import RunInfo
from distill.training.strict_json import to_json

WARNING = "Warning"  # the "event" of a log entry that is a warning

_MAX_INFO = 16 << 20  # bytes; the longest part of a real one is the names of its files
_OWN = ("run.json", "events.jsonl", "usage.jsonl", "checkpoints", "previews", "prior", "run.png", ".lock")

_FIRST = re.compile("checkpoint_0+_0+_")  # written before the first step


@dataclass(frozen=True)
class RunFolder:
    """The paths of a run folder, and methods that read and write its files."""

    path: Path

    @property
    def info_path(self) -> Path:
        """The run's record (`RunInfo`)."""
        return self.path / "run.json"

    @property
    def events_path(self) -> Path:
        """The log: one JSON object for each event, and for each warning between them."""
        return self.path / "events.jsonl"

    @property
    def usage_path(self) -> Path:
        """The log of code usage, a line of JSON for each epoch."""
        return self.path / "usage.jsonl"

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def previews(self) -> Path:
        """The folder of previews."""
        return self.path / "previews"

    @property
    def picture_path(self) -> Path:
        """The picture drawn at the end."""
        return self.path / "run.png"

    @property
    def used(self) -> bool:
        """True if a run in this folder got beyond its first checkpoint."""
        # A run killed between its first checkpoint and run.json has done nothing yet, and can simply be started again.
        return self.info_path.exists() or any(not _FIRST.match(path.name) for path in self.checkpoints.glob("*.pt"))

    @property
    def busy(self) -> bool:
        """True while a training, of this process or another, holds the folder."""
        lock = self.path / ".lock"
        if not lock.is_file() or lock.is_symlink():  # acquiring would create it, or empty what it points to
            return False
        try:
            with FileLock(lock).acquire(timeout=0):
                return False
        except Timeout:
            return True

    def write_info(self, info: RunInfo) -> None:
        """Store the run's record; raises `StorageError`."""
        atomic_write_text(self.info_path, json.dumps(info.to_dict(), indent=2, allow_nan=False) + "\n")

    def read_info(self) -> RunInfo:
        """The run's record; raises `CheckpointError` when this is not a run folder, or its record is damaged."""
        try:
            content = parse_json(read_plain(self.info_path, _MAX_INFO))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{self.path}: not a run folder (no readable run.json in it)") from error
        try:
            return RunInfo.from_dict(content)
        except ConfigError as error:
            raise CheckpointError(f"{self.info_path}: {error}") from error

    def append(self, event: Event) -> None:
        """Add an event to the log; raises `StorageError`."""
        append_text(self.events_path, json.dumps(event_to_dict(event), allow_nan=False) + "\n")

    def append_warning(self, notice: Notice) -> None:
        """Add a warning to the log; raises `StorageError`."""
        entry = {"event": WARNING, "message": str(notice), **to_json(notice.to_dict())}
        append_text(self.events_path, json.dumps(entry, allow_nan=False) + "\n")

    def append_usage(self, epoch: int, counts: list[list[int]]) -> None:
        """Add the number of uses of each code over the validation set, `[Q][K]`; raises `StorageError`."""
        append_text(self.usage_path, json.dumps({"epoch": epoch, "counts": counts}) + "\n")

    @contextmanager
    def keeps_warnings(self) -> Iterator[None]:
        """Copy this thread's warnings to the run's log while the body runs, as soon as there is a run."""
        handler = _WarningLog(self)
        logger = logging.getLogger("distill")
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)

    def sync_events(self) -> None:
        """Wait until the log is on disk; raises `StorageError`."""
        sync(self.events_path)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Lock the folder for this run while the body trains; raises `StorageError` when another run holds it.

        Raises `CheckpointError` for a folder with links in it: what is written or deleted there would be elsewhere. In
        the end the folder is removed if nothing was written to it.
        """
        lock = self.path / ".lock"
        if links := [name for name in _OWN if (self.path / name).is_symlink()]:
            raise CheckpointError(
                f"{self.path}: {links[0]} is a link to elsewhere, where a run would write and delete files",
                "put what it points to in its place",
            )
        with storage_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                held = FileLock(lock).acquire(timeout=0)
            except Timeout:
                raise StorageError(
                    f"{self.path} is in use by a training in progress; wait for it to end, or give another folder"
                ) from None
        try:
            yield
        finally:
            held.lock.release()
            with suppress(OSError):  # the folder may be gone, and must not hide how the run ended
                if set(self.path.iterdir()) <= {lock}:
                    lock.unlink(missing_ok=True)
                    self.path.rmdir()

    def log(self) -> list[dict[str, Any]]:
        """The log's entries in order, as parsed JSON, up to the first that is damaged, as a last line cut short is."""
        return list(itertools.takewhile(is_entry, json_lines(self.events_path)))

    def events(self) -> list[Event]:
        """The logged events in order."""
        return [event_from_dict(entry) for entry in self.log() if entry["event"] != WARNING]

    def usage(self) -> list[dict[str, Any]]:
        """An entry per epoch with its number, and the uses of each code as `counts` `[Q][K]`; none for a VAE."""
        return list(itertools.takewhile(is_usage, json_lines(self.usage_path)))

    def rewind(self, epoch: int, step: int) -> None:
        """Remove log entries and previews from (`epoch`, `step`) on, where a run continues; raises `StorageError`."""
        kept, keeping = [], True
        for entry in self.log():
            if entry["event"] != WARNING:  # a warning stays or goes with the event before it
                keeping = _before(event_from_dict(entry), epoch, step)
            if keeping:
                kept.append(entry)
        atomic_write_text(self.events_path, _as_lines(kept))
        if self.usage_path.exists():
            atomic_write_text(self.usage_path, _as_lines([one for one in self.usage() if one["epoch"] < epoch]))
        with storage_errors(self.previews):
            for file in preview_files(self.previews):
                if file.epoch >= epoch:
                    file.path.unlink()


class _WarningLog(logging.Handler):
    """Logs the warnings of the thread that created it, and holds them back until there is a run."""

    def __init__(self, folder: RunFolder) -> None:
        super().__init__(logging.WARNING)
        self._folder, self._thread = folder, threading.get_ident()
        self._early: list[Notice] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread != self._thread:  # of something else that this process does
            return
        self._early.append(record.msg if isinstance(record.msg, Notice) else Remark(record.getMessage()))
        # Not before there is a run: one that is refused or cancelled before it begins leaves nothing behind.
        if self._folder.info_path.exists():
            for notice in self._early:
                self._folder.append_warning(notice)
            self._early.clear()


def is_entry(value: Any) -> bool:
    """True if `value` is what the log can hold: an event, of a kind that is known, or a warning."""
    try:
        if value["event"] != WARNING:
            event_from_dict(value)
        elif not isinstance(value["message"], str):
            return False
    except (KeyError, TypeError):
        return False
    return True


def is_usage(value: Any) -> bool:
    """True if `value` is an epoch of the log of code usage."""
    try:
        _USAGE.validate_python(value, strict=True)
    except ValidationError:
        return False
    return len({len(level) for level in value["counts"]}) == 1


class _Usage(TypedDict):
    epoch: int
    counts: list[list[Annotated[int, Field(ge=0, lt=2**53)]]]


_USAGE = TypeAdapter(_Usage)


def _as_lines(entries: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(entry, allow_nan=False) + "\n" for entry in entries)


def _before(event: Event, epoch: int, step: int) -> bool:
    if isinstance(event, TrainingCompleteEvent):
        return False
    place = getattr(event, "step", None)
    if place is None:
        return event.epoch < epoch
    return (event.epoch, place) < (epoch, step)
