"""The state that all routes share: the library, the runs, the open folders, and the models in use."""

import hashlib
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from fastapi import Depends, HTTPException, Request

from distill.library.catalog import ModelEntry, ModelLibrary
from distill.web.editing import Editing
from distill.web.folders import Folders, OpenFolder
from distill.web.fresh_thread import Result
from distill.web.listening import Listening, SoundInUse
from distill.web.run_queue import RunQueue
from distill.web.tray import Tray


@dataclass
class AppState:
    """The state of one server; everything that outlasts it is in its folders."""

    library: ModelLibrary
    folders: Folders
    runs: RunQueue
    work: Path  # for temporary files; removed at the end
    tray: Tray
    undo: dict[str, Path] = field(default_factory=dict)  # the key of something removed → the path where it is kept
    closing: threading.Event = field(default_factory=threading.Event)
    listening: Listening = field(default_factory=Listening)
    editing: Editing = field(init=False)

    def __post_init__(self) -> None:
        self.editing = Editing(self.listening, self.source)

    def add_undo(self, place: Path) -> str:
        """Remember where something removed is kept; returns the key that brings it back."""
        key = secrets.token_hex(8)
        self.undo[key] = place
        return key

    @contextmanager
    def undoing(self, key: str) -> Iterator[Path]:
        """Yield the path of something removed for the body to bring back; raises `HTTPException`."""
        if key not in self.undo:
            raise HTTPException(404, "that cannot be undone any more")
        yield self.undo[key]
        self.undo.pop(key, None)  # only if the body has succeeded: else undoing can be tried again

    def model(self, key: str) -> ModelEntry:
        """The model with this id; raises `HTTPException`."""
        for entry in self.library.entries():
            if model_key(entry) == key:
                return entry
        raise HTTPException(404, "this model is no longer in the library")

    def folder(self, key: str) -> OpenFolder:
        """The collection with this id; raises `HTTPException`."""
        try:
            return self.folders.get(key)
        except KeyError:
            raise HTTPException(404, "this collection is not open any more; open it again") from None

    def source(self, key: str) -> SoundInUse:
        """The sound with this id, in use or kept; raises `HTTPException`, `AudioError`."""
        with known_sounds():
            try:
                return self.listening.sound(key)
            except KeyError:
                kept = self.tray.get(key)
        samples, rate = kept.read()
        return SoundInUse(kept.name, kept.path, rate, samples, kept.origin)

    async def in_turn(self, request: Request, make: Callable[[], Result], threads: int | None = None) -> Result | None:
        """The result of `make` when its turn to compute has come, or None if the page has disconnected by then.

        It has as many `threads` of torch, or as many as a training leaves.
        """
        spare = self.runs.spare_threads if threads is None else lambda: threads
        return await self.listening.in_turn(make, request.is_disconnected, spare)


@contextmanager
def known_sounds() -> Iterator[None]:
    """Say in a sentence that a sound is gone, where the body raises `KeyError`."""
    try:
        yield
    except KeyError:  # only the last ones are remembered
        raise HTTPException(404, "this sound is no longer available; drop it again, or make another") from None


def model_key(entry: ModelEntry) -> str:
    """The id of a model in URLs: not its path, which a request could forge, nor its own id, which copies share."""
    return hashlib.sha256(entry.file.encode(errors="surrogateescape")).hexdigest()[:16]


def state_of(request: Request) -> AppState:
    """The state of the app that received a request."""
    state: AppState = request.app.state.state
    return state


InState = Annotated[AppState, Depends(state_of)]  # a route's parameter
