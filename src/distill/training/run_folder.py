"""A run on disk, complete in one folder: `run.json`, `events.jsonl`, checkpoints, previews, the picture."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from distill.errors import CheckpointError, StorageError
from distill.storage import append_text, atomic_write_text, remove_orphans, storage_errors, sync
from distill.training.metrics import (
    Event,
    TrainingCompleteEvent,
    event_from_dict,
    event_to_dict,
)

_FIRST = re.compile("checkpoint_0+_0+_")


@dataclass(frozen=True)
class RunFolder:
    """The paths of a run folder, and how its files are read and written."""

    path: Path

    @property
    def facts_path(self) -> Path:
        """What the run is: settings, files, split."""
        return self.path / "run.json"

    @property
    def events_path(self) -> Path:
        """One JSON object per event."""
        return self.path / "events.jsonl"

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
        """Whether a run has got further here than its first checkpoint."""
        return self.facts_path.exists() or any(not _FIRST.match(path.name) for path in self.checkpoints.glob("*.pt"))

    def write_facts(self, facts: dict[str, Any]) -> None:
        """Store the run's facts; raises `StorageError`."""
        atomic_write_text(self.facts_path, json.dumps(facts, indent=2, allow_nan=False) + "\n")

    def read_facts(self) -> dict[str, Any]:
        """The run's facts; raises `CheckpointError` when this is no run folder."""
        try:
            facts = json.loads(self.facts_path.read_text())
        except (OSError, ValueError, RecursionError) as error:
            raise CheckpointError(f"{self.path}: not a run folder (no readable run.json in it)") from error
        if not isinstance(facts, dict) or facts.get("format") != "distill_run":
            raise CheckpointError(f"{self.facts_path}: not written by distill")
        return facts

    def append(self, event: Event) -> None:
        """Add an event to the log; raises `StorageError`."""
        append_text(self.events_path, json.dumps(event_to_dict(event), allow_nan=False) + "\n")

    def sync_events(self) -> None:
        """Wait until the log is on disk; raises `StorageError`."""
        sync(self.events_path)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep the folder to this run while the body trains; raises `StorageError` when another has it.

        What a killed run has left half-written is cleared away. A folder in which nothing came to be goes again.
        """
        lock = self.path / ".lock"
        with storage_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                held = FileLock(lock).acquire(timeout=0)
            except Timeout:
                raise StorageError(
                    f"{self.path} is in use by a training that is going on; wait for it, or give another folder"
                ) from None
        try:
            for folder in (self.path, self.checkpoints, self.previews):
                remove_orphans(folder)
            yield
        finally:
            held.lock.release()
            with suppress(OSError):  # the folder itself may be gone, and how the run ended is what counts
                if set(self.path.iterdir()) <= {lock}:
                    lock.unlink(missing_ok=True)
                    self.path.rmdir()

    def events(self) -> list[Event]:
        """The logged events in order; a last line that a crash cut short is left out."""
        if not self.events_path.exists():
            return []
        events = []
        for line in self.events_path.read_text(errors="replace").splitlines():
            try:
                events.append(event_from_dict(json.loads(line)))
            except (ValueError, KeyError, TypeError):
                break
        return events

    def rewind(self, epoch: int, step: int) -> None:
        """Forget logged events from (`epoch`, `step`) on, where a resumed run starts anew; raises `StorageError`."""
        kept = [event for event in self.events() if _before(event, epoch, step)]
        lines = (json.dumps(event_to_dict(event), allow_nan=False) + "\n" for event in kept)
        atomic_write_text(self.events_path, "".join(lines))


def used_folder(folder: Path) -> str:
    """Why a new run does not begin in `folder`."""
    return f"{folder} holds a run already; go on with it by --resume, or give another folder"


def _before(event: Event, epoch: int, step: int) -> bool:
    if isinstance(event, TrainingCompleteEvent):
        return False
    place = getattr(event, "step", None)
    if place is None:
        return event.epoch < epoch
    return (event.epoch, place) < (epoch, step)
