"""Files that the page sends, streamed to disk beside their final place, then linked into it."""

import itertools
import os
import shutil
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from anyio import to_thread
from starlette.requests import Request

from distill.errors import ConfigError, DistillError
from distill.storage import portable_name, storage_errors, temporary_beside

_MAX_STEM_BYTES = 150  # of a name without its suffix


def safe_name(name: str, suffixes: set[str]) -> str:
    """Make `name` safe in any folder; raises `ConfigError` if it does not end in one of `suffixes`."""
    # Without folders, of whichever system, and without dots at its ends, which could hide it or lead out of the folder.
    plain = portable_name(Path(name.replace("\\", "/")).name.strip(". "))
    stem, suffix = Path(plain).stem, Path(plain).suffix
    if suffix.lower() not in suffixes:
        raise ConfigError(f"{plain or 'a file without a name'}: not one of {', '.join(sorted(suffixes))}")
    return stem.encode()[:_MAX_STEM_BYTES].decode(errors="ignore") + suffix


@asynccontextmanager
async def temporary_upload(request: Request, work: Path, name: str) -> AsyncIterator[Path]:
    """Yield a temporary file called `name` with the body of `request`; errors from the context call it by its name."""
    folder = work / uuid.uuid4().hex
    try:
        yield await receive_file(request, folder, name)
    except DistillError as error:
        raise error.with_reason(error.reason.replace(f"{folder}{os.sep}", "")) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def receive_file(request: Request, folder: Path, name: str) -> Path:
    """Write the body of `request` to a free path in `folder`, called `name` or like it; raises `StorageError`."""
    part = temporary_beside(folder / name)  # hidden, so that no scan reads half a file
    try:
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with part.open("xb") as file:
                async for chunk in request.stream():
                    await to_thread.run_sync(file.write, chunk)  # the event loop must not wait for a disk
                file.flush()
                await to_thread.run_sync(os.fsync, file.fileno())
            return _move_into_place(part, folder, name)
    finally:
        part.unlink(missing_ok=True)


def _move_into_place(part: Path, folder: Path, name: str) -> Path:
    """Link a finished file to its name, or to the next free one like it."""
    stem, suffix = Path(name).stem, Path(name).suffix
    for number in itertools.count(1):
        path = folder / (name if number == 1 else f"{stem}_{number}{suffix}")
        try:
            os.link(part, path)  # unlike a rename, it replaces nothing
        except FileExistsError:
            continue
        except OSError:  # exFAT, and some network drives, have no links
            if not _reserved(path):
                continue
            try:
                part.replace(path)
            except OSError:
                path.unlink()
                raise
        return path
    raise AssertionError  # the count has no end


def _reserved(path: Path) -> bool:
    """Make an empty file; returns False where there is a file already."""
    try:
        path.open("xb").close()
    except FileExistsError:
        return False
    return True
