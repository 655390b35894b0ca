"""Routes of the tray: the sounds that were kept, in their order; their files, and all of them as a pack."""

from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse

from distill.web.api_collections import Name, RequestBody, Undo
from distill.web.downloads import named
from distill.web.packing import zipped
from distill.web.state import InState, known_sounds
from distill.web.tray import KeptSound

router = APIRouter(prefix="/api/tray")


class Keep(RequestBody):
    """The id of a sound to keep."""

    sound: str


class Order(RequestBody):
    """The ids of kept sounds, in the order they are to have."""

    sounds: list[str]


@router.get("")
def list_kept(state: InState) -> list[dict[str, Any]]:
    """List the kept sounds in their order."""
    return [_about(kept) for kept in state.tray.sounds()]


@router.post("")
def keep_sound(body: Keep, state: InState) -> dict[str, Any]:
    """Keep a sound; it is on disk when the response is sent."""
    with known_sounds():
        sound = state.listening.sound(body.sound)
    return _about(state.tray.keep(sound.waveform, sound.sample_rate, sound.name, sound.made or {"how": "dropped"}))


@router.put("/order")
def arrange_kept(body: Order, state: InState) -> list[dict[str, Any]]:
    """Put the kept sounds in another order."""
    state.tray.arrange(body.sounds)
    return list_kept(state)


@router.post("/undo")
def undo_removal(body: Undo, state: InState) -> dict[str, Any]:
    """Bring a removed sound back."""
    with state.undoing(body.undo) as aside:
        return _about(state.tray.restore(aside))


@router.get("/pack")
def download_pack(state: InState) -> Response:
    """Send all kept sounds in a zip file."""
    return named(zipped(state.tray.sounds()), "kept sounds.zip", "application/zip")


@router.get("/{key}/file")
def download_kept(key: str, state: InState) -> FileResponse:
    """Send a kept sound under its name."""
    with known_sounds():
        kept = state.tray.get(key)
    return FileResponse(kept.path, media_type="audio/wav", filename=f"{kept.name}.wav")


@router.patch("/{key}")
def rename_kept(key: str, body: Name, state: InState) -> dict[str, Any]:
    """Rename a kept sound."""
    with known_sounds():
        return _about(state.tray.rename(key, body.name))


@router.delete("/{key}")
def remove_kept(key: str, state: InState) -> dict[str, str]:
    """Take a sound out of the tray; the `undo` key brings it back."""
    with known_sounds():
        return {"undo": state.add_undo(state.tray.remove(key))}


def _about(kept: KeptSound) -> dict[str, Any]:
    return {"sound": kept.key, "name": kept.name, "made": kept.made}
