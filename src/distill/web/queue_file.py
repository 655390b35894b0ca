"""The runs that wait, on disk: so they outlast the server, however it ends."""

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from distill.errors import CheckpointError, ConfigError, StorageError
from distill.notices import QueuedRunDropped, QueueNotSaved, QueueUnreadable
from distill.storage import atomic_write_text, remove_orphans, storage_errors
from distill.training.request import TrainingRequest
from distill.training.run_folder import RunFolder

logger = logging.getLogger(__name__)

_PATIENCE_S = 3  # a server before this one may still be writing its checkpoint


class QueueFile:
    """The requests of the runs that wait, in a file below `folder`; of several servers, the first one keeps it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "waiting.json"
        self._lock = FileLock(folder / ".waiting.lock", thread_local=False)
        try:
            with storage_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
                remove_orphans(folder)
                self._lock.acquire(timeout=_PATIENCE_S)
        except Timeout:
            logger.warning(QueueNotSaved("another distill server is running, and keeps the list of them"))
        except StorageError as error:
            logger.warning(QueueNotSaved(error.reason, error.remedy))

    @property
    def kept(self) -> bool:
        """True if what is saved is there for the next server."""
        return self._lock.is_locked

    def load(self) -> list[TrainingRequest]:
        """What waited when the last server ended, and was not begun since."""
        if not self.kept or not self._path.exists():
            return []
        try:
            return list(_requests(json.loads(self._path.read_text(encoding="utf-8"))))
        except (OSError, ValueError, TypeError, RecursionError) as error:
            logger.warning(QueueUnreadable(str(self._path), str(error)))
            return []

    def save(self, requests: Sequence[TrainingRequest]) -> None:
        """Put these in the place of what was kept before; raises `StorageError`."""
        if self.kept:
            atomic_write_text(self._path, json.dumps([request.to_dict() for request in requests]))

    def close(self) -> None:
        """Leave the list to the next server."""
        self._lock.release()


def _requests(entries: list[Any]) -> Iterator[TrainingRequest]:
    """The requests that can still be carried out."""
    for entry in entries:
        try:
            request = TrainingRequest.from_dict(entry)
            if request.resume_from:
                yield TrainingRequest.resume(request.resume_from)
            elif not RunFolder(request.output_dir).used:
                yield request
        except (ConfigError, CheckpointError) as error:
            logger.warning(QueuedRunDropped(error.reason, error.remedy))
        except (KeyError, TypeError) as error:
            logger.warning(QueuedRunDropped(f"its entry is damaged ({error})"))
