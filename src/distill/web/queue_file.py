"""The queue of runs on disk, so that runs which wait outlast the server, however it ends."""

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from distill.errors import CheckpointError, ConfigError, StorageError
from distill.notices import QueuedRunDropped, QueueNotSaved, QueueUnreadable
from distill.plain_files import parse_json, read_plain
from distill.storage import atomic_write_text, storage_errors
from distill.training.request import TrainingRequest
from distill.training.run_folder import RunFolder

logger = logging.getLogger(__name__)

_MAX_LIST = 16 << 20  # bytes
_LOCK_TIMEOUT_S = 3  # the previous server may still be writing its last checkpoint


class QueueFile:
    """The requests of the runs that wait, in a file below `folder`; of several servers, only the first uses it.

    A server without it works as well, except that its queue ends with it.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "waiting.json"
        # Not per thread: it is acquired when the server starts, and the threads of requests ask if it is held.
        self._lock = FileLock(folder / ".waiting.lock", thread_local=False)
        try:
            with storage_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
                self._lock.acquire(timeout=_LOCK_TIMEOUT_S)
        except Timeout:
            logger.warning(QueueNotSaved("another distill server is running, and keeps the list of them"))
        except StorageError as error:
            logger.warning(QueueNotSaved(error.reason, error.remedy))

    @property
    def kept(self) -> bool:
        """True if this server keeps the file, so that the next one will find its queue."""
        return self._lock.is_locked

    def load(self) -> list[TrainingRequest]:
        """Load the requests that waited when the last server ended and have not been started since."""
        if not self.kept or not self._path.exists():
            return []
        try:
            return list(_requests(parse_json(read_plain(self._path, _MAX_LIST))))
        except (OSError, ValueError, TypeError) as error:
            logger.warning(QueueUnreadable(str(self._path), str(error)))
            return []

    def save(self, requests: Sequence[TrainingRequest]) -> None:
        """Store these requests in place of all former ones; raises `StorageError`."""
        if self.kept:
            atomic_write_text(self._path, json.dumps([request.to_dict() for request in requests]))

    def close(self) -> None:
        """Leave the file to the next server."""
        self._lock.release()


def _requests(entries: list[Any]) -> Iterator[TrainingRequest]:
    """Yield the requests that can still be carried out; the others are reported and dropped, one by one."""
    for entry in entries:
        try:
            request = TrainingRequest.from_dict(entry)
            if request.resume_from:
                yield TrainingRequest.resume(request.resume_from)  # checks that there is something to go on from
            elif not RunFolder(request.output_dir).used:
                yield request
        except (ConfigError, CheckpointError) as error:
            logger.warning(QueuedRunDropped(error.reason, error.remedy))
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            logger.warning(QueuedRunDropped(f"its entry is damaged ({error})"))
