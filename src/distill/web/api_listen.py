"""Routes for listening: a sound through a model, its levels, its codes; new sounds of a VAE."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from distill.audio.suffixes import AUDIO_SUFFIXES
from distill.errors import ConfigError
from distill.web.state import InStudio
from distill.web.uploads import passing_file, safe_name

router = APIRouter(prefix="/api")

Levels = Annotated[int | None, Query(ge=1, le=4)]


@router.post("/models/{key}/sounds")
async def take_sound(key: str, name: str, request: Request, here: InStudio) -> Any:
    """Let a model hear a sound."""
    model = here.library.path(await run_in_threadpool(here.model, key))
    async with passing_file(request, here.work, safe_name(name, set(AUDIO_SUFFIXES))) as path:
        return await run_in_threadpool(lambda: here.listening.take(model, path))


@router.get("/sounds/{sound}/original")
def hear_original(sound: str, here: InStudio) -> Response:
    """The sound as its model hears it."""
    return _wav(lambda: here.listening.original(sound))


@router.get("/sounds/{sound}/reconstruction")
def hear_reconstruction(sound: str, here: InStudio, levels: Levels = None) -> Response:
    """What the model makes of the sound, with its first `levels` levels of codes."""
    return _wav(lambda: here.listening.reconstruction(sound, levels))


@router.get("/sounds/{sound}/mel")
def see_mel(
    sound: str, here: InStudio, which: Literal["original", "reconstruction"], levels: Levels = None
) -> Response:
    """The mel of either."""
    return _answer(lambda: here.listening.mel(sound, which, levels), "image/png")


@router.get("/models/{key}/generate")
def hear_new_sound(
    key: str,
    here: InStudio,
    seed: Annotated[int, Query(ge=0, lt=2**32)] = 0,
    seconds: Annotated[float, Query(gt=0, le=30)] = 1.0,
    set: Annotated[list[str], Query()] = [],  # noqa: B006  FastAPI copies it; the name is that of the option
) -> Response:
    """A new sound of a VAE, moved along named directions."""
    path = here.library.path(here.model(key))
    return _wav(lambda: here.listening.generated(path, seed, seconds, dict(map(_amount, set))))


@router.get("/models/{key}/between")
def hear_between(
    key: str, here: InStudio, first: str, second: str, share: Annotated[float, Query(ge=0, le=1)] = 0.5
) -> Response:
    """What a VAE finds between two sounds."""
    path = here.library.path(here.model(key))
    return _wav(lambda: here.listening.between(path, first, second, share))


def _amount(setting: str) -> tuple[str, float]:
    name, _, value = setting.partition(":")
    try:
        return name, float(value)
    except ValueError:
        raise ConfigError(f"set is {setting!r}; it must be a name and a number, as in brightness:1.5") from None


def _wav(make: Any) -> Response:
    return _answer(make, "audio/wav")


def _answer(make: Any, media_type: str) -> Response:
    try:
        return Response(make(), media_type=media_type)
    except KeyError:
        raise HTTPException(404, "this sound is no longer at hand; drop it again") from None
