"""The library: the models in a folder; its index follows the files and can always be rebuilt."""

import logging
import math
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from distill.errors import LibraryError, ListModels, ModelFileError, StorageError
from distill.library.entry import ModelEntry as ModelEntry
from distill.library.header import MODEL_FILE_EXTENSION
from distill.library.index import read_index, write_index
from distill.library.lock import locked
from distill.notices import ModelNotListed
from distill.storage import remove_orphans, safe_stem, storage_errors

logger = logging.getLogger(__name__)

SORT_KEYS = ("date", "name", "loss", "size")

_DELETED = ".deleted"


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
        entries = self._follow_files()
        orders: dict[str, Any] = {
            "date": lambda e: (e.save_date, e.modified_ns),  # the former is to the second
            "name": lambda e: _natural(e.name),
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
        with locked(self.folder):
            others = [other for other in read_index(self.folder) if other.file != entry.file]
            write_index(self.folder, [*others, entry])

    def remove(self, model_id: str) -> ModelEntry:
        """Delete the one model with this id, and its file; raises `LibraryError` unless it is exactly one."""
        found = [entry for entry in self.entries() if entry.model_id == model_id]
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
        with locked(self.folder):
            self.check_unchanged(entry)
            yield self.path(entry)
            write_index(self.folder, [other for other in read_index(self.folder) if other.file != entry.file])

    def check_unchanged(self, entry: ModelEntry) -> None:
        """Raise `LibraryError` unless the file is still the one that the entry was made from."""
        if not entry.describes(self.path(entry)):
            raise LibraryError(
                f"{self.path(entry)} has been changed or removed in the meantime, so nothing was deleted or renamed",
                ListModels(),
            )

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
        """Delete for good the models that were discarded more than `days` days ago, as far as that is possible."""
        oldest = time.time_ns() - days * 86_400e9
        for path in (self.folder / _DELETED).glob(f"*{MODEL_FILE_EXTENSION}"):
            stamp = path.name.partition("-")[0]
            if stamp.isdecimal() and int(stamp) < oldest:  # without a time, it was not discarded by distill
                with suppress(OSError):  # a library that can only be read is used all the same
                    path.unlink(missing_ok=True)

    def rebuild(self) -> list[ModelEntry]:
        """Rebuild the index from the model files; returns its entries."""
        if not self._is_there():
            return []
        return self._follow_files(anew=True)

    @contextmanager
    def new_file(self, name: str, old: Path | None = None) -> Iterator[Path]:
        """Yield a path for a model called `name`, new or so far at `old`, which stays free while the body runs."""
        with locked(self.folder):
            stem = safe_stem(name)
            counted = (f"{stem}_{n}" for n in range(2, 1_000_000))
            path = self.folder / f"{stem}{MODEL_FILE_EXTENSION}"
            # Where case does not count, `old` itself is found under a name that differs only in that.
            while path.exists() and not (old and path.samefile(old)):
                path = self.folder / f"{next(counted)}{MODEL_FILE_EXTENSION}"
            yield path

    def _is_there(self) -> bool:
        """True if the folder exists; raises `LibraryError` where it cannot be created."""
        place = next(place for place in (self.folder, *self.folder.absolute().parents) if place.exists())
        if not place.is_dir():
            raise LibraryError(f"{place} is a file", "give the folder of a library")
        return place == self.folder

    def _follow_files(self, anew: bool = False) -> list[ModelEntry]:
        """Bring the index in line with the files: new files are read, entries without a file dropped; returns it.

        Half-written files of killed processes are removed. A folder that cannot be written to is only read.
        """
        with locked(self.folder, only_to_read=True):
            remove_orphans(self.folder)
            known = {} if anew else {entry.file: entry for entry in read_index(self.folder)}
            unread = [path for path in self._files() if not _is_described(path, known.get(path.name))]
        # Without the lock: the file of a stranger may take a while, and others need not wait for it.
        read = {path.name: entry for path in unread if (entry := _listed(path))}
        with locked(self.folder, only_to_read=True):
            indexed = read_index(self.folder)
            known = read if anew else {entry.file: entry for entry in indexed} | read
            entries = [known[path.name] for path in self._files() if path.name in known]
            if entries != indexed:
                with suppress(StorageError):  # the files say all that the index does
                    write_index(self.folder, entries)
        return entries

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob(f"*{MODEL_FILE_EXTENSION}"), key=lambda path: path.name)


def _is_described(path: Path, entry: ModelEntry | None) -> bool:
    return entry is not None and entry.describes(path)


def _listed(path: Path) -> ModelEntry | None:
    """The entry of a file; None, with a warning, for one that is no readable model, which must not hide the others."""
    try:
        return ModelEntry.of_file(path)
    except ModelFileError as error:
        logger.warning(ModelNotListed(str(path), error.reason, error.remedy))
        return None


def _natural(name: str) -> list[tuple[int, int | str]]:
    """A key by which "kit 2" comes before "kit 10", whatever the case."""
    parts = re.split(r"(\d+)", name.casefold())
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts if part]


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


def _differences(entries: list[ModelEntry]) -> str:
    """The feature that tells models of one name apart: their ids, or their files where copies share an id."""
    ids = sorted(entry.model_id[:8] for entry in entries)
    if len(set(ids)) == len(ids):
        return f"id: {', '.join(ids)}"
    return f"file: {', '.join(sorted(entry.file for entry in entries))}"
