"""The runs that wait, on disk: so they outlast the server, however it ends."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from distill.errors import ConfigError
from distill.storage import atomic_write_text, storage_errors
from distill.training.plan import RunPlan
from distill.training.run_folder import RunFolder

logger = logging.getLogger(__name__)


class WaitingList:
    """The plans of the runs that wait, in a file below `folder`; of several servers, the first one keeps it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "waiting.json"
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / ".waiting.lock", thread_local=False)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            logger.info("another server keeps the list of waiting runs")

    def load(self) -> list[RunPlan]:
        """What waited when the last server ended, and was not begun; a file that is no such list counts as empty."""
        if not self._lock.is_locked:
            return []
        try:
            plans = [RunPlan.from_dict(plan) for plan in json.loads(self._path.read_text(encoding="utf-8"))]
            return [plan for plan in plans if plan.resume_from or not RunFolder(plan.output_dir).used]
        except (OSError, ValueError, KeyError, TypeError, ConfigError):
            return []

    def save(self, plans: Sequence[RunPlan]) -> None:
        """Put these in the place of what was kept before; raises `StorageError`."""
        if self._lock.is_locked:
            atomic_write_text(self._path, json.dumps([plan.to_dict() for plan in plans]))

    def close(self) -> None:
        """Leave the list to the next server."""
        self._lock.release()
