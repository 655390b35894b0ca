"""Routes of a run: start, stop, go on, and all that can be watched of it."""

import dataclasses
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse, StreamingResponse

from distill.notices import notice_from_dict
from distill.training import preview
from distill.training.metrics import VQEpochMetrics, to_json
from distill.training.request import plan_resume
from distill.training.run_folder import WARNING, RunFolder
from distill.web.advice import with_verdicts
from distill.web.api_collections import TrainingBody
from distill.web.feed import Feed, Tail, entries_from, messages
from distill.web.fresh_thread import in_fresh_thread
from distill.web.messages import PAGE, in_page_words
from distill.web.pictures import mel_of_preview, usage_bytes
from distill.web.state import AppState, InState, model_key

router = APIRouter(prefix="/api/runs")


class NewRun(TrainingBody):
    """A run to be queued."""

    collection: str
    name: str = ""


@router.get("")
def list_runs(here: InState) -> Any:
    """Every run, those of the command line too."""
    return [about(here, key) for key in here.runs.keys()]  # noqa: SIM118  it is no mapping


@router.post("")
def start_run(wish: NewRun, here: InState) -> Any:
    """Queue a run."""
    folder = here.folder(wish.collection)
    plan = wish.plan(folder, here.library, wish.name.strip() or folder.name)
    plan = dataclasses.replace(plan, output_dir=here.runs.free_folder(plan.output_dir))
    return about(here, here.runs.add(plan))


@router.get("/{key}")
def show_run(key: str, here: InState) -> Any:
    """A run with its settings."""
    facts = _facts(here, key)
    own = {"config": facts.get("config"), "duration_s": facts.get("duration_s"), "files": len(facts.get("files", ()))}
    return about(here, key) | to_json(own)


@router.post("/{key}/cancel")
def cancel_run(key: str, here: InState) -> Any:
    """Stop a run with a checkpoint, or take it off the queue."""
    try:
        queued = here.runs.status(key).state == "queued"
        here.runs.cancel(key)
        return {"id": key, "state": "cancelled"} if queued else about(here, key)
    except KeyError:
        raise HTTPException(404, "this run is not going on") from None


@router.post("/{key}/resume")
def resume_run(key: str, here: InState) -> Any:
    """Queue an interrupted run again, to go on where it was."""
    return about(here, here.runs.add(plan_resume(_folder(here, key).path)))


@router.get("/{key}/events")
async def watch_run(key: str, request: Request, here: InState) -> StreamingResponse:
    """The run's log as server-sent events."""
    folder = _folder(here, key)

    def dressed(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        facts = _facts(here, key) if any(map(_is_judged, entries)) else {}
        return [with_verdicts(entry, facts) if _is_judged(entry) else _reworded(entry) for entry in entries]

    def state() -> dict[str, Any]:
        try:
            return about(here, key)
        except HTTPException:  # stopped, or taken off the queue, before it had begun
            return {"state": "gone"}

    async def gone() -> bool:
        return await request.is_disconnected() or here.closing.is_set()

    stream = messages(Feed(Tail(folder.events_path), state, dressed), gone)
    return StreamingResponse(stream, media_type="text/event-stream", headers={"Cache-Control": "no-store"})


@router.get("/{key}/usage")
def show_usage(key: str, here: InState, start: Annotated[int, Query(ge=0)] = 0) -> Response:
    """The use of each code: for each epoch from `start`, levels × codes bytes."""
    counts = [line["counts"] for line in entries_from(_folder(here, key).usage_path, start)]
    levels, codes = (len(counts[0]), len(counts[0][0])) if counts else (0, 0)
    shape = {"X-Epochs": str(len(counts)), "X-Levels": str(levels), "X-Codes": str(codes)}
    return Response(usage_bytes(counts), media_type="application/octet-stream", headers=shape)


@router.get("/{key}/previews")
def list_previews(key: str, here: InState) -> list[dict[str, Any]]:
    """The previews, oldest first; `sound` is what was played, where the run's record has it.

    `made` tells a file from the one before it: a run that went back makes the same epoch's anew.
    """
    found = []
    sounds = dict(enumerate(_facts(here, key).get("preview_sounds", ()), start=1))
    for path in preview.list_previews(_folder(here, key).previews):
        _, epoch, number, role = path.stem.split("_")
        facts = {"epoch": int(epoch), "number": int(number), "role": role, "name": path.stem}
        sound = None if role == "random" else sounds.get(int(number))
        found.append(facts | {"sound": sound, "made": str(path.stat().st_mtime_ns)})
    return found


@router.get("/{key}/previews/{name}")
def hear_preview(key: str, name: str, here: InState) -> FileResponse:
    """A preview's sound."""
    return FileResponse(_preview(here, key, name), media_type="audio/wav")


@router.get("/{key}/previews/{name}/mel")
def see_preview(key: str, name: str, here: InState) -> Response:
    """A preview's mel; a browser may keep it, for the page says in the address when the preview was made."""
    path, config = _preview(here, key, name), _facts(here, key)["spectrogram_config"]
    kept = {"Cache-Control": "private, max-age=86400, immutable"}
    return Response(
        in_fresh_thread(lambda: mel_of_preview(path, config), threads=1), media_type="image/png", headers=kept
    )


def about(here: AppState, key: str) -> dict[str, Any]:
    """The facts that the page has of a run; raises `HTTPException`."""
    facts = _facts(here, key)
    status, plan = here.runs.status(key), here.runs.plan(key)
    config = facts.get("config") or (vars(plan.config) if plan else {})
    return {
        "id": key,
        "name": facts.get("model_name") or (plan.model_name if plan else key),
        "dataset": facts.get("dataset_name") or (plan.dataset_name if plan else ""),
        "family": facts.get("family") or (plan.family if plan else "vqvae"),
        "state": status.state,
        "error": status.error and in_page_words(status.error),
        "position": status.position,
        "stoppable": any(job.id == key for job in here.runs.jobs()),  # one of the command line is stopped there
        "started": facts.get("started"),
        "epochs": facts.get("total_epochs") or (None if config.get("minutes") else config.get("max_epochs")),
        "minutes": config.get("minutes"),
        "model_id": _model_of(here, facts),
        "codebook_size": config.get("codebook_size"),
        "levels": config.get("num_quantizers"),
        "validation_vectors": facts.get("validation_vectors"),
    }


def _model_of(here: AppState, facts: dict[str, Any]) -> str | None:
    """The id of the model that a run has made, while it is in the library."""
    if not facts.get("model_path"):
        return None
    entries = here.library.entries()
    return next((model_key(entry) for entry in entries if entry.model_id == facts.get("model_id")), None)


def _folder(here: AppState, key: str) -> RunFolder:
    try:
        return here.runs.folder(key)
    except KeyError:
        raise HTTPException(404, "there is no such run") from None


def _facts(here: AppState, key: str) -> dict[str, Any]:
    try:
        return here.runs.facts(key)
    except KeyError:
        raise HTTPException(404, "there is no such run") from None


def _preview(here: AppState, key: str, name: str) -> Path:
    """The file of a preview that is there; the name is looked up, never made into a path."""
    folder = _folder(here, key)
    if name not in (path.stem for path in preview.list_previews(folder.previews)):
        raise HTTPException(404, "there is no such preview")
    return folder.previews / f"{name}.wav"


def _reworded(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry of the log, a warning in words for the page."""
    if entry["event"] != WARNING:
        return entry
    with suppress(TypeError, ValueError):  # of another version of distill; it has a message, too
        return entry | {"message": notice_from_dict(entry).worded(PAGE)}
    return entry


def _is_judged(entry: dict[str, Any]) -> bool:
    return bool(entry["event"] == VQEpochMetrics.__name__)
