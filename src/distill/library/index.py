"""The index of a library: one JSON file with the entry of every model, whose digest shows whether it is whole."""

import errno
import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distill.errors import ConfigError, LibraryError
from distill.library.entry import ModelEntry
from distill.notices import LibraryIndexDamaged
from distill.plain_files import parse_json, read_plain
from distill.storage import atomic_write_text

logger = logging.getLogger(__name__)

_INDEX = "library.json"
_FORMAT = "distill_library"
_VERSION = 3  # 1 had no digest, 2 no problems
_MAX_INDEX = 16 << 20  # bytes: of some 30,000 models


def read_index(folder: Path) -> list[ModelEntry]:
    """Read the index of a folder; a broken one is put aside and read as empty, to be filled from the files."""
    path = folder / _INDEX
    try:
        return _parsed(read_plain(path, _MAX_INDEX))
    except FileNotFoundError:
        return []
    except (ValueError, LookupError, TypeError, ConfigError) as error:
        _put_aside(path, str(error))
        return []
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EISDIR, errno.EFBIG, errno.ENXIO):  # not a file, or not one of ours
            _put_aside(path, error.strerror or str(error))
            return []
        # It may be intact, so it is not replaced.
        raise LibraryError(f"{path}: {error.strerror}", "make it readable, then try again") from error


def _put_aside(path: Path, reason: str) -> None:
    aside = next(place for place in _backup_paths(path) if not place.exists())
    with suppress(OSError):  # where nothing can be written, it stays
        path.rename(aside)
        logger.warning(LibraryIndexDamaged(str(path), reason, aside.name))


def write_index(folder: Path, entries: list[ModelEntry]) -> None:
    """Write the index of a folder; raises `StorageError`."""
    models = [asdict(entry) for entry in sorted(entries, key=lambda entry: entry.file)]
    content = {"format": _FORMAT, "version": _VERSION, "digest": _digest(models), "models": models}
    atomic_write_text(folder / _INDEX, json.dumps(content, indent=1) + "\n")


def _parsed(index: bytes) -> list[ModelEntry]:
    content = parse_json(index)
    if (content["format"], content["version"]) == (_FORMAT, 2):  # of an earlier distill: the files are read anew
        return []
    if (content["format"], content["version"]) != (_FORMAT, _VERSION):
        raise ValueError(f"it is {content['format']!r}, version {content['version']!r}")
    if content["digest"] != _digest(content["models"]):
        raise ValueError("its digest does not match its content")
    return [ModelEntry(**item) for item in content["models"]]


def _digest(models: Any) -> str:
    """Hash of the models in an index: without it, an index with a letter changed in some name would be believed."""
    return hashlib.sha256(json.dumps(models).encode()).hexdigest()


def _backup_paths(index: Path) -> Iterator[Path]:
    """Paths to which a broken index can be moved, in turn, so that it replaces none that is there already."""
    yield index.with_suffix(".broken.json")
    yield from (index.with_suffix(f".broken_{n}.json") for n in range(2, 1_000_000))
