"""Routes of the library: list, show, rename, delete, undo, export and import."""

import secrets
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool

from distill.errors import LibraryError
from distill.library.catalog import ModelEntry
from distill.library.header import MODEL_FILE_EXTENSION, read_header
from distill.training.strict_json import to_json
from distill.web.advice import level_verdicts
from distill.web.api_collections import Name, RequestBody, Undo
from distill.web.fresh_thread import in_fresh_thread
from distill.web.messages import PAGE
from distill.web.state import AppState, InState, model_key
from distill.web.uploads import safe_name, temporary_upload

router = APIRouter(prefix="/api/models")

_SAFETENSORS = ".safetensors"


@router.get("")
def list_models(
    state: InState,
    search: str = "",
    sort: Literal["date", "name", "loss", "size"] = "date",
    family: str = "",
    collection: str = "",
) -> Any:
    """List the models of a family and a collection that have the words of `search` in their names."""
    entries = state.library.search(search, sort)
    return [
        as_entry(entry)
        for entry in entries
        if family in ("", entry.model_type) and collection in ("", entry.dataset_name)
    ]


@router.post("/import")
async def import_model(name: str, request: Request, state: InState) -> Any:
    """Import a model file from anybody, if nothing is wrong with it."""
    from distill.models.exchange import import_model as import_file

    fitting = safe_name(name, {MODEL_FILE_EXTENSION, _SAFETENSORS})
    async with temporary_upload(request, state.work, fitting) as path:
        # In a thread that ends, and on one core: helper threads of torch's that stay would slow every training.
        added = await run_in_threadpool(in_fresh_thread, lambda: import_file(path, state.library.folder), 1)
    return as_entry(ModelEntry.of_file(added))


@router.post("/undo")
def undo_deletion(body: Undo, state: InState) -> Any:
    """Bring a deleted model back."""
    with state.undoing(body.undo) as kept:
        return as_entry(state.library.restore(kept))


@router.get("/{key}")
def show_model(key: str, state: InState) -> Any:
    """Return everything in a model's header."""
    entry = state.model(key)
    header = read_header(state.library.path(entry))
    size, vectors = header.settings.get("codebook_size"), header.metadata.validation_vectors
    return to_json(
        as_entry(entry)
        | {
            "sample_rate": header.sample_rate,
            "settings": header.settings,
            "facts": header.facts(),
            "remarks": [remark.worded(PAGE) for remark in header.remarks],
            "health": header.health,
            "verdicts": level_verdicts(header.health, size, vectors),
            "curves": header.curves or {},
            "directions": header.safe_ranges(),
            "generates": header.generates,
        }
    )


class Description(RequestBody):
    """What its maker says of a model."""

    author: str
    licence: str
    tags: list[str]


@router.put("/{key}/description")
def describe_model(key: str, body: Description, state: InState) -> Any:
    """Change who made a model, the licence of its sounds, and its tags."""
    from distill.models.persistence import describe_model as describe

    entry, about = _complete(state, key), body.model_dump()
    return as_entry(ModelEntry.of_file(in_fresh_thread(lambda: describe(state.library, entry, **about), threads=1)))


@router.patch("/{key}")
def rename_model(key: str, body: Name, state: InState) -> Any:
    """Rename a model and its file."""
    from distill.models.persistence import rename_model as rename

    entry = _complete(state, key)
    return as_entry(ModelEntry.of_file(in_fresh_thread(lambda: rename(state.library, entry, body.name), threads=1)))


@router.delete("/{key}")
def delete_model(key: str, state: InState) -> dict[str, str]:
    """Take a model out of the library; the `undo` key brings it back."""
    return {"undo": state.add_undo(state.library.discard(_complete(state, key)))}


@router.get("/{key}/file")
def download_model(key: str, state: InState, format: Literal["distill", "safetensors"] = "distill") -> FileResponse:
    """Send a model's file, or the same as safetensors."""
    entry = state.model(key)
    path = state.library.path(entry)
    if format == "distill":
        return FileResponse(path, media_type="application/octet-stream", filename=path.name)
    from distill.models.exchange import export_safetensors

    target = state.work / f"{secrets.token_hex(8)}{_SAFETENSORS}"
    in_fresh_thread(lambda: export_safetensors(path, target), threads=1)
    return FileResponse(
        target,
        media_type="application/octet-stream",
        filename=f"{path.stem}{_SAFETENSORS}",
        background=BackgroundTask(target.unlink),  # once it has been sent
    )


def _complete(state: AppState, key: str) -> ModelEntry:
    """The model with this id; raises `LibraryError` while its run goes on with it, and `HTTPException`."""
    entry = state.model(key)
    if state.runs.trains(entry.model_id):
        raise LibraryError(f"{entry.name} is still being trained", "wait until its run ends, or cancel that first")
    return entry


def as_entry(entry: ModelEntry) -> Any:
    """The JSON of a model in a list."""
    return to_json(
        {
            "id": model_key(entry),
            "name": entry.name,
            "family": entry.model_type,
            "dataset": entry.dataset_name,
            "saved": entry.save_date,
            "epochs": entry.epochs,
            "files": entry.file_count,
            "val_loss": entry.val_loss,
            "levels": entry.num_quantizers,
            "codebook_size": entry.codebook_size,
            "size_bytes": entry.size_bytes,
            "problem": entry.problem,
        }
    )
