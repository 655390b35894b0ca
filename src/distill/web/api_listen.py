"""Routes for listening: a sound reconstructed by a model, its levels and codes; new sounds, if the model makes any."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from distill.audio.suffixes import AUDIO_SUFFIXES
from distill.errors import ConfigError
from distill.web.fresh_thread import Result
from distill.web.state import AppState, InState
from distill.web.uploads import safe_name, temporary_upload

router = APIRouter(prefix="/api")

Levels = Annotated[int | None, Query(ge=1)]
Seed = Annotated[int, Query(ge=0, lt=2**32)]

_WAV = "audio/wav"
_CLIENT_CLOSED_REQUEST = 499  # nginx's status for a response that nobody reads


@router.post("/models/{key}/sounds")
async def upload_sound(key: str, name: str, request: Request, state: InState) -> Any:
    """Reconstruct an uploaded sound."""
    model = state.library.path(await run_in_threadpool(state.model, key))
    async with temporary_upload(request, state.work, safe_name(name, set(AUDIO_SUFFIXES))) as path:
        result = await _in_turn(request, state, lambda: state.listening.add(model, path))
    return result or Response(status_code=_CLIENT_CLOSED_REQUEST)


@router.get("/sounds/{sound}/original")
def get_original(sound: str, state: InState) -> Response:
    """Send a sound as its model hears it."""
    with _known_sounds():
        return Response(state.listening.original(sound), media_type=_WAV)


@router.get("/sounds/{sound}/reconstruction")
async def get_reconstruction(sound: str, request: Request, state: InState, levels: Levels = None) -> Response:
    """Send a sound as its model reconstructs it, from the first `levels` levels of codes."""
    return await _answer(request, state, lambda: state.listening.reconstruction(sound, levels))


@router.get("/sounds/{sound}/mel")
async def get_mel(
    sound: str,
    request: Request,
    state: InState,
    which: Literal["original", "reconstruction"],
    levels: Levels = None,
) -> Response:
    """Send a picture of the mel of a sound or of its reconstruction."""
    return await _answer(request, state, lambda: state.listening.mel(sound, which, levels), "image/png")


@router.get("/sounds/{sound}/variation")
async def vary_sound(
    sound: str,
    request: Request,
    state: InState,
    strength: Annotated[float, Query(ge=0, le=1)] = 0.5,
    seed: Seed = 0,
) -> Response:
    """Send a sound that differs from another, from not at all (strength 0) to as far as a new one (1)."""
    return await _answer(request, state, lambda: state.listening.varied(sound, strength, seed))


@router.get("/models/{key}/generate")
async def generate_sound(
    key: str,
    request: Request,
    state: InState,
    seed: Seed = 0,
    seconds: Annotated[float | None, Query(gt=0, le=30)] = None,
    temperature: Annotated[float | None, Query(ge=0.05, le=3)] = None,
    loop: bool = False,
    set: Annotated[list[str], Query()] = [],  # noqa: B006  FastAPI copies it; the name is that of the option
) -> Response:
    """Generate a sound, moved along named directions; without `seconds` as long as those of the collection."""
    path = state.library.path(await run_in_threadpool(state.model, key))
    amounts = dict(map(_parse_amount, set))
    options = {"seconds": seconds, "moves": amounts, "temperature": temperature, "loop": loop}
    return await _answer(request, state, lambda: state.listening.generated(path, seed, options))


@router.get("/models/{key}/between")
async def interpolate_sounds(
    key: str,
    request: Request,
    state: InState,
    first: str,
    second: str,
    share: Annotated[float, Query(ge=0, le=1)] = 0.5,
) -> Response:
    """Generate a sound between two others."""
    path = state.library.path(await run_in_threadpool(state.model, key))
    return await _answer(request, state, lambda: state.listening.between(path, first, second, share))


async def _answer(request: Request, state: AppState, make: Callable[[], bytes], media_type: str = _WAV) -> Response:
    """Send the result of `make` when its turn has come, or nothing if the page has disconnected by then."""
    with _known_sounds():
        made = await _in_turn(request, state, make)
    return Response(status_code=_CLIENT_CLOSED_REQUEST) if made is None else Response(made, media_type=media_type)


async def _in_turn(request: Request, state: AppState, make: Callable[[], Result]) -> Result | None:
    return await state.listening.in_turn(make, request.is_disconnected, state.runs.spare_threads)


@contextmanager
def _known_sounds() -> Iterator[None]:
    try:
        yield
    except KeyError:  # only the last few sounds are remembered
        raise HTTPException(404, "this sound is no longer available; drop it again") from None


def _parse_amount(setting: str) -> tuple[str, float]:
    name, _, value = setting.partition(":")
    try:
        return name, float(value)
    except ValueError:
        raise ConfigError(f"set is {setting!r}", "it must be a name and a number, as in brightness:1.5") from None
