"""Routes of the collection page: folders, dropped files, the report, what training would do."""

import dataclasses
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.concurrency import run_in_threadpool

from distill.audio.suffixes import AUDIO_SUFFIXES
from distill.errors import CollectionError, ConfigError
from distill.library.catalog import ModelLibrary
from distill.training.config import TrainingConfig, VQVAEConfig
from distill.training.metrics import to_json
from distill.training.request import RunPlan, new_run_folder, plan_files
from distill.web.advice import kilobits, reasons
from distill.web.folders import OpenFolder
from distill.web.state import InState
from distill.web.uploads import receive_file, safe_name

router = APIRouter(prefix="/api/collections")


_NOT_READY = {
    "empty": ("this collection has not been looked through yet", "open it first"),
    "scanning": ("this collection is still being looked through", "wait until that is done"),
    "failed": ("this collection could not be looked through", "look through it again"),
}
_PREVIEW_INTERVAL = 5  # epochs: here progress is listened to while it happens


_PRINTABLE = r"^[^\p{C}]*$"  # no control characters, none that turn the direction of writing


class Exact(BaseModel):
    """A body of which every part is known."""

    model_config = ConfigDict(extra="forbid")


class FolderPath(Exact):
    """A folder of this machine."""

    path: str = Field(min_length=1, max_length=4096)


class Name(Exact):
    """The name that something is to have."""

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=_PRINTABLE)]


class Undo(Exact):
    """The key that a removal has given."""

    undo: str


class TrainingBody(Exact):
    """A wish for a training: on what, and how."""

    excluded: list[str] = []  # names, as the report has them
    family: Literal["vqvae", "vae"] = "vqvae"
    settings: dict[str, Any] = {}

    def plan(self, folder: OpenFolder, library: ModelLibrary, name: str | None = None) -> RunPlan:
        """The run that this asks for; raises `CollectionError`, `ConfigError`, `StorageError`."""
        known = {field.name for field in dataclasses.fields(VQVAEConfig if self.family == "vqvae" else TrainingConfig)}
        if unknown := sorted(self.settings.keys() - known):
            raise ConfigError(f"there is no setting {unknown[0]!r} for a {self.family}")
        if error := folder.error:
            raise CollectionError(f"this collection could not be looked through: {error.reason}", error.remedy)
        if folder.state != "ready":
            raise CollectionError(*_NOT_READY[folder.state])
        return plan_files(
            folder.without(set(self.excluded)),
            dataset_name=folder.name,
            model_name=name or folder.name,
            models_dir=library.folder,
            output_dir=new_run_folder(name or folder.name),
            family=self.family,
            **{"preview_interval": _PREVIEW_INTERVAL} | self.settings,
        )


@router.get("")
def list_collections(here: InState) -> list[dict[str, Any]]:
    """Those that are open, and those made of dropped files."""
    return [folder.summary() for folder in here.folders.all()]


@router.post("")
def open_collection(wish: FolderPath, here: InState) -> dict[str, Any]:
    """Open a folder of this machine and begin to look through it."""
    path = os.path.expanduser(wish.path.strip().strip("\"'"))  # noqa: PTH111  unlike Path, it leaves an unknown ~user as it is
    if not Path(path).is_absolute():
        raise CollectionError(f"{wish.path} is not a whole path", "give the path of the folder from the root on")
    return here.folders.open(Path(path)).report()


@router.post("/uploads")
def create_collection(wish: Name, here: InState) -> dict[str, Any]:
    """An empty collection for files to come."""
    return here.folders.create(wish.name).summary()


@router.post("/undo")
def undo_removal(wish: Undo, here: InState) -> dict[str, Any]:
    """Bring a removed collection back."""
    with here.undoing(wish.undo) as kept:
        return here.folders.restore(kept).summary()


@router.delete("/{key}")
def remove_collection(key: str, here: InState) -> dict[str, str]:
    """Remove dropped sounds; `undo` brings them back until distill is started again."""
    folder = here.folder(key)
    if any(file.is_relative_to(folder.path) for job in here.runs.jobs() for file in job.plan.file_paths):
        raise CollectionError(f"a training needs {folder.name}", "wait until it ends, or cancel it first")
    return {"undo": here.keep(here.folders.remove(key))}


@router.put("/{key}/files")
async def receive_sound(key: str, name: str, request: Request, here: InState) -> dict[str, str]:
    """Take in one dropped file."""
    folder = here.folder(key)
    path = await receive_file(request, folder.path, safe_name(name, set(AUDIO_SUFFIXES)))
    return {"name": path.name}


@router.post("/{key}/scan")
def look_through(key: str, here: InState) -> dict[str, Any]:
    """Look through a collection, again where it was before."""
    folder = here.folder(key)
    here.folders.look_through(folder)
    return folder.report()


@router.get("/{key}")
async def show_collection(key: str, here: InState) -> Any:
    """The report on a collection, as far as it has come."""
    return to_json(await run_in_threadpool(here.folder(key).report))


@router.post("/{key}/plan")
def plan_training(key: str, wishes: TrainingBody, here: InState) -> Any:
    """The sounds and settings that training would use, and why."""
    plan = wishes.plan(here.folder(key), here.library)
    return to_json(
        {
            "config": vars(plan.config),
            "why": reasons(plan, set(wishes.settings)),
            "files": len(plan.file_paths),
            "seconds": plan.seconds,
            "kbits": kilobits(plan.config) if isinstance(plan.config, VQVAEConfig) else None,
        }
    )
