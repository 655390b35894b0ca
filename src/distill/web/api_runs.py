"""Routes of runs: start, stop, resume, and everything that can be watched of them."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse, StreamingResponse

from distill.errors import CheckpointError
from distill.training.metrics import EpochEvent, event_to_dict
from distill.training.preview_files import preview_files
from distill.training.request import TrainingRequest
from distill.training.run_folder import RunFolder, is_usage
from distill.training.strict_json import to_json
from distill.web.api_collections import TrainingBody
from distill.web.feed import Feed, Tail, entries_from, messages
from distill.web.fresh_thread import in_fresh_thread
from distill.web.log_entries import annotated
from distill.web.messages import in_page_words
from distill.web.pictures import mel_of_preview, usage_bytes
from distill.web.prior_progress import prior_folder, prior_progress
from distill.web.run_queue import KnownRun
from distill.web.state import AppState, InState, model_key

router = APIRouter(prefix="/api/runs")


class NewRun(TrainingBody):
    """The run to be queued."""

    collection: str
    name: str = ""


@router.get("")
def list_runs(state: InState) -> Any:
    """List all runs, including those of the command line."""
    models = _models(state)
    return [about(run, models) for run in state.runs.all()]


@router.post("")
def start_run(body: NewRun, state: InState) -> Any:
    """Queue a run."""
    folder = state.folder(body.collection)
    request = body.request(folder, state.library, body.name.strip() or folder.name)
    request = dataclasses.replace(request, output_dir=state.runs.free_folder(request.output_dir))
    return about(_run(state, state.runs.add(request)), _models(state))


@router.get("/{key}")
def show_run(key: str, state: InState) -> Any:
    """Return a run and its settings."""
    run = _run(state, key)
    info = run.info
    own = {
        "config": info.config if info else None,
        "duration_s": info.duration_s if info else None,
        "files": len(info.files) if info else 0,
    }
    return _in_detail(state, run) | to_json(own)


@router.post("/{key}/cancel")
def cancel_run(key: str, state: InState) -> Any:
    """Stop a run with a checkpoint, or take it off the queue."""
    try:
        state.runs.cancel(key)
    except KeyError:
        raise HTTPException(404, "this run is not in progress") from None
    try:
        return about(state.runs.get(key), _models(state))
    except KeyError:  # it had not begun, and has left nothing
        return {"id": key, "state": "cancelled"}


@router.post("/{key}/resume")
def resume_run(key: str, state: InState) -> Any:
    """Queue an interrupted run, to go on from its checkpoint."""
    request = TrainingRequest.resume(_run(state, key).folder.path)
    return about(_run(state, state.runs.add(request)), _models(state))


@router.get("/{key}/events")
async def watch_run(key: str, request: Request, state: InState) -> StreamingResponse:
    """Stream the run's log as server-sent events."""
    folder = _run(state, key).folder

    def annotate(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return annotated(entries, _run(state, key).info)

    def status() -> dict[str, Any]:
        try:
            return _in_detail(state, _run(state, key))
        except HTTPException:  # stopped, or taken off the queue, before it began
            return {"state": "gone"}

    async def disconnected() -> bool:
        # An open stream would hold up the end of the server.
        return await request.is_disconnected() or state.closing.is_set()

    stream = messages(Feed(Tail(folder.events_path), status, annotate), disconnected)
    return StreamingResponse(stream, media_type="text/event-stream", headers={"Cache-Control": "no-store"})


@router.get("/{key}/epochs")
def list_epochs(key: str, state: InState) -> Any:
    """List what is known of each epoch of a run: its losses, and when it ended."""
    last: dict[int, dict[str, Any]] = {}  # by epoch: after going back to a checkpoint, the later one counts
    for event in _run(state, key).folder.events():
        if isinstance(event, EpochEvent):
            last[event.epoch] = event_to_dict(event) | {"codebook_health": None}
    return to_json(list(last.values()))


@router.get("/{key}/usage")
def show_usage(key: str, state: InState, start: Annotated[int, Query(ge=0)] = 0) -> Response:
    """Send the use of each code: levels × codes bytes for each epoch from `start` on.

    A page that watches asks only for the epochs that it does not have yet.
    """
    lines = entries_from(_run(state, key).folder.usage_path, start)
    counts = [line["counts"] for line in lines if is_usage(line)]
    levels, codes = (len(counts[0]), len(counts[0][0])) if counts else (0, 0)
    if any((len(epoch), len(epoch[0])) != (levels, codes) for epoch in counts):
        raise CheckpointError("the log of code usage is damaged")
    shape = {"X-Epochs": str(len(counts)), "X-Levels": str(levels), "X-Codes": str(codes)}
    return Response(usage_bytes(counts), media_type="application/octet-stream", headers=shape)


@router.get("/{key}/previews")
def list_previews(key: str, state: InState) -> list[dict[str, Any]]:
    """List the previews, oldest first; `sound` is the title of the original, if the run's record has it.

    `made` changes with the file: a run that went back to a checkpoint makes previews of an epoch again.
    """
    found = []
    run = _run(state, key)
    sounds = dict(enumerate(run.info.preview_sounds if run.info else (), start=1))
    for file in preview_files(run.folder.previews):
        known = {"epoch": file.epoch, "number": file.number, "role": file.role, "name": file.path.stem}
        sound = None if file.role == "random" else sounds.get(file.number)
        found.append(known | {"sound": sound, "made": str(file.path.stat().st_mtime_ns)})
    return found


@router.get("/{key}/previews/{name}")
def get_preview(key: str, name: str, state: InState) -> FileResponse:
    """Send a preview's sound."""
    return _named(key, _preview(_run(state, key).folder, name))


@router.get("/{key}/prior/previews/{name}")
def get_prior_preview(key: str, name: str, state: InState) -> FileResponse:
    """Send a new sound that the prior of a run made while it was trained."""
    return _named(key, _preview(prior_folder(_run(state, key).folder), name))


@router.get("/{key}/previews/{name}/mel")
def get_preview_mel(key: str, name: str, state: InState) -> Response:
    """Send a picture of a preview's mel."""
    # A browser may keep it, because the page puts the time at which the preview was made into the address.
    run = _run(state, key)
    path, config = _preview(run.folder, name), run.info.spectrogram_config if run.info else {}
    kept = {"Cache-Control": "private, max-age=86400, immutable"}
    return Response(
        in_fresh_thread(lambda: mel_of_preview(path, config), threads=1), media_type="image/png", headers=kept
    )


def about(run: KnownRun, models: dict[str, str]) -> dict[str, Any]:
    """The JSON of a run in a list; `models` are the keys of the models of the library, by their ids."""
    info, request = run.info, run.request
    known = info or request  # before a run has begun, there is only its request
    numbers = _numbers(run)
    # With a time budget, the maximum says nothing; the number is in the record once the first epoch has been timed.
    planned = None if numbers["minutes"] else numbers["max_epochs"]
    return {
        "id": run.id,
        "name": known.model_name if known else run.id,
        "dataset": known.dataset_name if known else "",
        "family": info.family if info else request.family_name if request else "",
        "state": run.status.state,
        "error": run.status.error and in_page_words(run.status.error),
        "position": run.status.position,
        "stoppable": run.in_queue,  # the command line's runs are stopped there
        "started": info.started if info else None,
        "epochs": (info.total_epochs if info else None) or planned,
        "minutes": numbers["minutes"],
        # It is there before the run is over, while the part that makes new sounds is trained.
        "model_id": models.get(info.model_id) if info else None,
        "codebook_size": numbers["codebook_size"],
        "levels": numbers["num_quantizers"],
        "sample_rate": numbers["sample_rate"],
        "validation_vectors": info.validation_vectors if info else None,
    }


def _numbers(run: KnownRun) -> dict[str, Any]:
    """The settings of a run that a list shows, as far as they are known."""
    names = ("minutes", "max_epochs", "codebook_size", "num_quantizers", "sample_rate")
    if run.info:
        return {name: run.info.number(name) for name in names}
    if run.request is None:
        return dict.fromkeys(names)
    rate = run.request.spectrogram_config.sample_rate
    return {name: getattr(run.request.config, name, None) for name in names} | {"sample_rate": rate}


def _in_detail(state: AppState, run: KnownRun) -> dict[str, Any]:
    """The JSON of a run that is watched."""
    return about(run, _models(state)) | {"prior": prior_progress(run.folder)}


def _models(state: AppState) -> dict[str, str]:
    """The keys of the models in the library, by their ids."""
    return {entry.model_id: model_key(entry) for entry in state.library.entries() if entry.model_id}


def _run(state: AppState, key: str) -> KnownRun:
    """The run with this id; raises `HTTPException`."""
    try:
        return state.runs.get(key)
    except KeyError:
        raise HTTPException(404, "there is no such run") from None


def _named(key: str, preview: Path) -> FileResponse:
    """A preview's file, which a browser saves under the name of its run and its own."""
    return FileResponse(preview, media_type="audio/wav", filename=f"{key} {preview.name}")


def _preview(folder: RunFolder, name: str) -> Path:
    """The file of an existing preview; raises `HTTPException`."""
    # The name is looked up among the files, never made into a path, which could lead out of the folder.
    for file in preview_files(folder.previews):
        if file.path.stem == name:
            return file.path
    raise HTTPException(404, "there is no such preview")
