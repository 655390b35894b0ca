"""Checkpoints: everything a run needs to continue as if it had not been interrupted.

One file is one position, `checkpoint_EPOCH_STEP_VALLOSS.pt`: the next epoch and step to train, and the validation
loss by which these weights are judged, where they have one. It holds the fields of `Checkpoint`, all of them required
except `own`, and is written and read by `distill.models.archive`, as model files are.
"""

import dataclasses
import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, InstanceOf
from pydantic.dataclasses import dataclass
from torch import Tensor

from distill.errors import CheckpointError, ConfigError
from distill.families import get_family
from distill.library.container import malformed_as
from distill.library.members import Malformed
from distill.models.archive import read_archive, write_archive
from distill.notices import CheckpointDamaged
from distill.plain_files import parse_json
from distill.schema import short
from distill.storage import storage_errors
from distill.training.metrics import History

logger = logging.getLogger(__name__)

FORMAT = "distill_checkpoint"
VERSION = 2
_NAME = re.compile(r"checkpoint_(\d+)_(\d+)_(-?\d+(?:\.\d+)?(?:e[+-]\d+)?|none)\.pt")
_DAMAGED_SUFFIX = ".damaged"  # added to the name of a checkpoint that cannot be read

Weights = dict[str, InstanceOf[Tensor]]


@dataclass(frozen=True, config=ConfigDict(strict=True, arbitrary_types_allowed=True))
class Checkpoint:
    """The whole state of a run at one position; tensors and plain, finite values only."""

    family: str
    identity: dict[str, Any]  # config, spectrogram and files: the resuming run must have the same
    environment: dict[str, str]  # device, torch and threads, on which the last digits depend
    epoch: int
    step: int
    val_loss: float | None  # the one that the run is judged by
    total_epochs: int
    planned: bool
    elapsed_s: float
    totals: dict[str, Any]  # of the unfinished epoch
    skips: dict[str, int]
    rollbacks: int
    model_settings: dict[str, Any]
    model_state: Weights
    optimizer_state: dict[str, Any] | list[dict[str, Any]]  # a list where there are several optimizers
    scheduler_state: dict[str, Any] | list[dict[str, Any]]
    best_epoch: int
    best_val_loss: float | None
    best_weights: Weights | None
    history: InstanceOf[History]  # type: ignore[type-arg]  # pydantic accepts no generic classes here
    commitment_weight: float | None = None  # RVQ-VAE
    codebook_health: dict[str, dict[str, Any]] | None = None  # RVQ-VAE
    kl_weight: float | None = None  # VAE
    own: dict[str, Any] = dataclasses.field(default_factory=dict)  # any other family's


# The keys of the file: the names of the fields, but for one that keeps the key it had in earlier versions.
_FIELDS = {field.name: field.name for field in dataclasses.fields(Checkpoint)} | {"environment": "made_with"}
_KEYS = {"format", "version", *_FIELDS.values()}
_OPTIONAL = {"own"}  # missing from the first checkpoints


def write_checkpoint(folder: Path, checkpoint: Checkpoint, max_checkpoints: int = 3) -> Path:
    """Write a checkpoint and drop all but the `max_checkpoints` newest and the best; raises `StorageError`.

    Of those between epochs, the same number is kept as well. Nothing is dropped before the new one is on disk.
    Raises `CheckpointError` when a number is not finite.
    """
    loss = checkpoint.val_loss
    # The name has the loss in full precision, because `best_checkpoint` compares losses without opening the files.
    path = (
        folder / f"checkpoint_{checkpoint.epoch:05d}_{checkpoint.step:05d}_{'none' if loss is None else repr(loss)}.pt"
    )
    content: dict[str, Any] = {"format": FORMAT, "version": VERSION}
    content |= {key: getattr(checkpoint, name) for name, key in _FIELDS.items()}
    if not checkpoint.own:
        del content["own"]
    # As one string: the events of a long run would exceed the number of pickle opcodes that `library.container` allows.
    content["history"] = json.dumps(checkpoint.history.to_dict(), allow_nan=False)
    try:
        write_archive(path, content)
    except Malformed as error:
        raise CheckpointError(f"{path}: not saved: {error}") from error
    with storage_errors(path):
        _retain(folder, max_checkpoints, path)
    return path


def _retain(folder: Path, keep: int, written: Path) -> None:
    paths = list_checkpoints(folder)
    # The one just written is the only one known to be readable; damaged later ones may lie beside it.
    # Those between epochs come at the same places every time, so that the way back of a run that diverges does too.
    between_epochs = [path for path in paths if _position(path)[1] == 0]
    kept = {*paths[-keep:], *between_epochs[-keep:], best_checkpoint(folder), written}
    for path in paths:
        if path not in kept:
            path.unlink()


def drop_later(folder: Path, epoch: int, step: int) -> None:
    """Delete the checkpoints beyond (`epoch`, `step`), where a run is about to continue; raises `StorageError`."""
    with storage_errors(folder):
        for path in list_checkpoints(folder):
            if _position(path) > (epoch, step):
                path.unlink()


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, oldest position first."""
    found = [path for path in folder.glob("checkpoint_*.pt") if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: (_position(path), path.name))


def _position(path: Path) -> tuple[int, int]:
    """The epoch and step of a checkpoint, by its name."""
    epoch, step = path.name.split("_")[1:3]
    return int(epoch), int(step)


def best_checkpoint(folder: Path) -> Path | None:
    """The checkpoint in `folder` with the lowest validation loss, the newest where none has one."""
    paths = list_checkpoints(folder)
    scored = [(float(loss), path) for path in paths if (loss := path.stem.rsplit("_", 1)[1]) != "none"]
    return min(scored)[1] if scored else (paths[-1] if paths else None)


def find_checkpoint(place: Path, family: str, healthy: Callable[[Checkpoint], bool] | None = None) -> Checkpoint:
    """The checkpoint at `place`, or the newest in a run folder that can be read; raises `CheckpointError`.

    Damaged ones in a run folder are renamed, with a warning; others that `healthy` rejects are passed over.
    """
    if place.is_file():
        return read_checkpoint(place, family)
    damaged: dict[Path, CheckpointError] = {}
    for path in reversed(list_checkpoints(place / "checkpoints") if place.is_dir() else []):
        try:
            checkpoint = read_checkpoint(path, family)
        except CheckpointError as error:
            damaged[path] = error
            continue
        if healthy is None or healthy(checkpoint):
            _set_aside(damaged, path)  # only now: where none can be read, all stay as they are
            return checkpoint
    if damaged:
        raise next(iter(damaged.values()))
    raise CheckpointError(f"{place}: no checkpoint to resume from", "give the folder of a run that was interrupted")


def _set_aside(damaged: dict[Path, CheckpointError], instead: Path) -> None:
    for path, error in damaged.items():
        logger.warning(CheckpointDamaged(str(error), instead.name))
        with storage_errors(path):
            path.replace(path.with_name(path.name + _DAMAGED_SUFFIX))


def read_checkpoint(path: Path, family: str) -> Checkpoint:
    """Read a checkpoint of `family`, its tensors on the CPU; raises `CheckpointError` for anything else."""
    with malformed_as(CheckpointError, path, "checkpoint"):
        content = read_archive(path, lambda structure: _check_marker(path, structure))
    version = content.get("version")
    if not isinstance(version, int) or version != VERSION:
        raise CheckpointError(f"{path}: made by another version of distill (format {short(version)})")
    if wrong := (content.keys() ^ _KEYS) - _OPTIONAL:
        raise CheckpointError(
            f"{path}: parts are missing or unknown: {', '.join(sorted(str(key)[:80] for key in wrong)[:20])}"
        )
    if content["family"] != family:
        raise CheckpointError(f"{path}: from a {str(content['family'])[:80]} run, not a {family} run")
    try:
        history = get_family(family).history.from_dict(parse_json(content["history"]))
        fields = {name: content[key] for name, key in _FIELDS.items() if key in content}
        return Checkpoint(**fields | {"history": history})
    except (ConfigError, KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: it is damaged: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _check_marker(path: Path, content: Any) -> None:
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a distill checkpoint")


def load_vqvae_checkpoint(path: Path) -> Checkpoint:
    """`read_checkpoint` for an RVQ-VAE run; raises `CheckpointError`."""
    return read_checkpoint(path, "vqvae")


def load_checkpoint(path: Path) -> Checkpoint:
    """`read_checkpoint` for a VAE run; raises `CheckpointError`."""
    return read_checkpoint(path, "vae")


save_checkpoint = save_vqvae_checkpoint = write_checkpoint  # one for all families, which differ only in optional fields
