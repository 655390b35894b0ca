"""Checkpoints: everything a run needs to go on as if it had not stopped.

One file is one position, `checkpoint_EPOCH_STEP_VALLOSS.pt`: the next epoch and step to train, and the validation
loss of these weights where they have one. It is a `torch.save` of a dictionary with the fields of `Checkpoint`, read
back with `weights_only=True`.
"""

import dataclasses
import io
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill.errors import CheckpointError
from distill.storage import atomic_write_bytes, storage_errors
from distill.training.metrics import CodebookHealth, MetricsHistory, VQMetricsHistory

FORMAT = "distill_checkpoint"
VERSION = 1
_NAME = re.compile(r"checkpoint_(\d+)_(\d+)_(-?\d+(?:\.\d+)?(?:e[+-]\d+)?|none)\.pt")


@dataclass(frozen=True)
class Checkpoint:
    """The whole state of a run at one position; tensors and plain values only."""

    family: str
    identity: dict[str, Any]  # config, spectrogram and files: what the resuming run must agree with
    epoch: int
    step: int
    val_loss: float | None
    total_epochs: int
    planned: bool
    elapsed_s: float
    totals: dict[str, Any]
    model_settings: dict[str, Any]
    model_state: dict[str, Tensor]
    optimizer_state: dict[str, Any]
    scheduler_state: dict[str, Any]
    best_epoch: int
    best_val_loss: float
    best_weights: dict[str, Tensor] | None
    history: VQMetricsHistory | MetricsHistory
    commitment_weight: float | None = None  # RVQ-VAE
    codebook_health: CodebookHealth | None = None  # RVQ-VAE
    kl_weight: float | None = None  # VAE


_HISTORIES: dict[str, type[VQMetricsHistory] | type[MetricsHistory]] = {
    "vqvae": VQMetricsHistory,
    "vae": MetricsHistory,
}


def write_checkpoint(folder: Path, checkpoint: Checkpoint, max_checkpoints: int = 3) -> Path:
    """Write a checkpoint and drop all but the `max_checkpoints` newest and the best; raises `StorageError`."""
    loss = checkpoint.val_loss
    scored = repr(loss) if loss is not None and math.isfinite(loss) else "none"
    path = folder / f"checkpoint_{checkpoint.epoch:05d}_{checkpoint.step:05d}_{scored}.pt"
    content = {"format": FORMAT, "version": VERSION} | {
        field.name: getattr(checkpoint, field.name) for field in dataclasses.fields(Checkpoint)
    }
    content["history"] = checkpoint.history.to_dict()
    buffer = io.BytesIO()
    torch.save(content, buffer)  # to memory first: on a full disk torch would raise what is no OSError
    atomic_write_bytes(path, buffer.getbuffer())
    with storage_errors(path):
        _retain(folder, max_checkpoints)
    return path


def _retain(folder: Path, keep: int) -> None:
    paths = list_checkpoints(folder)
    kept = {*paths[-keep:], best_checkpoint(folder)}
    for path in paths:
        if path not in kept:
            path.unlink()


def drop_later(folder: Path, epoch: int, step: int) -> None:
    """Delete the checkpoints beyond (`epoch`, `step`), from where a run is about to go on; raises `StorageError`."""
    with storage_errors(folder):
        for path in list_checkpoints(folder):
            if (match := _NAME.fullmatch(path.name)) and (int(match[1]), int(match[2])) > (epoch, step):
                path.unlink()


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, oldest position first."""
    found = [(match, path) for path in folder.glob("checkpoint_*.pt") if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found, key=lambda item: (int(item[0][1]), int(item[0][2]), item[1].name))]


def best_checkpoint(folder: Path) -> Path | None:
    """The checkpoint in `folder` with the lowest validation loss, the newest where none has one."""
    paths = list_checkpoints(folder)
    scored = [(float(loss), path) for path in paths if (loss := path.stem.rsplit("_", 1)[1]) != "none"]
    return min(scored)[1] if scored else (paths[-1] if paths else None)


def find_checkpoint(place: Path) -> Path:
    """The checkpoint meant by `place`, itself or the newest of a run folder; raises `CheckpointError`."""
    if place.is_file():
        return place
    paths = list_checkpoints(place / "checkpoints") if place.is_dir() else []
    if not paths:
        raise CheckpointError(f"{place}: no checkpoint to resume from; give a run folder that `distill train` made")
    return paths[-1]


def read_checkpoint(path: Path, family: str, device: torch.device | str = "cpu") -> Checkpoint:
    """Read a checkpoint of `family`; raises `CheckpointError` when it is not a whole one."""
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch raises whatever its unpickler meets
        raise CheckpointError(f"{path}: not a readable checkpoint; it may be damaged") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a distill checkpoint")
    if content.get("version") != VERSION:
        raise CheckpointError(f"{path}: made by another version of distill (format {content.get('version')})")
    names = {field.name for field in dataclasses.fields(Checkpoint)}
    if missing := names - content.keys():
        raise CheckpointError(f"{path}: incomplete, without {', '.join(sorted(missing))}")
    if content["family"] != family:
        raise CheckpointError(f"{path}: from a {content['family']} run, not a {family} run")
    try:
        history = _HISTORIES[family].from_dict(content["history"])
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: its history is damaged") from error
    return Checkpoint(**{name: content[name] for name in names - {"history"}}, history=history)


def load_vqvae_checkpoint(path: Path, device: torch.device | str = "cpu") -> Checkpoint:
    """`read_checkpoint` for an RVQ-VAE run; raises `CheckpointError`."""
    return read_checkpoint(path, "vqvae", device)


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> Checkpoint:
    """`read_checkpoint` for a VAE run; raises `CheckpointError`."""
    return read_checkpoint(path, "vae", device)


save_checkpoint = save_vqvae_checkpoint = write_checkpoint  # what a family keeps of its own is in `Checkpoint`
