"""The lock of a library: one process or thread at a time reads and changes what is in its folder."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from distill.errors import LibraryError, StorageError
from distill.storage import storage_errors

if TYPE_CHECKING:
    from filelock import BaseFileLock

_LOCK = ".library.lock"
_QUEUE = ".library.queue"
_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)
_TIMEOUT_S = 30.0
_POLL_S = 0.01


@contextmanager
def locked(folder: Path, only_to_read: bool = False) -> Iterator[None]:
    """Hold the lock of a library, whose folder is created if need be, for the body; raises `LibraryError`.

    `only_to_read` does without it in a folder that cannot be written to: files are replaced as a whole.
    """
    try:
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            lock = _acquire(folder)
    except StorageError as error:
        if not only_to_read or getattr(error.__cause__, "errno", None) not in _NOT_WRITABLE:
            raise
        yield
        return
    try:
        yield
    finally:
        lock.release()


def _acquire(folder: Path) -> "BaseFileLock":
    """Acquire the library's lock; raises `LibraryError` when another process holds it for too long.

    Whoever waits for the lock holds the queue's meanwhile, so that a busy process cannot take it again and again.
    """
    # Imported late: loading a model by its path needs no lock, and need not wait for the import.
    from filelock import FileLock, Timeout

    # Singletons: within a thread, a lock that is held can be taken again, as `restore` does within `new_file`.
    lock, queue = (
        FileLock(folder / name, timeout=_TIMEOUT_S, poll_interval=_POLL_S, is_singleton=True)
        for name in (_LOCK, _QUEUE)
    )
    try:
        with nullcontext() if lock.is_locked else queue:
            lock.acquire()
    except Timeout:
        raise LibraryError(
            f"{folder} has been in use by another distill for over {_TIMEOUT_S:.0f} s", "try again later"
        ) from None
    return lock
