"""The route for new sounds, sent one by one as they are made."""

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from distill.errors import DistillError
from distill.models.loaded import LoadedFamily
from distill.packs.origin import Origin
from distill.web.api_collections import RequestBody
from distill.web.api_listen import CLIENT_CLOSED_REQUEST
from distill.web.listening import SoundInUse
from distill.web.making import Avoided, How, NewSound, Wish, new_sounds
from distill.web.messages import in_page_words
from distill.web.state import AppState, InState

router = APIRouter(prefix="/api/models")

_AVOIDED = 64  # sounds at most
_WAYS: dict[How, str] = {"draw": "new", "vary": "varied", "extend": "extended", "morph": "morph"}

Share = Annotated[float, Field(ge=0, le=1)]


class NewSounds(RequestBody):
    """What new sounds are asked for; sounds are named by their ids."""

    how: How = "draw"
    count: int = Field(16, ge=1, le=64)
    seed: int = Field(0, ge=0, lt=2**32 - 1000)
    sounds: list[str] = Field([], max_length=2)
    strength: Share = 0.5
    seconds: float | None = Field(None, gt=0, le=30)
    temperature: float | None = Field(None, ge=0.05, le=3)
    loop: bool = False
    moves: dict[str, float] = Field({}, max_length=64)
    avoid: dict[str, Share] = Field({}, max_length=_AVOIDED)  # sounds that new ones are to be unlike, and how much


@router.post("/{key}/sounds/new")
async def make_sounds(key: str, body: NewSounds, request: Request, state: InState) -> Response:
    """Make new sounds; sends a line of JSON for each as soon as it is made."""
    path = state.library.path(await run_in_threadpool(state.model, key))
    made = _made(state, path, body)

    async def following() -> dict[str, Any] | None:
        # With one thread: a sound is many small steps, in which threads would only wait for each other.
        return await state.in_turn(request, lambda: next(made, None), threads=1)

    first = await following()  # what is wrong is told before anything is sent
    if first is None:
        return Response(status_code=CLIENT_CLOSED_REQUEST)

    async def lines() -> AsyncIterator[str]:
        line: dict[str, Any] | None = first
        while line is not None:
            yield json.dumps(line) + "\n"
            try:
                line = await following()
            except DistillError as error:
                line = {"error": in_page_words(error)}

    return StreamingResponse(lines(), media_type="application/x-ndjson", headers={"Cache-Control": "no-store"})


def _made(state: AppState, path: Path, body: NewSounds) -> Iterator[dict[str, Any]]:
    """Make the sounds, each when the next one is asked for: yields their facts."""
    model = state.listening.model(path)
    sources = [state.source(key) for key in body.sounds]
    wish = Wish(
        sounds=[model.waveform(sound.waveform, sound.sample_rate) for sound in sources],
        avoided=list(_avoided(state, body.avoid)),
        **body.model_dump(exclude={"sounds", "avoid"}),
    )
    for new in new_sounds(model, wish):
        origin = _origin(model, sources, new, body)
        sound = SoundInUse(_name(origin), path, model.sample_rate, new.samples, origin)
        yield state.listening.add_made(sound)


def _avoided(state: AppState, distances: Mapping[str, float]) -> Iterator[Avoided]:
    for key, distance in distances.items():
        try:
            yield Avoided(state.source(key).portrait, distance)
        except HTTPException:  # thrown away so long ago that it is forgotten
            continue


def _origin(model: LoadedFamily, sources: list[SoundInUse], new: NewSound, body: NewSounds) -> Origin:
    return Origin(
        model.metadata.name,
        "loop" if body.loop and body.how == "draw" else _WAYS[body.how],
        tuple(sound.name for sound in sources),
        {name: amount for name, amount in _amounts(new, body).items() if amount is not None},
        new.seed,
        model.metadata.model_id,
    )


def _amounts(new: NewSound, body: NewSounds) -> dict[str, float | None]:
    """What counted for a sound."""
    if body.how == "draw":
        return {"seconds": body.seconds, "temperature": body.temperature, **body.moves}
    if body.how == "vary":
        return {"strength": body.strength}
    return {"share": new.share} if body.how == "morph" else {"seconds": body.seconds}


def _name(origin: Origin) -> str:
    """A short name for a pad; the origin says the rest."""
    if origin.way == "morph":
        return f"{origin.sources[0]} to {origin.sources[1]} {origin.amounts['share']:.0%}"
    return f"{origin.sources[0]} {origin.way} {origin.seed}" if origin.sources else f"{origin.model} {origin.seed}"
