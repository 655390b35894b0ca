"""Editing codes and mapping sounds: what the page asks of a model of codes. No edit is kept here.

The page holds the codes and all steps to undo. With every change it sends all codes and the key of the sound that it
has; it gets back the samples and the part of the picture that are another now.
"""

import base64
import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastapi import HTTPException

from distill.audio.io import wav_bytes
from distill.audio.recording import Samples
from distill.errors import CodesError, ConfigError
from distill.models import space
from distill.models.codes import Codes
from distill.models.loaded_vqvae import LoadedVQModel
from distill.models.new_sounds import redrawn
from distill.models.rendering import Rendering, rendered, whole_change
from distill.models.sound_map import View, map_of, view_of
from distill.web.listening import Listening, LRUCache, SoundInUse
from distill.web.pictures import code_tints, mel_levels
from distill.web.sources import Between, InUse, Like, OfCollection, Seeded, Source

_RENDERINGS = 16  # that can be gone back to without decoding
_SOUNDS = 1024  # whose codes stay in memory


@dataclass(frozen=True)
class Region:
    """A rectangle of a grid of codes: columns [first, stop), and rows [top, bottom) counted through all levels."""

    first: int
    stop: int
    top: int
    bottom: int


@dataclass(frozen=True)
class _Heard:
    """A rendering, cut to as long as its codes last."""

    rendering: Rendering
    samples: Samples


class Editing:
    """Codes to sounds and back; methods compute, and are to be called through `Listening.in_turn`."""

    def __init__(self, listening: Listening, find: Callable[[str], SoundInUse]) -> None:
        self._listening, self._find = listening, find
        self._heard: LRUCache[_Heard] = LRUCache(_RENDERINGS)
        self._codes: LRUCache[Codes] = LRUCache(_SOUNDS)
        self._views: LRUCache[View] = LRUCache(_SOUNDS)

    def model(self, path: Path) -> LoadedVQModel:
        """The model of codes at `path`; raises `ConfigError` where it is of another family."""
        model = self._listening.model(path)
        if not isinstance(model, LoadedVQModel):
            raise ConfigError(f"{model.metadata.name!r} is a {model.family_name} model, which has no codes")
        return model

    def codes(self, path: Path, source: Source) -> Codes:
        """The codes of a sound; raises `HTTPException` for one that is forgotten, `ConfigError`."""
        return self._codes.fetch((path, self.model(path).metadata.model_id, source), lambda: self._made(path, source))

    def _made(self, path: Path, source: Source) -> Codes:
        model = self.model(path)
        match source:
            case InUse():
                sound = self._find(source.sound)
                return model.encode(sound.waveform, sound.sample_rate)
            case Seeded():
                return space.drawn(model, source.seed)
            case OfCollection():
                return space.of_collection(model, source.number)
            case Between():
                first, second = self.codes(path, source.first), self.codes(path, source.second)
                return space.between(model, first, second, source.share)
            case Like():
                return space.drawn(model, source.seed, [self.codes(path, sound) for sound in source.sounds])

    def grid(self, path: Path, codes: Codes) -> dict[str, Any]:
        """The JSON of codes with all that the page needs to edit them; raises `CodesError` for another model's."""
        model = self.model(path)
        columns = model.columns_of(codes)
        missing = model.model.quantizer.levels - columns.shape[2]
        columns = torch.nn.functional.pad(columns, (0, missing), value=-1)  # levels without codes can be given some
        return self.form(path) | {"seconds": codes.seconds, "codes": _packed(columns.cpu().numpy().astype("<i2"))}

    def form(self, path: Path) -> dict[str, Any]:
        """The JSON of what all codes of a model have in common."""
        model = self.model(path)
        book = model.codebook
        return {
            "levels": model.model.quantizer.levels,
            "rows": model.model.grid.rows,
            "codebook_size": book.vectors.shape[1],
            "column_seconds": book.column_seconds,
            "span_seconds": book.span_seconds,
            "sample_rate": model.sample_rate,
            "bands": model.spectrogram.config.n_mels,
            "frames_per_column": model.model.grid.hop,
            "generates": model.generates,
            "tints": code_tints(model.model.quantizer.codebooks.cpu()),
        }

    def unpacked(self, path: Path, packed: bytes, seconds: float) -> Codes:
        """The codes that the page has packed, int16 `[W, H, Q]`; raises `CodesError` if they are none of this model."""
        model = self.model(path)
        shape = (-1, model.model.grid.rows, model.model.quantizer.levels)
        if len(packed) == 0 or len(packed) % (2 * shape[1] * shape[2]):
            raise CodesError(f"{len(packed)} bytes of codes", f"a column has {2 * shape[1] * shape[2]}")
        return Codes(np.frombuffer(packed, "<i2").reshape(shape).T, model.metadata.model_id, seconds)

    def changed(self, path: Path, codes: Codes, known: str) -> dict[str, Any]:
        """The JSON of what is another in the sound of codes than in the one whose key is `known`, if it is.

        All is, if that one is forgotten. Raises `CodesError`.
        """
        model, before = self.model(path), self._heard.get((path, known))
        key = hashlib.sha256(codes.to_bytes()).hexdigest()[:32]
        now = self._heard.fetch((path, key), lambda: _heard(model, codes, before.rendering if before else None))
        frames = model.model.grid.frames(len(now.rendering.codes))
        first, stop, start, left = 0, frames, 0, 0
        if before is not None:
            change = whole_change(before.rendering.codes, now.rendering.codes)
            first, stop = change.frames(model, len(now.rendering.codes))
            start, left = _common_ends(before.samples, now.samples)
        with torch.no_grad():
            mel = model.model.decode_frames(now.rendering.codes.unsqueeze(0), first, stop)
        return {
            "key": key,
            "start": start,
            "left": left,
            "samples": _packed(now.samples[start : len(now.samples) - left].astype("<f4")),
            "first_frame": first,
            "left_frames": frames - stop,
            "mel": _packed(mel_levels(model.spectrogram.decibels(mel)[0, 0].T)),
        }

    def redrawn(self, path: Path, codes: Codes, region: Region, seed: int, strength: float) -> str:
        """Codes, packed, of which a region was drawn anew; raises `CodesError`, `ConfigError`."""
        model = self.model(path)
        columns = model.columns_of(codes)
        # Level by level, as the page counts rows.
        free = torch.zeros(columns.mT.shape, dtype=torch.bool, device=columns.device)
        rows = free.view(len(columns), -1)[region.first : region.stop, region.top : region.bottom]
        if min(region.first, region.top) < 0 or region.stop > len(columns) or rows.numel() == 0:
            raise ConfigError("nothing is selected in these codes", "select a region first")
        rows.fill_(True)
        return _packed(redrawn(model, columns, free.mT, seed, strength).cpu().numpy().astype("<i2"))

    def wav(self, path: Path, codes: Codes) -> bytes:
        """A WAV file of codes, decoded in one piece."""
        model = self.model(path)
        return wav_bytes(model.decode(codes), model.sample_rate)

    def sound_map(self, path: Path, made: Sequence[Source]) -> dict[str, Any]:
        """The JSON of the map of the sounds of the collection that a model keeps, and of those that were `made`."""
        kept: list[Source] = [
            OfCollection(kind="collection", number=number) for number in range(space.collection_count(self.model(path)))
        ]
        found: list[tuple[Source, View]] = []
        for source in [*kept, *made]:
            with suppress(HTTPException):  # what is forgotten has no place
                found.append((source, self._view(path, source)))
        if not found:
            return {"sounds": [], "axes": []}
        drawn = map_of([view for _, view in found], len(kept))
        sounds = [
            {"source": source.model_dump(), "place": place.tolist(), "seconds": self.codes(path, source).seconds}
            for (source, _), place in zip(found, drawn.places)
        ]
        return {"sounds": sounds, "axes": [dataclasses.asdict(axis) for axis in drawn.axes]}

    def _view(self, path: Path, source: Source) -> View:
        model, codes = self.model(path), self.codes(path, source)
        return self._views.fetch((path, codes.model, source), lambda: view_of(model, codes))


def _heard(model: LoadedVQModel, codes: Codes, before: Rendering | None) -> _Heard:
    made = rendered(model, codes, before)
    return _Heard(made, made.samples[: max(1, round(codes.seconds * model.sample_rate))])


def _common_ends(before: Samples, now: Samples) -> tuple[int, int]:
    """How many samples two sounds have in common at the beginning, and how many of the others at the end."""
    most = min(len(before), len(now))
    start = _equal(before[:most], now[:most])
    most -= start
    return start, _equal(before[len(before) - most :][::-1], now[len(now) - most :][::-1])


def _equal(one: Samples, other: Samples) -> int:
    differing = np.flatnonzero(one != other)
    return int(differing[0]) if len(differing) else len(one)


def _packed(values: np.ndarray[Any, Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()
