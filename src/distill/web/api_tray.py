"""Routes of the tray: the sounds that were kept, in their order; their files, and all of them as a pack."""

import dataclasses
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response

from distill.audio.finish import HIGHEST_RATE, LOWEST_PEAK, LOWEST_RATE, Finish
from distill.packs.pack import pack_zip
from distill.packs.sounds import finish_sound
from distill.storage import safe_stem
from distill.web.api_collections import Name, RequestBody, Undo
from distill.web.downloads import named, wav_file
from distill.web.packing import made_sound, packed
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
    return _about(state.tray.keep(sound.waveform, sound.sample_rate, sound.name, sound.origin))


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
def download_pack(
    state: InState,
    name: Annotated[str, Query(min_length=1, max_length=100)] = "kept sounds",
    peak: Annotated[float | None, Query(ge=LOWEST_PEAK, le=0)] = None,
    rate: Annotated[int | None, Query(ge=LOWEST_RATE, le=HIGHEST_RATE)] = None,
    bits: Literal["16", "24", "32f"] = "24",
    stereo: bool = False,
    loop: bool = False,
) -> Response:
    """Send all kept sounds, finished, with presets for samplers, in a zip file."""
    sounds = packed(state.tray.sounds(), Finish(peak, rate, stereo), bits, loop)
    return named(pack_zip(name, sounds), f"{safe_stem(name)}.zip", "application/zip")


@router.get("/{key}/file")
def download_kept(key: str, state: InState) -> Response:
    """Send a kept sound under its name, finished."""
    with known_sounds():
        kept = state.tray.get(key)
    return wav_file(finish_sound(made_sound(kept, kept.name), Finish()).wav, kept.name)


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
    return {"sound": kept.key, "name": kept.name, "origin": kept.origin and dataclasses.asdict(kept.origin)}
