"""The library: an index of the model files in a folder, which follows the files and can always be rebuilt."""

import hashlib
import json
import logging
import math
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, PlainValidator
from pydantic.dataclasses import dataclass

from distill.errors import ConfigError, LibraryError, ListModels, ModelFileError
from distill.library.header import MODEL_FILE_EXTENSION, read_header
from distill.notices import LibraryIndexDamaged, ModelNotListed
from distill.schema import VALIDATED, Validated
from distill.storage import atomic_write_text, remove_orphans, safe_stem, storage_errors

if TYPE_CHECKING:
    from filelock import BaseFileLock

logger = logging.getLogger(__name__)

SORT_KEYS = ("date", "name", "loss", "size")

_INDEX = "library.json"
_LOCK = ".library.lock"
_QUEUE = ".library.queue"
_DELETED = ".deleted"
_LOCK_TIMEOUT_S = 30.0
_POLL_S = 0.01
_FORMAT = "distill_library"
_VERSION = 2  # 1 had no digest


def _file_name(value: Any) -> str:
    """Check that a value is a bare file name; pydantic's own `str` refuses names that are not UTF-8."""
    if not (isinstance(value, str) and value and Path(value).name == value):
        raise ValueError("it should be the name of a file in the library's folder")
    return value


@dataclass(frozen=True, config=VALIDATED)
class ModelEntry(Validated):
    """One model in the library; `file` is its name within the folder."""

    model_id: str
    name: str
    file: Annotated[str, PlainValidator(_file_name)]
    model_type: str
    save_date: str
    dataset_name: str = ""
    file_count: int = 0
    epochs: int = 0
    val_loss: float | None = None
    # Bounded, because a file from a stranger can hold an integer too large to be written as JSON.
    num_quantizers: int | None = Field(default=None, ge=0, le=10**9)
    codebook_size: int | None = Field(default=None, ge=0, le=10**9)
    size_bytes: int = 0
    modified_ns: int = 0

    @classmethod
    def of_file(cls, path: Path) -> Self:
        """The entry that the model file at `path` describes; raises `ModelFileError`."""
        status = _status(path)  # before the content, so that a file replaced in between is read again next time
        header = read_header(path)
        about = header.metadata
        try:
            return cls(
                model_id=about.model_id,
                name=about.name,
                file=path.name,
                model_type=header.model_type,
                save_date=about.save_date,
                dataset_name=about.dataset_name,
                file_count=about.file_count,
                epochs=about.epochs,
                val_loss=about.val_loss,
                num_quantizers=header.settings.get("num_quantizers"),
                codebook_size=header.settings.get("codebook_size"),
                size_bytes=status.st_size,
                modified_ns=status.st_mtime_ns,
            )
        except ConfigError as error:
            raise ModelFileError(f"{path}: its metadata is damaged ({error})") from error


class ModelLibrary:
    """The models in `models_dir`; every call sees the folder as it is, whatever was copied in or taken out."""

    def __init__(self, models_dir: Path | str) -> None:
        self.folder = Path(models_dir)

    def path(self, entry: ModelEntry) -> Path:
        """The path of the entry's file."""
        return self.folder / entry.file

    def entries(self, sort: str = "date") -> list[ModelEntry]:
        """All models: newest first, or by `name`, `loss` (best first) or `size` (largest first)."""
        if not self._is_there():  # listing must not create it
            return []
        with self._locked():
            entries = self._follow_files(self._read_index())
        orders: dict[str, Any] = {
            "date": lambda e: e.save_date,
            "name": lambda e: e.name.casefold(),
            "loss": lambda e: e.val_loss if e.val_loss is not None and math.isfinite(e.val_loss) else math.inf,
            "size": lambda e: e.size_bytes,
        }
        if sort not in orders:
            raise LibraryError(f"cannot sort by {sort!r}", f"sort by {', '.join(SORT_KEYS)}")
        return sorted(entries, key=orders[sort], reverse=sort in ("date", "size"))

    def search(self, text: str = "", sort: str = "date") -> list[ModelEntry]:
        """Models whose name, data set or id contains every word of `text`, whatever the case."""
        words = text.casefold().split()
        return [
            entry
            for entry in self.entries(sort)
            if all(word in f"{entry.name} {entry.dataset_name} {entry.model_id}".casefold() for word in words)
        ]

    def filter(self, model_type: str | None = None, dataset_name: str | None = None) -> list[ModelEntry]:
        """Models of a family, of a data set, or of both; newest first."""
        return [
            entry
            for entry in self.entries()
            if model_type in (None, entry.model_type) and dataset_name in (None, entry.dataset_name)
        ]

    def find(self, query: str) -> ModelEntry:
        """The one model with this id, the start of an id (4 characters or more), name or file name.

        Raises `LibraryError` when there is none, or more than one.
        """
        entries = self.entries()
        file = query.removesuffix(MODEL_FILE_EXTENSION) + MODEL_FILE_EXTENSION
        # One after another, so that a whole id is found although another id begins with it.
        for exact in (
            [e for e in entries if e.model_id == query],
            [e for e in entries if e.name == query],
            [e for e in entries if e.file == file],
            [e for e in entries if len(query) >= 4 and e.model_id.startswith(query)],
        ):
            if len(exact) == 1:
                return exact[0]
            if exact:
                raise LibraryError(
                    f"{len(exact)} models are called {query!r}", f"say which one by its {_differences(exact)}"
                )
        raise LibraryError(f"no model {query!r} in {self.folder}", ListModels())

    def add(self, entry: ModelEntry) -> None:
        """Add an entry, in place of one with the same file; raises `StorageError`."""
        with self._locked():
            others = [other for other in self._read_index() if other.file != entry.file]
            self._write_index([*others, entry])

    def remove(self, model_id: str) -> ModelEntry:
        """Delete the one model with this id, and its file; raises `LibraryError` unless it is exactly one."""
        with self._locked():
            found = [entry for entry in self._follow_files(self._read_index()) if entry.model_id == model_id]
            if not found:
                raise LibraryError(f"no model with the id {model_id!r} in {self.folder}", ListModels())
            if len(found) > 1:  # copies made by hand
                raise LibraryError(
                    f"{len(found)} models have the id {model_id!r}", f"say which one by its {_differences(found)}"
                )
            self.delete(found[0])
        return found[0]

    def delete(self, entry: ModelEntry) -> None:
        """Delete a model and its file; raises `LibraryError` when the file is no longer what the entry says."""
        with self._removing(entry) as path, storage_errors(path):
            path.unlink()

    def discard(self, entry: ModelEntry) -> Path:
        """Take a model out of the library, but keep its file in `.deleted`, from where `restore` brings it back.

        Returns its new path; raises `LibraryError` when the file is no longer what the entry says.
        """
        # The time keeps models of one name apart, and tells `forget_discarded` how long it is since.
        kept = self.folder / _DELETED / f"{time.time_ns()}-{entry.file}"
        with self._removing(entry) as path, storage_errors(kept):
            kept.parent.mkdir(exist_ok=True)
            path.rename(kept)
        return kept

    @contextmanager
    def _removing(self, entry: ModelEntry) -> Iterator[Path]:
        """Yield the file of a model for the body to take away; then the model is taken out of the index."""
        with self._locked():
            entries = self._follow_files(self._read_index())
            if entry not in entries:  # its size and time count: a model that was replaced since is not deleted
                raise LibraryError(
                    f"{self.path(entry)} has been changed or removed in the meantime, so nothing was deleted",
                    ListModels(),
                )
            yield self.path(entry)
            self._write_index([other for other in entries if other != entry])

    def restore(self, kept: Path) -> ModelEntry:
        """Bring a discarded model back; raises `LibraryError` when it is no longer there."""
        name = kept.name.partition("-")[2].removesuffix(MODEL_FILE_EXTENSION)
        if not kept.is_file():
            raise LibraryError(f"{name!r} was deleted for good and cannot be brought back")
        with self.new_file(name) as path:
            with storage_errors(path):
                kept.rename(path)
            return next(entry for entry in self.entries() if entry.file == path.name)

    def forget_discarded(self, days: float = 30) -> None:
        """Delete for good the models that were discarded more than `days` days ago."""
        oldest = time.time_ns() - days * 86_400e9
        for path in (self.folder / _DELETED).glob(f"*{MODEL_FILE_EXTENSION}"):
            stamp = path.name.partition("-")[0]
            if stamp.isdecimal() and int(stamp) < oldest:  # without a time, it was not discarded by distill
                with storage_errors(path):
                    path.unlink(missing_ok=True)

    def rebuild(self) -> list[ModelEntry]:
        """Rebuild the index from the model files; returns its entries."""
        if not self._is_there():
            return []
        with self._locked():
            return self._follow_files([])

    @contextmanager
    def new_file(self, name: str) -> Iterator[Path]:
        """Yield a path for a new model called `name`, which stays free while the body runs."""
        with self._locked():
            stem = safe_stem(name)
            counted = (f"{stem}_{n}" for n in range(2, 1_000_000))
            path = self.folder / f"{stem}{MODEL_FILE_EXTENSION}"
            while path.exists():
                path = self.folder / f"{next(counted)}{MODEL_FILE_EXTENSION}"
            yield path

    def _is_there(self) -> bool:
        """True if the folder exists; raises `LibraryError` where it cannot be created."""
        place = next(place for place in (self.folder, *self.folder.absolute().parents) if place.exists())
        if not place.is_dir():
            raise LibraryError(f"{place} is a file", "give the folder of a library")
        return place == self.folder

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with storage_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = self._acquire_lock()
        try:
            yield
        finally:
            lock.release()

    def _acquire_lock(self) -> "BaseFileLock":
        """Acquire the library's lock; raises `LibraryError` when another process holds it for too long.

        Whoever waits for the lock holds the queue's meanwhile, so that a busy process cannot take it again and again.
        """
        # Imported late: loading a model by its path needs no lock, and need not wait for the import.
        from filelock import FileLock, Timeout

        # Singletons: within a thread, a lock that is held can be taken again, as `restore` does within `new_file`.
        lock, queue = (
            FileLock(self.folder / name, timeout=_LOCK_TIMEOUT_S, poll_interval=_POLL_S, is_singleton=True)
            for name in (_LOCK, _QUEUE)
        )
        try:
            with nullcontext() if lock.is_locked else queue:
                lock.acquire()
        except Timeout:
            raise LibraryError(
                f"{self.folder} has been in use by another distill for over {_LOCK_TIMEOUT_S:.0f} s", "try again later"
            ) from None
        return lock

    def _read_index(self) -> list[ModelEntry]:
        """Read the stored index; a broken one is put aside and read as empty, to be filled from the files."""
        path = self.folder / _INDEX
        try:
            return _parsed(path.read_bytes())
        except FileNotFoundError:
            return []
        except (ValueError, LookupError, TypeError, RecursionError, ConfigError, IsADirectoryError) as error:
            aside = next(place for place in _backup_paths(path) if not place.exists())
            logger.warning(LibraryIndexDamaged(str(path), str(error), aside.name))
            with storage_errors(aside):
                path.rename(aside)
            return []
        except OSError as error:  # it may be intact, so it is not replaced
            raise LibraryError(f"{path}: {error.strerror}", "make it readable, then try again") from error

    def _follow_files(self, entries: list[ModelEntry]) -> list[ModelEntry]:
        """Bring entries in line with the files: new files are read, entries without a file dropped.

        Half-written files of killed processes are removed.
        """
        remove_orphans(self.folder)
        known = {entry.file: entry for entry in entries}
        followed = []
        for path in sorted(self.folder.glob(f"*{MODEL_FILE_EXTENSION}"), key=lambda path: path.name):
            try:
                # Only files that are new or have changed are read.
                followed.append(_unchanged(known.get(path.name), path) or ModelEntry.of_file(path))
            except ModelFileError as error:  # which must not hide the other models
                logger.warning(ModelNotListed(str(path), error.reason, error.remedy))
        if followed != entries:
            self._write_index(followed)
        return followed

    def _write_index(self, entries: list[ModelEntry]) -> None:
        models = [asdict(entry) for entry in sorted(entries, key=lambda entry: entry.file)]
        content = {"format": _FORMAT, "version": _VERSION, "digest": _digest(models), "models": models}
        atomic_write_text(self.folder / _INDEX, json.dumps(content, indent=1) + "\n")


def _parsed(index: bytes) -> list[ModelEntry]:
    content = json.loads(index)
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


def locate(model: str, models_dir: Path) -> tuple[ModelLibrary, ModelEntry]:
    """Find a model by path, name or id; returns its entry and its library, which is its folder or `models_dir`.

    Raises `LibraryError` when there is no such model, `ModelFileError` for a path without a model file.
    """
    if path := as_path(model):
        return ModelLibrary(path.parent), ModelEntry.of_file(path)
    library = ModelLibrary(models_dir)
    return library, library.find(model)


def as_path(model: str) -> Path | None:
    """Return `model` as a path, or None if it is a name or an id."""
    path = Path(model)
    # A file that does not exist can be meant as a path, too: then the error should be about that file.
    return path if path.is_file() or (model.endswith(MODEL_FILE_EXTENSION) and len(path.parts) > 1) else None


def _unchanged(entry: ModelEntry | None, path: Path) -> ModelEntry | None:
    """Return `entry` if the file is still the one it was made from, else None; raises `ModelFileError`."""
    status = _status(path)
    same = entry is not None and (entry.size_bytes, entry.modified_ns) == (status.st_size, status.st_mtime_ns)
    return entry if same else None


def _status(path: Path) -> os.stat_result:
    """The size and time of a model file; raises `ModelFileError` when there is none, or something else in its place."""
    try:
        status = path.stat()
    except OSError as error:
        raise ModelFileError(f"{path}: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise ModelFileError(f"{path}: not a file", "give a model file")
    return status


def _differences(entries: list[ModelEntry]) -> str:
    """The feature that tells models of one name apart: their ids, or their files where copies share an id."""
    ids = [entry.model_id[:8] for entry in entries]
    if len(set(ids)) == len(ids):
        return f"id: {', '.join(ids)}"
    return f"file: {', '.join(entry.file for entry in entries)}"
