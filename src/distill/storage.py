"""The one way distill writes a file: beside its place, synced, read back, then renamed."""

import errno
import os
import re
import shutil
import socket
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from distill.errors import StorageError

_HOST = f"{zlib.crc32(socket.gethostname().encode()):08x}"  # a shared folder has writers on other machines
_TEMPORARY = re.compile(r"\.distill-(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-[0-9a-f]{8}\.tmp")
_BLOCK = 1 << 20


@contextmanager
def storage_errors(path: Path, needed: int | None = None) -> Iterator[None]:
    """Turn an `OSError` from the body into a `StorageError` that names `path`, the cause and what is missing."""
    try:
        yield
    except (StorageError, TimeoutError):
        raise
    except (FileExistsError, NotADirectoryError) as error:
        reason = f"could not write {path}: there is a file where a folder is needed"
        raise StorageError(reason, "choose another place") from error
    except OSError as error:
        reason, remedy = _cause(error, path, needed)
        raise StorageError(f"could not write {path}: {reason}", remedy) from error


def _cause(error: OSError, path: Path, needed: int | None) -> tuple[str, str]:
    """The reason for a failed write, and what would help."""
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        wanted = "" if needed is None else f"{readable_size(needed)} needed, "
        return f"{reason} ({wanted}{readable_size(free_bytes(path))} free)", "free some space, then try again"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return reason, "choose a folder that you may write to"
    return reason, "check the disk, then try again"


def readable_size(count: int) -> str:
    """A number of bytes as a person reads it: 12.3 MB, or 0.4 kB."""
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


def free_bytes(path: Path) -> int:
    """The number of bytes that can still be written where `path` is, or would be."""
    place = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    return shutil.disk_usage(place).free


def safe_stem(name: str) -> str:
    """`name` as part of a file name: other characters than letters, digits, dots and dashes become `_`."""
    return re.sub(r"[^\w\-. ]", "_", name).strip(" .").encode()[:100].decode(errors="ignore") or "model"


def atomic_write(path: Path, data: bytes | memoryview) -> None:
    """Put `data` at `path`, whole or not at all, and on disk before this returns.

    Whatever stood at `path` stays as it was until the new content is safely on disk. Raises `StorageError`.
    """
    with storage_errors(path, len(data)):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_beside(path)
        try:
            _write_synced(temporary, memoryview(data))
            os.replace(temporary, path)  # noqa: PTH105  every system call goes through `os`, where tests make it fail
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)  # noqa: PTH108
            raise
        _sync_folder(path.parent)


def temporary_beside(path: Path) -> Path:
    """A name beside `path` by which `remove_orphans` knows what a process that is gone has left there."""
    return path.with_name(f".distill-{_HOST}-{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")


def atomic_write_text(path: Path, text: str) -> None:
    """`atomic_write` for UTF-8 text."""
    atomic_write(path, text.encode())


def append_text(path: Path, text: str) -> None:
    """Add UTF-8 text to the end of `path`, whole or not at all; not synced. Raises `StorageError`."""
    data = memoryview(text.encode())
    with storage_errors(path, len(data)):
        handle = _open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            before = os.fstat(handle).st_size
            try:
                _write_all(handle, data)
            except OSError:
                os.ftruncate(handle, before)
                raise
        finally:
            os.close(handle)


def sync(path: Path) -> None:
    """Wait until what was written to `path` is on disk; raises `StorageError`."""
    with storage_errors(path):
        handle = _open(path, os.O_RDWR)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove_orphans(folder: Path) -> None:
    """Delete the half-written files in `folder` whose writer, a process of this machine, is gone."""
    for path in folder.glob(".distill-*.tmp"):
        name = _TEMPORARY.fullmatch(path.name)
        if name and name["host"] == _HOST and not _alive(int(name["pid"])):
            with suppress(OSError):
                path.unlink()


def _alive(pid: int) -> bool:
    if os.name == "nt":  # where asking would end the process
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _open(path: Path, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_BINARY", 0), 0o666)  # less what the umask takes away


def _write_synced(path: Path, data: memoryview) -> None:
    handle = _open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        _write_all(handle, data)
        os.fsync(handle)
        _verify(handle, data)
    finally:
        os.close(handle)


def _write_all(handle: int, data: memoryview) -> None:
    while data:
        data = data[os.write(handle, data) :]


def _verify(handle: int, data: memoryview) -> None:
    os.lseek(handle, 0, os.SEEK_SET)
    place = 0
    while block := os.read(handle, _BLOCK):
        if block != data[place : place + len(block)]:
            break
        place += len(block)
    if block or place != len(data):
        raise OSError(errno.EIO, "what was read back differs from what was written")


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot open a folder, and orders renames by itself
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
