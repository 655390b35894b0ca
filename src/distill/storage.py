"""Safe writing of files: to a temporary file in the same folder, synced, read back, then renamed."""

import errno
import os
import re
import shutil
import socket
import time
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from distill.errors import StorageError
from distill.home import is_at_home

_HOST = f"{zlib.crc32(socket.gethostname().encode()):08x}"  # in a shared folder there are writers on other machines
_TEMPORARY = re.compile(r"\.distill-(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-[0-9a-f]{8}\.tmp")
_BLOCK = 1 << 20
_FORBIDDEN = re.compile(r"[\x00-\x1f/\\:*?\"<>|]")  # in a file name, on Windows and on disks that are formatted for it
_DEVICE = re.compile(r"^(con|prn|aux|nul|com\d|lpt\d)(?=\s*(\.|$))", re.IGNORECASE)  # Windows', whatever the suffix
_LONG_PATH = 260  # characters, from which on Windows says that a path is not there, unless it is set up otherwise
_IN_USE = {32, 33}  # Windows' own numbers for a file that another program has open or locked
_WAITS_S = (0.01, 0.03, 0.1, 0.3, 1.0)


# Errors and sizes


@contextmanager
def storage_errors(path: Path, needed: int | None = None) -> Iterator[None]:
    """Turn an `OSError` from the body into a `StorageError` that names `path`, the cause and a remedy."""
    try:
        yield
    except (StorageError, TimeoutError):  # both are `OSError`; the latter is raised by locks, not by writing
        raise
    except (FileExistsError, NotADirectoryError) as error:
        reason = f"could not write {path}: there is a file where a folder is needed"
        raise StorageError(reason, another_place(path, "choose another place")) from error
    except OSError as error:
        reason, remedy = _cause(error, path, needed)
        raise StorageError(f"could not write {path}: {reason}", remedy) from error


def _cause(error: OSError, path: Path, needed: int | None) -> tuple[str, str]:
    """The reason for a failed write, and the remedy."""
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        wanted = "" if needed is None else f"{readable_size(needed)} needed, "
        return f"{reason} ({wanted}{readable_size(free_bytes(path))} free)", "free some space, then try again"
    if error.errno == errno.ENAMETOOLONG or (os.name == "nt" and len(str(path.absolute())) >= _LONG_PATH):
        return reason, another_place(path, "choose a shorter name, or a folder with a shorter path")
    if getattr(error, "winerror", None) in _IN_USE:
        return reason, "close the program that has it open, then try again"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return reason, another_place(path, "choose a folder that you may write to")
    return reason, another_place(path, "check the disk, then try again", "check the disk, or ")


def another_place(path: Path, remedy: str, first: str = "") -> str:
    """The remedy where `path` cannot be written: `first` and to set DISTILL_HOME for a path in it, else `remedy`."""
    return f"{first}set DISTILL_HOME to a folder that you may write to" if is_at_home(path) else remedy


def readable_size(count: int) -> str:
    """A number of bytes in readable form: 12.3 MB, or 0.4 kB."""
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


def free_bytes(path: Path) -> int:
    """The number of free bytes on the disk where `path` is, or would be."""
    place = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    return shutil.disk_usage(place).free


# Writing


def portable_name(name: str) -> str:
    """`name` with `_` for or after what no file may be called on some system, such as `a:b` or `con`."""
    return _DEVICE.sub(r"\1_", _FORBIDDEN.sub("_", name))


def safe_stem(name: str) -> str:
    """A form of `name` for file names: all but letters, digits, dots, dashes and spaces becomes `_`."""
    # In bytes, since that is what file systems limit; 100 leave room for a counter and a suffix.
    short = re.sub(r"[^\w\-. ]", "_", name).strip(" .").encode()[:100].decode(errors="ignore")
    return portable_name(short.rstrip(" .")) or "model"


def atomic_write(path: Path, data: bytes | memoryview) -> None:
    """Write `data` to `path`, whole or not at all; it is on disk when this returns.

    Earlier content of `path` stays until the new one is safely on disk. Raises `StorageError`.
    """
    with storage_errors(path, len(data)):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_orphans(path.parent)
        temporary = temporary_beside(path)
        try:
            _write_synced(temporary, memoryview(data))
            _replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)  # noqa: PTH108
            raise
        _sync_folder(path.parent)  # else a power cut could undo the rename


def temporary_beside(path: Path) -> Path:
    """A temporary name in the folder of `path`, by which `remove_orphans` recognises what dead processes have left."""
    return path.with_name(f".distill-{_HOST}-{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")


def atomic_write_text(path: Path, text: str) -> None:
    """`atomic_write` for UTF-8 text."""
    atomic_write(path, text.encode())


def append_text(path: Path, text: str) -> None:
    """Append UTF-8 text to `path`, whole or not at all; not synced. Raises `StorageError`."""
    data = memoryview(text.encode())
    with storage_errors(path, len(data)):
        handle = _open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            before = os.fstat(handle).st_size
            try:
                _write_all(handle, data)
            except OSError:
                os.ftruncate(handle, before)  # half a line would end the log for its readers
                raise
        finally:
            os.close(handle)


def sync(path: Path) -> None:
    """Wait until the content of `path` is on disk; raises `StorageError`."""
    with storage_errors(path):
        handle = _open(path, os.O_RDWR)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Yield a new folder in `parent`, removed after the body; raises `StorageError`."""
    with storage_errors(parent):
        parent.mkdir(parents=True, exist_ok=True)
        remove_orphans(parent)
        folder = temporary_beside(parent / "folder")
        folder.mkdir(0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_orphans(folder: Path) -> None:
    """Delete what is temporary in `folder` and of a process of this machine that no longer runs."""
    for path in folder.glob(".distill-*.tmp"):
        name = _TEMPORARY.fullmatch(path.name)
        if name and name["host"] == _HOST and not _alive(int(name["pid"])):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with suppress(OSError):
                    path.unlink()


def _alive(pid: int) -> bool:
    if os.name == "nt":  # where `os.kill` would end the process
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # a process of another user
        return True
    return True


# System calls


def _replace(source: Path, target: Path) -> None:
    """Rename a file to `target`; on Windows, wait for programs that have it open, such as virus scanners."""
    for wait in _WAITS_S if os.name == "nt" else ():
        try:
            os.replace(source, target)  # noqa: PTH105  every system call goes through `os`, where tests make it fail
        except PermissionError:
            time.sleep(wait)
        else:
            return
    os.replace(source, target)  # noqa: PTH105


def _open(path: Path, flags: int) -> int:
    # 0o666, less the umask: the permissions of any other new file.
    return os.open(path, flags | getattr(os, "O_BINARY", 0), 0o666)


def _write_synced(path: Path, data: memoryview) -> None:
    handle = _open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        _write_all(handle, data)
        os.fsync(handle)
        _verify(handle, data)
    finally:
        os.close(handle)


def _write_all(handle: int, data: memoryview) -> None:
    while data:  # a write may fall short
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
    if os.name == "nt":  # Windows cannot open a folder, and keeps renames in order by itself
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network disks can sync no folder
            raise
    finally:
        os.close(handle)
