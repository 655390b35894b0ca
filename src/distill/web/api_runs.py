"""Routes of runs: start, stop, resume, and everything that can be watched of them."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse, StreamingResponse

from distill.training.metrics import to_json
from distill.training.preview_files import preview_files
from distill.training.request import TrainingRequest
from distill.training.run_folder import RunFolder
from distill.training.run_info import RunInfo
from distill.web.api_collections import TrainingBody
from distill.web.feed import Feed, Tail, entries_from, messages
from distill.web.fresh_thread import in_fresh_thread
from distill.web.log_entries import annotated
from distill.web.messages import in_page_words
from distill.web.pictures import mel_of_preview, usage_bytes
from distill.web.prior_progress import prior_folder, prior_progress
from distill.web.state import AppState, InState, model_key

router = APIRouter(prefix="/api/runs")


class NewRun(TrainingBody):
    """The run to be queued."""

    collection: str
    name: str = ""


@router.get("")
def list_runs(state: InState) -> Any:
    """List all runs, including those of the command line."""
    return [about(state, key) for key in state.runs.keys()]  # noqa: SIM118  not a mapping


@router.post("")
def start_run(body: NewRun, state: InState) -> Any:
    """Queue a run."""
    folder = state.folder(body.collection)
    request = body.request(folder, state.library, body.name.strip() or folder.name)
    request = dataclasses.replace(request, output_dir=state.runs.free_folder(request.output_dir))
    return about(state, state.runs.add(request))


@router.get("/{key}")
def show_run(key: str, state: InState) -> Any:
    """Return a run and its settings."""
    info = _info(state, key)
    own = {
        "config": info.config if info else None,
        "duration_s": info.duration_s if info else None,
        "files": len(info.files) if info else 0,
    }
    return _in_detail(state, key) | to_json(own)


@router.post("/{key}/cancel")
def cancel_run(key: str, state: InState) -> Any:
    """Stop a run with a checkpoint, or take it off the queue."""
    try:
        # Asked beforehand: a run that was only queued is unknown once it is off the queue.
        queued = state.runs.status(key).state == "queued"
        state.runs.cancel(key)
        return {"id": key, "state": "cancelled"} if queued else about(state, key)
    except KeyError:
        raise HTTPException(404, "this run is not in progress") from None


@router.post("/{key}/resume")
def resume_run(key: str, state: InState) -> Any:
    """Queue an interrupted run, to go on from its checkpoint."""
    return about(state, state.runs.add(TrainingRequest.resume(_folder(state, key).path)))


@router.get("/{key}/events")
async def watch_run(key: str, request: Request, state: InState) -> StreamingResponse:
    """Stream the run's log as server-sent events."""
    folder = _folder(state, key)

    def annotate(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return annotated(entries, _info(state, key))

    def status() -> dict[str, Any]:
        try:
            return _in_detail(state, key)
        except HTTPException:  # stopped, or taken off the queue, before it began
            return {"state": "gone"}

    async def disconnected() -> bool:
        # An open stream would hold up the end of the server.
        return await request.is_disconnected() or state.closing.is_set()

    stream = messages(Feed(Tail(folder.events_path), status, annotate), disconnected)
    return StreamingResponse(stream, media_type="text/event-stream", headers={"Cache-Control": "no-store"})


@router.get("/{key}/usage")
def show_usage(key: str, state: InState, start: Annotated[int, Query(ge=0)] = 0) -> Response:
    """Send the use of each code: levels × codes bytes for each epoch from `start` on.

    A page that watches asks only for the epochs that it does not have yet.
    """
    counts = [line["counts"] for line in entries_from(_folder(state, key).usage_path, start)]
    levels, codes = (len(counts[0]), len(counts[0][0])) if counts else (0, 0)
    shape = {"X-Epochs": str(len(counts)), "X-Levels": str(levels), "X-Codes": str(codes)}
    return Response(usage_bytes(counts), media_type="application/octet-stream", headers=shape)


@router.get("/{key}/previews")
def list_previews(key: str, state: InState) -> list[dict[str, Any]]:
    """List the previews, oldest first; `sound` is the title of the original, if the run's record has it.

    `made` changes with the file: a run that went back to a checkpoint makes previews of an epoch again.
    """
    found = []
    info = _info(state, key)
    sounds = dict(enumerate(info.preview_sounds if info else (), start=1))
    for file in preview_files(_folder(state, key).previews):
        known = {"epoch": file.epoch, "number": file.number, "role": file.role, "name": file.path.stem}
        sound = None if file.role == "random" else sounds.get(file.number)
        found.append(known | {"sound": sound, "made": str(file.path.stat().st_mtime_ns)})
    return found


@router.get("/{key}/previews/{name}")
def get_preview(key: str, name: str, state: InState) -> FileResponse:
    """Send a preview's sound."""
    return FileResponse(_preview(_folder(state, key), name), media_type="audio/wav")


@router.get("/{key}/prior/previews/{name}")
def get_prior_preview(key: str, name: str, state: InState) -> FileResponse:
    """Send a new sound that the prior of a run made while it was trained."""
    return FileResponse(_preview(prior_folder(_folder(state, key)), name), media_type="audio/wav")


@router.get("/{key}/previews/{name}/mel")
def get_preview_mel(key: str, name: str, state: InState) -> Response:
    """Send a picture of a preview's mel."""
    # A browser may keep it, because the page puts the time at which the preview was made into the address.
    path, info = _preview(_folder(state, key), name), _info(state, key)
    config = info.spectrogram_config if info else {}
    kept = {"Cache-Control": "private, max-age=86400, immutable"}
    return Response(
        in_fresh_thread(lambda: mel_of_preview(path, config), threads=1), media_type="image/png", headers=kept
    )


def about(state: AppState, key: str) -> dict[str, Any]:
    """The JSON of a run in a list; raises `HTTPException`."""
    info, status, request = _info(state, key), state.runs.status(key), state.runs.request(key)
    known = info or request  # before a run has begun, there is only its request
    config = info.config if info else vars(request.config) if request else {}
    # With a time budget, the maximum says nothing; the number is in the record once the first epoch has been timed.
    planned = None if config.get("minutes") else config.get("max_epochs")
    return {
        "id": key,
        "name": known.model_name if known else key,
        "dataset": known.dataset_name if known else "",
        "family": info.family if info else request.family_name if request else "",
        "state": status.state,
        "error": status.error and in_page_words(status.error),
        "position": status.position,
        "stoppable": any(job.id == key for job in state.runs.jobs()),  # the command line's runs are stopped there
        "started": info.started if info else None,
        "epochs": (info.total_epochs if info else None) or planned,
        "minutes": config.get("minutes"),
        "model_id": _model_of(state, info),
        "codebook_size": config.get("codebook_size"),
        "levels": config.get("num_quantizers"),
        "sample_rate": _rate(info, request),
        "validation_vectors": info.validation_vectors if info else None,
    }


def _in_detail(state: AppState, key: str) -> dict[str, Any]:
    """The JSON of a run that is watched; raises `HTTPException`."""
    return about(state, key) | {"prior": prior_progress(_folder(state, key))}


def _rate(info: RunInfo | None, request: TrainingRequest | None) -> int | None:
    """The rate in Hz of what a run trains, if it is known."""
    if info is None:
        return request.spectrogram_config.sample_rate if request else None
    rate: int | None = info.spectrogram_config.get("sample_rate")
    return rate


def _model_of(state: AppState, info: RunInfo | None) -> str | None:
    """The id of the model that a run has made, if it is still in the library.

    It is there before the run is over, while the part that makes new sounds is trained.
    """
    if info is None or not info.model_id:
        return None
    return next((model_key(entry) for entry in state.library.entries() if entry.model_id == info.model_id), None)


def _folder(state: AppState, key: str) -> RunFolder:
    try:
        return state.runs.folder(key)
    except KeyError:
        raise HTTPException(404, "there is no such run") from None


def _info(state: AppState, key: str) -> RunInfo | None:
    try:
        return state.runs.info(key)
    except KeyError:
        raise HTTPException(404, "there is no such run") from None


def _preview(folder: RunFolder, name: str) -> Path:
    """The file of an existing preview; raises `HTTPException`."""
    # The name is looked up among the files, never made into a path, which could lead out of the folder.
    for file in preview_files(folder.previews):
        if file.path.stem == name:
            return file.path
    raise HTTPException(404, "there is no such preview")
