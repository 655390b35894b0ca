"""Small runs: what they are made with, how they end, and whether two of them ended alike."""

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from distill.models import load_model_v2
from distill.models.archive import read_archive
from distill.training.checkpoint import Checkpoint, list_checkpoints, read_checkpoint
from distill.training.config import TrainingConfig, VQVAEConfig, get_adaptive_prior_config
from distill.training.execution import run_training
from distill.training.metrics import PreviewEvent
from distill.training.request import TrainingRequest
from distill.training.run_folder import RunFolder
from distill.training.run_info import RunInfo
from support.checkpoints import same
from support.models import NARROW
from support.sounds import write_collection

RESULT_KEYS = {
    "vqvae": {"model", "metrics_history", "output_dir", "best_checkpoint_path", "final_codebook_health"},
    "vae": {"model", "metrics_history", "output_dir", "best_checkpoint_path", "analysis"},
}
SMALL_PRIOR = {"width": 16, "hidden": 16, "layers": 1, "anchor_columns": 256, "augmentation_copies": 4, "batch_size": 4}
CLOCKS = {"step_time_s": 0.0, "eta_seconds": 0.0, "elapsed_seconds": 0.0, "total_time_s": 0.0}


def small_config(**changes) -> VQVAEConfig:
    settings = {"codebook_dim": 8, "codebook_size": 16, "batch_size": 4, "max_epochs": 2, "chunk_duration_s": 0.5}
    return VQVAEConfig(**(settings | {"val_fraction": 0.3, "preview_interval": 2} | changes))


def small_vae_config(**changes) -> TrainingConfig:
    settings = {"latent_dim": 16, "batch_size": 4, "max_epochs": 2, "chunk_duration_s": 0.5, "val_fraction": 0.3}
    return TrainingConfig(**(settings | {"preview_interval": 99} | changes))


def make_runs_quick(patch: pytest.MonkeyPatch) -> None:
    """Narrow nets that start from few vectors, and no picture at the end: what costs more than a whole run here."""

    def small_prior(count: int, seconds: float | None = None, **changes):
        return get_adaptive_prior_config(count, seconds, **(SMALL_PRIOR | changes))

    patch.setattr("distill.training.prior_request.get_adaptive_prior_config", small_prior)
    patch.setattr("distill.training.prior_loop._LEVELLED", 4)
    patch.setattr("distill.models.blocks.WIDTHS", NARROW)
    patch.setattr("distill.training.loop._START_VECTORS", 10_000)
    for name in ("loop.draw_vqvae_run", "vae_loop.draw_vae_run", "prior_loop.draw_prior_run"):
        patch.setattr(f"distill.training.{name}", lambda *_: None)


def run_with_prior(base: Path) -> None:
    """A finished run `runs/bells` of small sounds below `base`, and the model with a prior in `models` that it made."""
    settings = {"codebook_size": 16, "codebook_dim": 8, "batch_size": 4, "chunk_duration_s": 0.5, "val_fraction": 0.3}
    places = {"output_dir": base / "runs" / "bells", "models_dir": base / "models", "model_name": "bells"}
    run_training(TrainingRequest.for_folder(write_collection(base / "kit"), **places, **settings, max_epochs=2))


def ticking(seconds: float = 0.5) -> Callable[[], float]:
    """A clock on which so many seconds pass between two looks at it, however long they take."""
    return itertools.count(0.0, seconds).__next__


def run_info(**changes) -> RunInfo:
    """The record of a run that never was."""
    needed = {"family": "vqvae", "model_name": "drums", "dataset_name": "kit", "files": [], "duration_s": 1.0}
    return RunInfo(**(needed | {"config": {}} | changes))


# What two runs have in common


def without_clocks(events):
    return [
        dataclasses.replace(event, **{k: v for k, v in CLOCKS.items() if hasattr(event, k)})
        for event in events
        if not isinstance(event, PreviewEvent)
    ]


def newest(run: Path, family: str = "vqvae") -> Checkpoint:
    return read_checkpoint(list_checkpoints(run / "checkpoints")[-1], family)


def parts(run: Path, family: str) -> dict[str, Any]:
    """All that a run ended with, by name: its checkpoint to the last buffer, its history, its log; no clocks."""
    end = newest(run, family)
    fields = {field.name: getattr(end, field.name) for field in dataclasses.fields(end)}
    history, _ = fields.pop("history"), fields.pop("elapsed_s")
    return fields | {
        "steps": without_clocks(history.step_metrics),
        "epochs": without_clocks(history.epoch_metrics),
        "log": without_clocks(RunFolder(run).events()),
    }


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    assert one.keys() == other.keys()
    return [name for name in one if not same(one[name], other[name])]


def same_run(one: Path, other: Path, family: str = "vqvae") -> None:
    """Both ended alike: weights, codebooks, optimizer, schedule, best weights, history, event log."""
    assert differences(parts(one, family), parts(other, family)) == []


def models_of(run: Path) -> Path:
    """The library of a run."""
    return run.with_name(f"{run.name} models")


def saved_parts(run: Path, sounds: torch.Tensor, family: str) -> dict[str, Any]:
    """`parts`, with all of the model file but what it says of itself, and the codes it chooses for `sounds`."""
    (path,) = models_of(run).glob("*.distill")
    saved = {f"saved {name}": value for name, value in read_archive(path).items() if name != "metadata"}
    if family == "vqvae":
        saved["codes"] = load_model_v2(path).model.encode_to_codes(sounds)
    return parts(run, family) | saved
