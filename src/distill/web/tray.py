"""The sounds that were kept on the page: files in a folder, each with a note beside it; nothing depends on an index."""

import io
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import soundfile
from pydantic import BaseModel

from distill.audio.recording import Samples
from distill.errors import AudioError
from distill.packs.origin import Origin
from distill.storage import atomic_write, atomic_write_text, remove_orphans, storage_errors

_REMOVED = ".removed"
_ORDER = "order.json"
_KEY = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class KeptSound:
    """A sound in the tray: its id, which grows with the time at which it was kept, its name, and where it is from."""

    key: str
    path: Path
    name: str
    origin: Origin | None

    def read(self) -> tuple[Samples, int]:
        """Its samples float32 `[S]` or `[S, channels]`, and their rate in Hz; raises `AudioError`."""
        try:
            samples, sample_rate = soundfile.read(self.path, dtype="float32")
        except (OSError, soundfile.SoundFileError) as error:
            raise AudioError(f"{self.name}: this sound cannot be read any more") from error
        return samples, sample_rate


class _Note(BaseModel):
    """What is written beside a kept sound."""

    name: str
    origin: Origin | None = None


class Tray:
    """The kept sounds in `folder`, as 32-bit float WAV files; every call sees the folder as it is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        remove_orphans(folder)

    def sounds(self) -> list[KeptSound]:
        """All kept sounds: in the order that was last given, those kept since at the end."""
        place = {key: number for number, key in enumerate(self._order())}
        found = [path for path in self.folder.glob("*.wav") if _KEY.fullmatch(path.stem)]
        return [_kept(path) for path in sorted(found, key=lambda path: (place.get(path.stem, len(place)), path.stem))]

    def get(self, key: str) -> KeptSound:
        """The sound with this id; raises `KeyError`."""
        path = self.folder / f"{key}.wav"
        if not _KEY.fullmatch(key) or not path.is_file():  # nothing else could lead out of the folder
            raise KeyError(key)
        return _kept(path)

    def keep(self, samples: Samples, sample_rate: int, name: str, origin: Origin | None) -> KeptSound:
        """Keep a sound float32 `[S]` or `[S, channels]`; it is on disk when this returns. Raises `StorageError`."""
        path = self.folder / f"{time.time_ns():016x}.wav"
        atomic_write(path, _wav_bytes(samples, sample_rate))
        _write_note(path, name, origin)
        return _kept(path)

    def rename(self, key: str, name: str) -> KeptSound:
        """Give a sound another name; raises `KeyError`, `StorageError`."""
        kept = self.get(key)
        _write_note(kept.path, name, kept.origin)
        return _kept(kept.path)

    def arrange(self, keys: Sequence[str]) -> None:
        """Put the sounds in this order; raises `StorageError`."""
        atomic_write_text(self.folder / _ORDER, json.dumps(list(keys)))

    def remove(self, key: str) -> Path:
        """Take a sound out of the tray, to where `restore` brings it back from; raises `KeyError`, `StorageError`."""
        aside = self.folder / _REMOVED / self.get(key).path.name
        with storage_errors(aside):
            aside.parent.mkdir(exist_ok=True)
            _move(self.folder / aside.name, aside)
            aside.touch()  # since when it is there
        return aside

    def restore(self, aside: Path) -> KeptSound:
        """Bring a sound back that was removed; raises `StorageError`."""
        path = self.folder / aside.name
        with storage_errors(path):
            _move(aside, path)
        return _kept(path)

    def forget_removed(self, days: float = 30) -> None:
        """Delete for good the sounds that were removed more than `days` days ago."""
        oldest = time.time() - days * 86_400
        for path in (self.folder / _REMOVED).glob("*.wav"):
            if path.stat().st_mtime < oldest:
                with storage_errors(path):
                    path.with_suffix(".json").unlink(missing_ok=True)
                    path.unlink(missing_ok=True)

    def _order(self) -> list[str]:
        try:
            keys = json.loads((self.folder / _ORDER).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return []  # then they are in the order in which they were kept
        return [key for key in keys if isinstance(key, str)] if isinstance(keys, list) else []


def _kept(path: Path) -> KeptSound:
    try:
        note = _Note.model_validate_json(path.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # a sound whose note is lost or damaged is still there
        note = _Note(name=f"sound {path.stem[-6:]}")
    return KeptSound(path.stem, path, note.name, note.origin)


def _write_note(path: Path, name: str, origin: Origin | None) -> None:
    atomic_write_text(path.with_suffix(".json"), _Note(name=name, origin=origin).model_dump_json())


def _move(path: Path, target: Path) -> None:
    """Rename a sound, then its note, if it has one."""
    path.rename(target)
    if path.with_suffix(".json").exists():
        path.with_suffix(".json").rename(target.with_suffix(".json"))


def _wav_bytes(samples: Samples, sample_rate: int) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, sample_rate, format="WAV", subtype="FLOAT")  # nothing is rounded or cut off
    return buffer.getvalue()
