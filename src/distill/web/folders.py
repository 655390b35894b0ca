"""The collections that are open on the page: folders of this machine, and those made of dropped files."""

import hashlib
import shutil
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from distill.audio.recording import Recording
from distill.audio.suffixes import AUDIO_SUFFIXES
from distill.data.collection import Collection, Found, SoundFile, UnreadableFile, find_sounds
from distill.data.opening import open_collection
from distill.errors import CollectionError, DistillError
from distill.paths import printable
from distill.storage import remove_orphans, safe_stem, storage_errors
from distill.web.messages import PAGE
from distill.web.pictures import outline

_OUTLINE_PARTS = 96
_SOON_S = 0.5  # most folders are listed by then, so that the response can already say what is wrong with them
_REMOVED = ".deleted"

State = Literal["empty", "scanning", "ready", "failed"]


@dataclass
class OpenFolder:
    """A folder of sounds and the progress of its scan; its state changes under the lock of `Folders`."""

    id: str
    path: Path
    name: str
    uploaded: bool
    state: State = "empty"
    done: int = 0
    total: int = 0
    error: DistillError | None = None
    passed_over: str = ""  # files that are no sound files, in words
    collection: Collection = field(default_factory=lambda: Collection((), ()))
    outlines: dict[Path, list[float]] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """The JSON of the folder in a list of collections."""
        return {"id": self.id, "name": self.name, "path": printable(self.path), "uploaded": self.uploaded}

    def report(self) -> dict[str, Any]:
        """The JSON of the folder and its files, in the order of their paths."""
        usable = self.collection.usable
        return self.summary() | {
            "state": self.state,
            "done": self.done,
            "total": self.total,
            "error": self.error and self.error.worded(PAGE),
            "files": [self._file(file) for file in self._all_files()],
            "passed_over": self.passed_over,
            "usable": len(usable),
            "seconds": sum(file.duration_s for file in usable),
        }

    def check_receives(self) -> None:
        """Raise `CollectionError` unless it was made for dropped files: a folder of the user's own is only read."""
        if not self.uploaded:
            raise CollectionError(f"{self.name} is a folder of yours", "files can only be added to dropped sounds here")

    def without(self, excluded: set[str]) -> Collection:
        """The collection without the files that have these names in the report."""
        kept = tuple(file for file in self.collection.files if self._name(file.path) not in excluded)
        return replace(self.collection, files=kept)

    def path_of(self, name: str) -> Path:
        """The file that has this name in the report; raises `CollectionError`."""
        found = next((file.path for file in self.collection.files if self._name(file.path) == name), None)
        if found is None:
            raise CollectionError(f"{name} is not in {self.name}", "open the collection again")
        return found

    def _name(self, path: Path) -> str:
        return printable(path.relative_to(self.path))

    def _notes(self, file: SoundFile) -> list[str]:
        if file.duplicate_of is None:
            return file.notes
        # The page calls files by name, never by path.
        return [note.replace(printable(file.duplicate_of), self._name(file.duplicate_of)) for note in file.notes]

    def _all_files(self) -> list[SoundFile | UnreadableFile]:
        return sorted([*self.collection.files, *self.collection.unreadable], key=lambda file: file.path)

    def _file(self, file: SoundFile | UnreadableFile) -> dict[str, Any]:
        name = self._name(file.path)
        if isinstance(file, UnreadableFile):
            nothing = dict.fromkeys(("seconds", "sample_rate", "channels", "format", "peak"))
            unread = {"usable": False, "notes": [], "reason": file.worded(PAGE), "outline": []}
            return {"name": name} | nothing | unread
        notes = self._notes(file)
        return {
            "name": name,
            "usable": file.usable,
            "seconds": file.duration_s,
            "sample_rate": file.sample_rate,
            "channels": file.channels,
            "format": file.format,
            "peak": file.peak,
            "notes": notes,
            "reason": None if file.usable else notes[0],
            "outline": self.outlines.get(file.path, []),
        }


class Folders:
    """The open folders by id; dropped files are kept in folders of their own below `uploads`."""

    def __init__(self, uploads: Path) -> None:
        self._uploads, self._lock, self._closing = uploads, threading.Lock(), threading.Event()
        self._open: dict[str, OpenFolder] = {}
        shutil.rmtree(uploads / _REMOVED, ignore_errors=True)  # the keys to undo were in the last server's memory
        if uploads.is_dir():
            for path in sorted(uploads.iterdir()):
                if path.is_dir() and not path.name.startswith("."):
                    remove_orphans(path)
                    self._add(path, uploaded=not path.is_symlink())  # what a link points to was not dropped here

    def close(self) -> None:
        """Cancel the scans."""
        self._closing.set()

    def all(self) -> list[OpenFolder]:
        """The folders in the order in which they were opened, except those of this machine whose scan has failed."""
        return [folder for folder in self._open.values() if folder.uploaded or folder.state != "failed"]

    def get(self, key: str) -> OpenFolder:
        """The folder with this id; raises `KeyError`."""
        return self._open[key]

    def open(self, path: Path) -> OpenFolder:
        """Open a folder of this machine and scan it in the background; raises `CollectionError` if that soon fails."""
        found = _find_in_background(path)
        with suppress(TimeoutError):
            found.result(timeout=_SOON_S)  # raises what is wrong with the folder
        folder = self._add(path.resolve(), uploaded=False)
        self.look_through(folder, found)
        return folder

    def create(self, name: str) -> OpenFolder:
        """Create an empty folder for dropped files; raises `StorageError`."""
        with self._lock, storage_errors(self._uploads):
            path = self._free_path(name)
            path.mkdir(parents=True)
        return self._add(path, uploaded=True)

    def remove(self, key: str) -> Path:
        """Move dropped files to where `restore` brings them back from, until the next start; returns the new path.

        Raises `KeyError`, and `CollectionError` for a folder that holds anything that was not dropped.
        """
        folder = self.get(key)
        if not folder.uploaded:
            raise CollectionError(f"{folder.name} is a folder of yours", "only dropped sounds can be removed here")
        if not all(map(_may_be_dropped, folder.path.iterdir() if folder.path.is_dir() else ())):
            raise CollectionError(
                f"{folder.name} holds more than the sounds that were dropped",
                f"remove its folder by hand: {printable(folder.path)}",
            )
        kept = self._uploads / _REMOVED / str(time.time_ns()) / folder.path.name
        with self._lock, storage_errors(kept):
            kept.parent.mkdir(parents=True)
            with suppress(FileNotFoundError):  # somebody has deleted it already
                folder.path.rename(kept)
            self._open.pop(key, None)
        return kept

    def restore(self, kept: Path) -> OpenFolder:
        """Bring a removed folder back, under a free name; raises `CollectionError` when it is gone."""
        if not kept.is_dir():
            raise CollectionError(f"nothing of {printable(kept.name)} is left")
        with self._lock, storage_errors(self._uploads):
            path = kept.rename(self._free_path(kept.name))
        return self._add(path, uploaded=True)

    def look_through(self, folder: OpenFolder, found: Future[Found] | None = None) -> None:
        """Scan a folder in the background, unless it is being scanned; `found` are its files, once they are known."""
        with self._lock:
            if folder.state == "scanning":
                return
            folder.state, folder.done, folder.total, folder.error = "scanning", 0, 0, None
        found = found or _find_in_background(folder.path)
        threading.Thread(target=self._scan, args=(folder, found), name="distill-scan", daemon=True).start()

    def _free_path(self, name: str) -> Path:
        """A path for dropped files that is not taken, called `name` or like it."""
        stem = safe_stem(name)
        number = 1
        while (path := self._uploads / (stem if number == 1 else f"{stem}_{number}")).exists():
            number += 1
        return path

    def _add(self, path: Path, uploaded: bool) -> OpenFolder:
        # From the path, so that a folder has the same id after a restart, and is there once however often it is opened.
        key = hashlib.sha256(str(path).encode(errors="surrogateescape")).hexdigest()[:16]
        with self._lock:
            return self._open.setdefault(key, OpenFolder(key, path, printable(path.name) or printable(path), uploaded))

    def _scan(self, folder: OpenFolder, files: Future[Found]) -> None:
        outlines: dict[Path, list[float]] = {}

        def progress(done: int, total: int) -> None:
            folder.done, folder.total = done, total

        def on_recording(path: Path, recording: Recording) -> None:
            outlines[path] = outline(recording.samples, _OUTLINE_PARTS)

        try:
            # Without a sample rate, so that no sounds are kept: a training decodes them again.
            contents = files.result()
            found = open_collection(
                contents.sounds, progress=progress, cancel_event=self._closing, on_recording=on_recording
            )
        except DistillError as error:
            with self._lock:
                folder.state, folder.error = "failed", error.with_reason(error.reason)  # without traceback: it is kept
            return
        with self._lock:
            folder.collection, folder.outlines, folder.state = found, outlines, "ready"
            folder.passed_over = contents.passed_over


def _find_in_background(path: Path) -> "Future[Found]":
    """Look for the audio files of a folder in the background, because a large one takes a while."""
    future: Future[Found] = Future()

    def find() -> None:
        try:
            future.set_result(find_sounds(path))
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=find, name="distill-find", daemon=True).start()
    return future


def _may_be_dropped(path: Path) -> bool:
    """True for a file that `receive_file`, or a file manager that showed the folder, may have put there."""
    return path.is_file() and not path.is_symlink() and (path.suffix.lower() in AUDIO_SUFFIXES or path.name[0] == ".")
