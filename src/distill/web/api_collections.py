"""Routes of the collection page: folders, dropped files, the report, and the plan of a training."""

import dataclasses
import os
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.concurrency import run_in_threadpool

from distill.audio.io import read_recording, wav_bytes
from distill.audio.suffixes import AUDIO_SUFFIXES
from distill.data.cutting import cut_recordings
from distill.errors import CollectionError, ConfigError, DistillError
from distill.families import get_family
from distill.library.catalog import ModelLibrary
from distill.training.request import TrainingRequest, new_run_folder
from distill.training.strict_json import to_json
from distill.web.advice import reasons
from distill.web.families import FamilyName, default_family
from distill.web.folders import OpenFolder
from distill.web.state import InState
from distill.web.uploads import receive_file, safe_name

router = APIRouter(prefix="/api/collections")

_NOT_READY = {
    "empty": ("this collection has not been looked through yet", "open it first"),
    "scanning": ("this collection is still being looked through", "wait until that is done"),
    "failed": ("this collection could not be looked through", "look through it again"),
}
_PLAYABLE_HZ = 48_000  # at most
_PREVIEW_INTERVAL = 5  # epochs; short, because on the page people listen to the progress while it happens


_PRINTABLE = r"^[^\p{C}]*$"  # no control characters, and none that change the direction of writing


class RequestBody(BaseModel):
    """The JSON body of a request; an undeclared field is an error."""

    model_config = ConfigDict(extra="forbid")


class FolderPath(RequestBody):
    """A folder of this machine."""

    path: str = Field(min_length=1, max_length=4096)


class Name(RequestBody):
    """A name for something on the page."""

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=_PRINTABLE)]


class Undo(RequestBody):
    """The key that the response to a removal contained."""

    undo: str


class CutBody(RequestBody):
    """How to cut recordings: every so many `seconds`, or without them where they are silent."""

    excluded: list[str] = []  # names, as the report has them
    seconds: float | None = None


class TrainingBody(RequestBody):
    """The sounds to train on, and the settings."""

    excluded: list[str] = []  # names, as the report has them
    family: FamilyName = Field(default_factory=default_family)
    settings: dict[str, Any] = {}

    def request(self, folder: OpenFolder, library: ModelLibrary, name: str | None = None) -> TrainingRequest:
        """The training request of this body; raises `CollectionError`, `ConfigError`, `StorageError`."""
        known = {field.name for field in dataclasses.fields(get_family(self.family).config)}
        if unknown := sorted(self.settings.keys() - known):
            raise ConfigError(f"there is no setting {unknown[0]!r} for a {self.family}")
        if error := folder.error:
            raise CollectionError(f"this collection could not be looked through: {error.reason}", error.remedy)
        if folder.state != "ready":
            raise CollectionError(*_NOT_READY[folder.state])
        request = TrainingRequest.new(
            folder.name,
            model_name=name or folder.name,
            models_dir=library.folder,
            output_dir=new_run_folder(name or folder.name),
            family=self.family,
            **{"preview_interval": _PREVIEW_INTERVAL} | self.settings,  # which wins, if it is asked for
        )
        return request.with_sounds(folder.without(set(self.excluded)))


@router.get("")
def list_collections(state: InState) -> list[dict[str, Any]]:
    """List the open collections, and those made of dropped files."""
    return [folder.summary() for folder in state.folders.all()]


@router.post("")
def open_collection(body: FolderPath, state: InState) -> dict[str, Any]:
    """Open a folder of this machine and start to scan it."""
    # A pasted path may have quotes around it.
    path = os.path.expanduser(body.path.strip().strip("\"'"))  # noqa: PTH111  unlike Path, it leaves an unknown ~user as it is
    if not Path(path).is_absolute():
        raise CollectionError(f"{body.path} is not a whole path", "give the full path of the folder, from the root on")
    return state.folders.open(Path(path)).report()


@router.post("/uploads")
def create_collection(body: Name, state: InState) -> dict[str, Any]:
    """Create an empty collection for dropped files."""
    return state.folders.create(body.name).summary()


@router.post("/undo")
def undo_removal(body: Undo, state: InState) -> dict[str, Any]:
    """Bring a removed collection back."""
    with state.undoing(body.undo) as kept:
        return state.folders.restore(kept).summary()


@router.delete("/{key}")
def remove_collection(key: str, state: InState) -> dict[str, str]:
    """Remove dropped sounds; the `undo` key brings them back, until distill is started again."""
    folder = state.folder(key)
    if any(file.is_relative_to(folder.path) for job in state.runs.jobs() for file in job.request.file_paths):
        raise CollectionError(f"a training needs {folder.name}", "wait until it ends, or cancel it first")
    return {"undo": state.add_undo(state.folders.remove(key))}


@router.put("/{key}/files")
async def receive_sound(key: str, name: str, request: Request, state: InState) -> dict[str, str]:
    """Receive one dropped file."""
    folder = state.folder(key)
    folder.check_receives()
    path = await receive_file(request, folder.path, safe_name(name, set(AUDIO_SUFFIXES)))
    return {"name": path.name}


@router.post("/{key}/scan")
def look_through(key: str, state: InState) -> dict[str, Any]:
    """Scan a collection, or scan it again."""
    folder = state.folder(key)
    state.folders.look_through(folder)
    return folder.report()


@router.get("/{key}")
async def show_collection(key: str, state: InState) -> Any:
    """Report on a collection, as far as it has been scanned."""
    return to_json(await run_in_threadpool(state.folder(key).report))


@router.get("/{key}/sound")
def play_sound(key: str, name: str, state: InState) -> Response:
    """Send a sound of a collection, by its name in the report, in a form that every browser plays."""
    recording = read_recording(state.folder(key).path_of(name))
    rate = min(recording.sample_rate, _PLAYABLE_HZ)
    return Response(wav_bytes(recording.mono_or_stereo(rate), rate), media_type="audio/wav")


@router.post("/{key}/cut")
def cut_sounds(key: str, body: CutBody, state: InState) -> dict[str, Any]:
    """Cut the usable sounds of a collection into those of a new one, and start to scan that."""
    folder = state.folder(key)
    recordings = [file.path for file in folder.without(set(body.excluded)).usable]
    pieces = state.folders.create(f"{folder.name} cut")
    try:
        cut_recordings(recordings, pieces.path, body.seconds)
    except DistillError:
        state.folders.remove(pieces.id)
        raise
    state.folders.look_through(pieces)
    return pieces.report()


@router.post("/{key}/plan")
def plan_training(key: str, body: TrainingBody, state: InState) -> Any:
    """Return the settings that training would use, and the reasons for them."""
    request = body.request(state.folder(key), state.library)
    return to_json(
        {
            "config": vars(request.config),
            "why": reasons(request, set(body.settings)),
            "files": len(request.file_paths),
            "seconds": request.seconds,
            "sample_rate": request.spectrogram_config.sample_rate,
            "kbits": request.kilobits,
        }
    )
