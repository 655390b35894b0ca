"""The collections that the page has opened: folders of this machine, and those made of dropped files."""

import hashlib
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from distill.audio.recording import Recording
from distill.data.collection import Collection, SoundFile, UnreadableFile, find_audio_files, scan
from distill.errors import DistillError
from distill.paths import shown
from distill.storage import safe_stem, storage_errors
from distill.web.pictures import outline

_OUTLINE_PARTS = 96

State = Literal["empty", "scanning", "ready", "failed"]


@dataclass
class OpenFolder:
    """A folder of sounds and how far it has been looked through; read and changed under the lock of `Folders`."""

    id: str
    path: Path
    name: str
    uploaded: bool
    state: State = "empty"
    done: int = 0
    total: int = 0
    error: str | None = None
    collection: Collection = field(default_factory=lambda: Collection((), ()))
    outlines: dict[Path, list[float]] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """What a list of collections says of it."""
        return {"id": self.id, "name": self.name, "path": shown(self.path), "uploaded": self.uploaded}

    def report(self) -> dict[str, Any]:
        """All there is to say, the files in the order of their paths."""
        usable = self.collection.usable
        return self.summary() | {
            "state": self.state,
            "done": self.done,
            "total": self.total,
            "error": self.error,
            "files": [self._file(file) for file in self._every()],
            "usable": len(usable),
            "seconds": sum(file.duration_s for file in usable),
        }

    def without(self, excluded: set[str]) -> Collection:
        """The collection less the files that the report has under these names."""
        kept = tuple(file for file in self.collection.files if self._name(file) not in excluded)
        return replace(self.collection, files=kept)

    def _name(self, file: SoundFile | UnreadableFile) -> str:
        return shown(file.path.relative_to(self.path))

    def _every(self) -> list[SoundFile | UnreadableFile]:
        return sorted([*self.collection.files, *self.collection.unreadable], key=lambda file: file.path)

    def _file(self, file: SoundFile | UnreadableFile) -> dict[str, Any]:
        name = self._name(file)
        if isinstance(file, UnreadableFile):
            nothing = dict.fromkeys(("seconds", "sample_rate", "channels", "format", "peak"))
            unread = {"usable": False, "notes": [], "reason": file.reason, "outline": []}
            return {"name": name} | nothing | unread
        return {
            "name": name,
            "usable": file.usable,
            "seconds": file.duration_s,
            "sample_rate": file.sample_rate,
            "channels": file.channels,
            "format": file.format,
            "peak": file.peak,
            "notes": file.notes,
            "reason": None if file.usable else file.notes[0],
            "outline": self.outlines.get(file.path, []),
        }


class Folders:
    """The open folders by id; dropped files lie in folders of their own below `uploads`."""

    def __init__(self, uploads: Path) -> None:
        self._uploads, self._lock = uploads, threading.Lock()
        self._open: dict[str, OpenFolder] = {}
        if uploads.is_dir():
            for path in sorted(uploads.iterdir()):
                if path.is_dir():
                    self._add(path, uploaded=True)

    def all(self) -> list[OpenFolder]:
        """Every folder, in the order in which they were opened."""
        return list(self._open.values())

    def get(self, key: str) -> OpenFolder:
        """The folder with this id; raises `KeyError`."""
        return self._open[key]

    def open(self, path: Path) -> OpenFolder:
        """A folder of this machine, looked through in the background; raises `CollectionError`."""
        find_audio_files(path)
        folder = self._add(path.resolve(), uploaded=False)
        self.look_through(folder)
        return folder

    def create(self, name: str) -> OpenFolder:
        """An empty folder for files that are about to come; raises `StorageError`."""
        stem = safe_stem(name)
        with self._lock, storage_errors(self._uploads):
            number = 1
            while (path := self._uploads / (stem if number == 1 else f"{stem}_{number}")).exists():
                number += 1
            path.mkdir(parents=True)
        return self._add(path, uploaded=True)

    def look_through(self, folder: OpenFolder) -> None:
        """Scan a folder in the background, unless that is going on."""
        with self._lock:
            if folder.state == "scanning":
                return
            folder.state, folder.done, folder.total, folder.error = "scanning", 0, 0, None
        threading.Thread(target=self._scan, args=(folder,), name="distill-scan", daemon=True).start()

    def _add(self, path: Path, uploaded: bool) -> OpenFolder:
        key = hashlib.sha256(str(path).encode(errors="surrogateescape")).hexdigest()[:16]
        with self._lock:
            return self._open.setdefault(key, OpenFolder(key, path, shown(path.name) or shown(path), uploaded))

    def _scan(self, folder: OpenFolder) -> None:
        outlines: dict[Path, list[float]] = {}

        def progress(done: int, total: int) -> None:
            folder.done, folder.total = done, total

        def look(path: Path, recording: Recording) -> None:
            outlines[path] = outline(recording.samples, _OUTLINE_PARTS)

        try:
            found = scan(find_audio_files(folder.path), progress, look=look)
        except DistillError as error:
            with self._lock:
                folder.state, folder.error = "failed", str(error)
            return
        with self._lock:
            folder.collection, folder.outlines, folder.state = found, outlines, "ready"
