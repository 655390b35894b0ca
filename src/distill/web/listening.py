"""Sounds in use: dropped on a model or made by it; their reconstructions, level by level, and their codes."""

import dataclasses
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import anyio
import numpy as np
import torch
from anyio import to_thread

from distill.audio.io import wav_bytes
from distill.audio.likeness import Portrait, portrait
from distill.audio.recording import Samples
from distill.audio.spectrogram import mark_end
from distill.errors import LibraryError
from distill.models.loaded import LoadedFamily
from distill.models.persistence import load_any
from distill.packs.origin import Origin
from distill.web.fresh_thread import Result, in_fresh_thread
from distill.web.pictures import code_tints, mel_picture, outline

_MODELS = 2  # that stay in memory
_DROPPED = 8  # sounds that stay in memory, of any length
_MADE = 256  # sounds that stay in memory, of some seconds
_RECONSTRUCTIONS = 16
_OUTLINE_PARTS = 400

Kept = TypeVar("Kept")


@dataclass(frozen=True)
class SoundInUse:
    """A sound as a model hears it: float32 `[S]`, or `[S, 2]` of a stereo sound, at the model's rate."""

    name: str
    model_path: Path
    sample_rate: int
    waveform: Samples
    origin: Origin | None = None  # if a model made it

    @cached_property
    def portrait(self) -> Portrait:
        """What other sounds are compared with."""
        return portrait(self.waveform, self.sample_rate)

    def facts(self) -> dict[str, Any]:
        """The JSON of what there is to know of it without a model."""
        peak = float(np.abs(self.waveform).max(initial=0))
        return {
            "name": self.name,
            "seconds": len(self.waveform) / self.sample_rate,
            "sample_rate": self.sample_rate,
            "channels": self.waveform.shape[1] if self.waveform.ndim == 2 else 1,
            "peak_db": round(20 * np.log10(max(peak, 1e-6)), 1),
            "outline": outline(self.waveform, _OUTLINE_PARTS),
            "origin": self.origin and dataclasses.asdict(self.origin),
        }


class LRUCache(OrderedDict[Hashable, Kept]):
    """A cache of the `size` values that were used last."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    def fetch(self, key: Hashable, make: Callable[[], Kept]) -> Kept:
        """The value of `key`, made by `make` if it is not there; needs no lock where callers take turns."""
        if key not in self:
            self[key] = make()
        self.move_to_end(key)
        while len(self) > self._size:
            self.popitem(last=False)
        return self[key]

    def use(self, key: Hashable) -> Kept:
        """The value of `key`; raises `KeyError`."""
        self.move_to_end(key)
        return self[key]


class Listening:
    """The models and sounds in use; methods that compute are to be called through `in_turn`."""

    def __init__(self) -> None:
        self._turn = anyio.Lock()
        self._models: LRUCache[LoadedFamily] = LRUCache(_MODELS)
        self._dropped: LRUCache[SoundInUse] = LRUCache(_DROPPED)
        self._made: LRUCache[SoundInUse] = LRUCache(_MADE)
        self._reconstructions: LRUCache[Samples] = LRUCache(_RECONSTRUCTIONS)

    async def in_turn(
        self, make: Callable[[], Result], disconnected: Callable[[], Awaitable[bool]], threads: Callable[[], int]
    ) -> Result | None:
        """Call `make`, one caller after another, so that a training beside it keeps its cores; returns its result.

        For a caller that has `disconnected` before its turn, it is not called, and the result is None.
        """
        async with self._turn:
            return None if await disconnected() else await to_thread.run_sync(lambda: in_fresh_thread(make, threads()))

    def model(self, path: Path) -> LoadedFamily:
        """The model at `path`, loaded unless it is in memory; raises `ModelFileError`, `LibraryError`."""
        _check_there(path)  # not served from memory once it was deleted
        # With the time of the file, so that a model that was replaced is loaded again.
        return self._models.fetch((path, path.stat().st_mtime_ns), lambda: load_any(path))

    def add(self, model_path: Path, file: Path) -> dict[str, Any]:
        """Add a sound file for a model: returns the sound's id, its outline and its codes; raises `AudioError`."""
        model = self.model(model_path)
        sound = SoundInUse(file.stem, model_path, model.sample_rate, model.heard(file))
        return _remembered(self._dropped, sound) | {"name": file.name} | _grid(model, sound)

    def add_made(self, sound: SoundInUse) -> dict[str, Any]:
        """Add a sound that a model has made: returns its id and its facts."""
        return _remembered(self._made, sound)

    def sound(self, key: str) -> SoundInUse:
        """The sound with this id; raises `KeyError`."""
        return self._made.use(key) if key in self._made else self._dropped.use(key)

    def original(self, key: str) -> bytes:
        """A WAV file of a sound as its model hears it; computes nothing. Raises `KeyError`, `LibraryError`."""
        sound = self.sound(key)
        _check_there(sound.model_path)
        return wav_bytes(sound.waveform, sound.sample_rate)

    def reconstruction(self, key: str, levels: int | None) -> bytes:
        """A WAV file of a sound as its model reconstructs it; raises `KeyError`, `ConfigError`."""
        return wav_bytes(self._reconstructed(key, levels), self.sound(key).sample_rate)

    def mel(self, key: str, which: str, levels: int | None) -> bytes:
        """A picture of the mel of a sound, or of its reconstruction; raises `KeyError`, `ConfigError`."""
        sound = self.sound(key)
        samples = sound.waveform if which == "original" else self._reconstructed(key, levels)
        return _picture(self.model(sound.model_path), samples)

    def _reconstructed(self, key: str, levels: int | None) -> Samples:
        sound = self.sound(key)
        model = self.model(sound.model_path)
        # Kept, because the page asks for the sound and for the picture of its mel.
        return self._reconstructions.fetch(
            (key, levels), lambda: model.reconstruct(sound.waveform, model.sample_rate, levels)
        )


def _remembered(sounds: LRUCache[SoundInUse], sound: SoundInUse) -> dict[str, Any]:
    key = uuid.uuid4().hex[:16]
    sounds.fetch(key, lambda: sound)
    return {"sound": key} | sound.facts()


def _check_there(model_path: Path) -> None:
    if not model_path.is_file():
        raise LibraryError("this model is no longer in the library")


def _grid(model: LoadedFamily, sound: SoundInUse) -> dict[str, Any]:
    """The JSON of a sound's codes, as the page draws them; None in place of them for a model without codes."""
    book = model.codebook
    if book is None:
        return {"levels": None, "codes": None}
    codes = model.encode(sound.waveform)
    levels, rows, columns = codes.grid.shape
    return {
        "levels": levels,
        "rows": rows,
        "columns": columns,
        "column_seconds": book.column_seconds,
        "span_seconds": book.span_seconds,
        "codes": codes.grid.tolist(),
        "codebook_size": book.vectors.shape[1],
        "tints": code_tints(torch.from_numpy(book.vectors)),
        "counts": book.counts(codes).tolist(),
    }


def _picture(model: LoadedFamily, samples: Samples) -> bytes:
    waveform = mark_end(torch.from_numpy(model.waveform(samples)))[None, None]
    return mel_picture(model.spectrogram.decibels(model.spectrogram.waveform_to_mel(waveform))[0, 0])
