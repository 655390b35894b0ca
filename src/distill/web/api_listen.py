"""Routes for listening: a sound reconstructed by a model, its levels and codes."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from distill.audio.suffixes import AUDIO_SUFFIXES
from distill.web.downloads import wav_file
from distill.web.state import AppState, InState, known_sounds
from distill.web.uploads import safe_name, temporary_upload

router = APIRouter(prefix="/api")

Levels = Annotated[int | None, Query(ge=1)]

CLIENT_CLOSED_REQUEST = 499  # nginx's status for a response that nobody reads


@router.post("/models/{key}/sounds")
async def upload_sound(key: str, name: str, request: Request, state: InState) -> Any:
    """Reconstruct an uploaded sound."""
    model = state.library.path(await run_in_threadpool(state.model, key))
    async with temporary_upload(request, state.work, safe_name(name, set(AUDIO_SUFFIXES))) as path:
        result = await state.in_turn(request, lambda: state.listening.add(model, path))
    return result or Response(status_code=CLIENT_CLOSED_REQUEST)


@router.get("/sounds/{sound}/original")
def get_original(sound: str, state: InState) -> Response:
    """Send a sound as its model hears it, or as it was made."""
    with known_sounds():
        return wav_file(state.listening.original(sound), state.listening.sound(sound).name)


@router.get("/sounds/{sound}/reconstruction")
async def get_reconstruction(sound: str, request: Request, state: InState, levels: Levels = None) -> Response:
    """Send a sound as its model reconstructs it, from the first `levels` levels of codes."""
    how = "rebuilt" if levels is None else "1 level" if levels == 1 else f"{levels} levels"

    def made() -> Response:
        return wav_file(state.listening.reconstruction(sound, levels), f"{state.listening.sound(sound).name} {how}")

    return await _answer(request, state, made)


@router.get("/sounds/{sound}/mel")
async def get_mel(
    sound: str,
    request: Request,
    state: InState,
    which: Literal["original", "reconstruction"],
    levels: Levels = None,
) -> Response:
    """Send a picture of the mel of a sound or of its reconstruction."""
    return await _answer(
        request, state, lambda: Response(state.listening.mel(sound, which, levels), media_type="image/png")
    )


async def _answer(request: Request, state: AppState, make: Callable[[], Response]) -> Response:
    """Send the result of `make` when its turn has come, or nothing if the page has disconnected by then."""
    with known_sounds():
        made = await state.in_turn(request, make)
    return Response(status_code=CLIENT_CLOSED_REQUEST) if made is None else made
