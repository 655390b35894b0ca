"""Storage of decoded sounds: in memory up to a limit, beyond it in a temporary file, so that memory stays flat."""

import threading
import weakref
from pathlib import Path
from typing import Protocol

import numpy as np

from distill.audio.recording import Samples
from distill.home import home
from distill.storage import remove_orphans, storage_errors, temporary_beside

_MEMORY_BYTES = 256 << 20  # 23 minutes at 48 kHz
_ITEM_BYTES = np.dtype(np.float32).itemsize


class Waveform(Protocol):
    """Mono float32 samples that are read part by part."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Samples: ...


class WaveformStore:
    """Keeps waveforms for as long as one of them, or the store, is in use."""

    def __init__(self, memory_bytes: int = _MEMORY_BYTES, folder: Path | None = None) -> None:
        self._memory_left = memory_bytes
        self._folder = folder or home() / "cache"
        self._path: Path | None = None
        self._written = 0
        self._lock = threading.Lock()  # `keep` is called in the threads that read

    def keep(self, waveform: Samples) -> Waveform:
        """Keep `waveform` `[frames]`: returns it, or its equal that is read from disk; raises `StorageError`."""
        with self._lock:
            if self._path is None and waveform.nbytes <= self._memory_left:
                self._memory_left -= waveform.nbytes
                return waveform
            path = self._path = self._path or self._new_file()
            with storage_errors(path, waveform.nbytes), path.open("ab") as file:
                waveform.tofile(file)
            self._written += waveform.nbytes
            return _OnDisk(path, self._written - waveform.nbytes, len(waveform), self)

    def _new_file(self) -> Path:
        """Create a file that is deleted with this store, after sweeping those that killed processes have left."""
        with storage_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            remove_orphans(self._folder)
            path = temporary_beside(self._folder / "sounds")
            path.touch()
        weakref.finalize(self, path.unlink, missing_ok=True)  # also called when the interpreter exits
        return path


class _OnDisk:
    """A waveform in the file of a store; each part is read from disk, so that none of it stays in memory."""

    def __init__(self, path: Path, offset: int, length: int, store: WaveformStore) -> None:
        self._path, self._offset, self._length = path, offset, length
        self._store = store  # keeps the file: it is deleted when the store is garbage-collected

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, part: slice, /) -> Samples:
        start, stop, _ = part.indices(self._length)
        offset = self._offset + start * _ITEM_BYTES
        # Not a memory map, the pages of which would count as memory of the process.
        return np.fromfile(self._path, np.float32, count=max(0, stop - start), offset=offset)
