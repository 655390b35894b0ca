"""Routes of the library: list, show, rename, delete and undo, export, import."""

import dataclasses
import secrets
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool

from distill.library.catalog import ModelEntry
from distill.library.header import MODEL_FILE_EXTENSION, read_header
from distill.training.metrics import to_json
from distill.web.advice import level_verdicts
from distill.web.api_collections import Name, Undo
from distill.web.fresh_thread import in_fresh_thread
from distill.web.state import InState, model_key
from distill.web.uploads import passing_file, safe_name

router = APIRouter(prefix="/api/models")


_SAFETENSORS = ".safetensors"


@router.get("")
def list_models(
    here: InState,
    search: str = "",
    sort: Literal["date", "name", "loss", "size"] = "date",
    family: str = "",
    collection: str = "",
) -> Any:
    """The models, with those words in their names, of that family and that collection."""
    entries = here.library.search(search, sort)
    return [
        as_entry(entry)
        for entry in entries
        if family in ("", entry.model_type) and collection in ("", entry.dataset_name)
    ]


@router.post("/import")
async def import_model(name: str, request: Request, here: InState) -> Any:
    """Check a model file from anybody, and take it in when nothing is wrong with it."""
    from distill.models.exchange import import_model as import_file

    fitting = safe_name(name, {MODEL_FILE_EXTENSION, _SAFETENSORS})
    async with passing_file(request, here.work, fitting) as path:
        added = await run_in_threadpool(in_fresh_thread, lambda: import_file(path, here.library.folder), 1)
    return as_entry(ModelEntry.of_file(added))


@router.post("/undo")
def undo_deletion(wish: Undo, here: InState) -> Any:
    """Take a deleted model back in."""
    with here.undoing(wish.undo) as kept:
        return as_entry(here.library.restore(kept))


@router.get("/{key}")
def show_model(key: str, here: InState) -> Any:
    """All that a model's file says of it."""
    entry = here.model(key)
    header = read_header(here.library.path(entry))
    health, vectors = header.health, header.metadata.validation_vectors
    return to_json(
        as_entry(entry)
        | {
            "settings": header.settings,
            "metadata": dataclasses.asdict(header.metadata),
            "health": health,
            "verdicts": health and level_verdicts(health, header.settings["codebook_size"], vectors),
            "curves": header.curves or {},
            "directions": header.safe_ranges(),
            "best_epoch": header.metadata.best_epoch,
        }
    )


@router.patch("/{key}")
def rename_model(key: str, wish: Name, here: InState) -> Any:
    """Give a model another name, by which its file is called too."""
    from distill.models.persistence import rename_model as rename

    entry = here.model(key)
    return as_entry(ModelEntry.of_file(in_fresh_thread(lambda: rename(here.library, entry, wish.name), threads=1)))


@router.delete("/{key}")
def delete_model(key: str, here: InState) -> dict[str, str]:
    """Take a model out of the library; `undo` brings it back."""
    return {"undo": here.keep(here.library.discard(here.model(key)))}


@router.get("/{key}/file")
def download_model(key: str, here: InState, format: Literal["distill", "safetensors"] = "distill") -> FileResponse:
    """The model's file, or the same as safetensors."""
    entry = here.model(key)
    path = here.library.path(entry)
    if format == "distill":
        return FileResponse(path, media_type="application/octet-stream", filename=path.name)
    from distill.models.exchange import export_safetensors

    target = here.work / f"{secrets.token_hex(8)}{_SAFETENSORS}"
    in_fresh_thread(lambda: export_safetensors(path, target), threads=1)
    return FileResponse(
        target,
        media_type="application/octet-stream",
        filename=f"{path.stem}{_SAFETENSORS}",
        background=BackgroundTask(target.unlink),
    )


def as_entry(entry: ModelEntry) -> Any:
    """A model in a list."""
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
        }
    )
