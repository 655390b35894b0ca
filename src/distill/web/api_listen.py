"""Routes for listening: a sound through a model, its levels, its codes; new sounds of a VAE."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from distill.audio.suffixes import AUDIO_SUFFIXES
from distill.errors import ConfigError
from distill.web.fresh_thread import Made
from distill.web.state import AppState, InState
from distill.web.uploads import passing_file, safe_name

router = APIRouter(prefix="/api")

Levels = Annotated[int | None, Query(ge=1, le=4)]

_WAV = "audio/wav"
_GIVEN_UP = 499  # the status of an answer that nobody reads


@router.post("/models/{key}/sounds")
async def take_sound(key: str, name: str, request: Request, here: InState) -> Any:
    """Let a model hear a sound."""
    model = here.library.path(await run_in_threadpool(here.model, key))
    async with passing_file(request, here.work, safe_name(name, set(AUDIO_SUFFIXES))) as path:
        heard = await _in_turn(request, here, lambda: here.listening.take(model, path))
    return heard or Response(status_code=_GIVEN_UP)


@router.get("/sounds/{sound}/original")
def hear_original(sound: str, here: InState) -> Response:
    """The sound as its model hears it."""
    with _known_sounds():
        return Response(here.listening.original(sound), media_type=_WAV)


@router.get("/sounds/{sound}/reconstruction")
async def hear_reconstruction(sound: str, request: Request, here: InState, levels: Levels = None) -> Response:
    """What the model makes of the sound, with its first `levels` levels of codes."""
    return await _answer(request, here, lambda: here.listening.reconstruction(sound, levels))


@router.get("/sounds/{sound}/mel")
async def see_mel(
    sound: str,
    request: Request,
    here: InState,
    which: Literal["original", "reconstruction"],
    levels: Levels = None,
) -> Response:
    """The mel of either."""
    return await _answer(request, here, lambda: here.listening.mel(sound, which, levels), "image/png")


@router.get("/models/{key}/generate")
async def hear_new_sound(
    key: str,
    request: Request,
    here: InState,
    seed: Annotated[int, Query(ge=0, lt=2**32)] = 0,
    seconds: Annotated[float, Query(gt=0, le=30)] = 1.0,
    set: Annotated[list[str], Query()] = [],  # noqa: B006  FastAPI copies it; the name is that of the option
) -> Response:
    """A new sound of a VAE, moved along named directions."""
    path = here.library.path(await run_in_threadpool(here.model, key))
    amounts = dict(map(_amount, set))
    return await _answer(request, here, lambda: here.listening.generated(path, seed, seconds, amounts))


@router.get("/models/{key}/between")
async def hear_between(
    key: str,
    request: Request,
    here: InState,
    first: str,
    second: str,
    share: Annotated[float, Query(ge=0, le=1)] = 0.5,
) -> Response:
    """What a VAE finds between two sounds."""
    path = here.library.path(await run_in_threadpool(here.model, key))
    return await _answer(request, here, lambda: here.listening.between(path, first, second, share))


async def _answer(request: Request, here: AppState, make: Callable[[], bytes], media_type: str = _WAV) -> Response:
    """What `make` gives when its turn has come; nothing when the page has given the request up by then."""
    with _known_sounds():
        made = await _in_turn(request, here, make)
    return Response(status_code=_GIVEN_UP) if made is None else Response(made, media_type=media_type)


async def _in_turn(request: Request, here: AppState, make: Callable[[], Made]) -> Made | None:
    return await here.listening.in_turn(make, request.is_disconnected, here.runs.spare_threads)


@contextmanager
def _known_sounds() -> Iterator[None]:
    try:
        yield
    except KeyError:
        raise HTTPException(404, "this sound is no longer at hand; drop it again") from None


def _amount(setting: str) -> tuple[str, float]:
    name, _, value = setting.partition(":")
    try:
        return name, float(value)
    except ValueError:
        raise ConfigError(f"set is {setting!r}", "it must be a name and a number, as in brightness:1.5") from None
