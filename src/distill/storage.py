"""The one way distill writes a file: beside its place, synced, then renamed."""

import os
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from distill.errors import StorageError


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn an `OSError` from the body into a `StorageError` that names `path` and the cause."""
    try:
        yield
    except (StorageError, TimeoutError):
        raise
    except (FileExistsError, NotADirectoryError) as error:
        raise StorageError(f"could not write {path}: a file stands where a folder is needed; choose another") from error
    except OSError as error:
        raise StorageError(
            f"could not write {path}: {error.strerror or error}; check free space and permissions, then try again"
        ) from error


def safe_stem(name: str) -> str:
    """`name` as part of a file name: other characters than letters, digits, dots and dashes become `_`."""
    return re.sub(r"[^\w\-. ]", "_", name).strip(" .").encode()[:100].decode(errors="ignore") or "model"


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot open a folder, and orders renames by itself
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def atomic_write(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in place whole.

    Whatever stood at `path` stays as it was until the new content is safely on disk. Raises `StorageError`.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
        try:
            with temporary.open("xb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        _sync_folder(path.parent)


def atomic_write_bytes(path: Path, data: bytes | memoryview) -> None:
    """`atomic_write` for content that is there already."""
    atomic_write(path, lambda file: file.write(data))


def atomic_write_text(path: Path, text: str) -> None:
    """`atomic_write` for UTF-8 text."""
    atomic_write_bytes(path, text.encode())
