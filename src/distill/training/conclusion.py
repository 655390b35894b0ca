"""The end of a finished run: its model saved, its picture drawn."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from distill import __version__
from distill.library.catalog import ModelLibrary
from distill.library.header import ModelMetadata
from distill.training.run import Run, finite


def save_and_draw(run: Run, save: Callable[[Path], Path], draw: Callable[[Path], object]) -> None:
    """Save the model of a finished run, unless an earlier attempt already has, and draw the picture."""
    if run.info.models_dir is not None:
        # A finished run that is resumed, or one that was killed right after saving, must not add a second model.
        library = ModelLibrary(run.info.models_dir)
        saved = [library.path(entry) for entry in library.entries() if entry.model_id == run.info.model_id]
        run.model_path = (saved[0] if saved else save(library.folder)).absolute()
    draw(run.folder.picture_path)


def metadata(run: Run) -> ModelMetadata:
    """The metadata for the model file of a finished run."""
    best = run.state.history.epoch_metrics[run.state.best_epoch]
    return ModelMetadata(
        name=run.info.model_name,
        model_id=run.info.model_id,
        dataset_name=run.info.dataset_name,
        file_count=len(run.info.files),
        duration_s=run.info.duration_s,
        epochs=run.state.epoch,
        best_epoch=run.state.best_epoch,
        train_loss=finite(best.train_loss),
        val_loss=finite(best.val_loss),
        validation_vectors=run.info.validation_vectors or 0,
        seed=run.config.seed,
        distill_version=__version__,
    )


def training_config(run: Run) -> dict[str, Any]:
    """The settings that the run has used, for the record in the model file."""
    used = {"max_epochs": run.state.total_epochs, "device": str(run.context.device)}
    return dataclasses.asdict(run.config) | used


def validation_example(run: Run, reconstruct: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """One validation mel `[M, T]` in decibels, and its reconstruction."""
    mel, decibels = next(run.context.mels(run.loaders[1]))[:1], run.context.spectrogram.decibels
    return decibels(mel)[0, 0], decibels(reconstruct(mel))[0, 0]
