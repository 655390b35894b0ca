"""Routes for editing codes and for the map of sounds; the page holds the edits, the server only computes."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Base64Bytes, Field, TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool

from distill.errors import ConfigError
from distill.models.codes import Codes
from distill.packs.origin import Origin
from distill.web.api_collections import Name, RequestBody
from distill.web.api_listen import CLIENT_CLOSED_REQUEST
from distill.web.downloads import named, wav_file
from distill.web.editing import Region
from distill.web.fresh_thread import Result
from distill.web.sources import Seed, Source
from distill.web.state import AppState, InState

router = APIRouter(prefix="/api/models/{key}")

_SOURCE: TypeAdapter[Source] = TypeAdapter(Source)
_MOST_MADE = 512  # sounds on the map beside those of the collection
_MOST_SECONDS = 300  # of a sound that is edited: its codes are sent with every change


class Edited(RequestBody):
    """Codes as the page packs them: int16 `[W, H, Q]`, little-endian, in base64."""

    codes: Base64Bytes
    seconds: Annotated[float, Field(gt=0, le=_MOST_SECONDS)]

    def unpacked(self, state: AppState, model: Path) -> Codes:
        """The codes as a value; raises `CodesError` if they are none of the model."""
        return state.editing.unpacked(model, self.codes, self.seconds)


class Heard(Edited):
    """Codes to be heard by who has the sound with the key `known`."""

    known: Annotated[str, Field(max_length=64)] = ""


class Redraw(Edited):
    """Codes of which a region is to be drawn anew."""

    columns: tuple[int, int]
    rows: tuple[int, int]
    seed: Seed = 0
    strength: Annotated[float, Field(ge=0, le=1)] = 1.0


class Saved(Edited, Name):
    """Codes to be kept under a name."""


class Made(RequestBody):
    """The sounds on the map beside those of the collection."""

    made: list[Source] = Field([], max_length=_MOST_MADE)


async def _path(key: str, state: InState) -> Path:
    return state.library.path(await run_in_threadpool(state.model, key))


def _parsed(source: str) -> Source:
    try:
        return _SOURCE.validate_json(source)
    except ValidationError:
        raise ConfigError("there is no such sound") from None


Model = Annotated[Path, Depends(_path)]
AnySource = Annotated[Source, Depends(_parsed)]


@router.get("/codes")
async def get_codes(model: Model, source: AnySource, request: Request, state: InState) -> Any:
    """Return the codes of a sound, to be edited."""
    return await _computed(request, state, lambda: _grid(state, model, state.editing.codes(model, source)))


@router.post("/codes")
async def read_codes(model: Model, request: Request, state: InState) -> Any:
    """Return the codes of a file of codes, to be edited."""
    body = await request.body()
    return await _computed(request, state, lambda: _grid(state, model, Codes.from_bytes(body)))


@router.get("/codes/form")
async def get_form(model: Model, request: Request, state: InState) -> Any:
    """Return what all codes of a model have in common."""
    return await _computed(request, state, lambda: state.editing.form(model))


@router.get("/codes/sound")
async def get_sound(model: Model, source: AnySource, request: Request, state: InState, name: str = "sound") -> Response:
    """Send the sound of the codes that a source stands for."""

    def make() -> Response:
        return wav_file(state.editing.wav(model, state.editing.codes(model, source)), name)

    return await _computed(request, state, make)


@router.post("/codes/change")
async def hear_change(model: Model, body: Heard, request: Request, state: InState) -> Any:
    """Return what is another in the sound of codes than in the sound that is known."""
    return await _computed(
        request, state, lambda: state.editing.changed(model, body.unpacked(state, model), body.known)
    )


@router.post("/codes/redraw")
async def redraw(model: Model, body: Redraw, request: Request, state: InState) -> Any:
    """Return codes of which a region was drawn anew by the prior."""
    region = Region(*body.columns, *body.rows)

    def make() -> dict[str, str]:
        codes = body.unpacked(state, model)
        return {"codes": state.editing.redrawn(model, codes, region, body.seed, body.strength)}

    return await _computed(request, state, make)


@router.post("/codes/wav")
async def save_sound(model: Model, body: Saved, request: Request, state: InState) -> Response:
    """Send the sound of codes, decoded in one piece."""
    return await _computed(
        request, state, lambda: wav_file(state.editing.wav(model, body.unpacked(state, model)), body.name)
    )


@router.post("/codes/npz")
def save_codes(model: Model, body: Saved, state: InState) -> Response:
    """Send codes as a file of codes."""
    return named(body.unpacked(state, model).to_bytes(), f"{body.name}.npz", "application/octet-stream")


@router.post("/codes/keep")
async def keep_sound(model: Model, body: Saved, request: Request, state: InState) -> Any:
    """Keep the sound of codes in the tray."""

    def make() -> dict[str, str]:
        loaded = state.editing.model(model)
        origin = Origin(loaded.metadata.name, "edited", (body.name,), model_id=loaded.metadata.model_id)
        sound = loaded.decode(body.unpacked(state, model))
        return {"sound": state.tray.keep(sound, loaded.sample_rate, body.name, origin).key}

    return await _computed(request, state, make)


@router.post("/map")
async def show_map(model: Model, body: Made, request: Request, state: InState) -> Any:
    """Return where the sounds of the collection, and those that were made, lie on a map."""
    return await _computed(request, state, lambda: state.editing.sound_map(model, body.made))


async def _computed(request: Request, state: AppState, make: Callable[[], Result]) -> Result | Response:
    """The result of `make` when its turn has come, or an empty response if the page has disconnected by then."""
    made = await state.in_turn(request, make)
    return Response(status_code=CLIENT_CLOSED_REQUEST) if made is None else made


def _grid(state: AppState, model: Path, codes: Codes) -> dict[str, Any]:
    if codes.seconds > _MOST_SECONDS:
        raise ConfigError(
            f"the sound lasts {codes.seconds:.0f} s",
            f"one of up to {_MOST_SECONDS} s can be edited; cut it into shorter files",
        )
    return state.editing.grid(model, codes)
