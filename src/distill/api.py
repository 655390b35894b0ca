"""The Python entry points: `distill.train(folder)`, `distill.load(model)`, and the files of sounds and codes."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.audio.io import write_wav as write_wav
from distill.home import default_models_dir
from distill.library.catalog import ModelLibrary, as_path, locate
from distill.models.codes import Codes as Codes
from distill.models.loaded import LoadedFamily
from distill.models.persistence import load_any, load_model_v2

if TYPE_CHECKING:
    from distill.training.metrics import MetricsCallback


def train(
    folder: Path | str,
    *,
    model_name: str | None = None,
    models_dir: Path | str | None = None,
    output_dir: Path | str | None = None,
    family: str = "vqvae",
    sample_rate: int | None = None,
    callback: "MetricsCallback | None" = None,
    **settings: Any,
) -> LoadedFamily:
    """Train a model on the sounds in `folder`, save it in the library, and return it ready for use.

    `settings` are fields of `VQVAEConfig`, or of `TrainingConfig` for the family "vae" (minutes=2, seed=1, …), and
    override the preset for that much sound. Without a `sample_rate` in Hz, the model has that of the sounds if all have
    the same, from 16,000 to 48,000, else 48,000.
    Raises `CollectionError`, `ConfigError`, `StorageError`, `TrainingError`.
    """
    from distill.training.execution import run_training  # here, so that `load` does not wait for it
    from distill.training.request import TrainingRequest
    from distill.training.run_folder import RunFolder

    request = TrainingRequest.for_folder(
        Path(folder),
        family=family,
        model_name=model_name,
        models_dir=Path(models_dir) if models_dir else None,
        output_dir=Path(output_dir) if output_dir else None,
        sample_rate=sample_rate,
        **settings,
    )
    result = run_training(request, callback)
    return load_any(RunFolder(result["output_dir"]).read_info().model_path or "")


def train_prior(
    model: Path | str,
    folder: Path | str,
    *,
    models_dir: Path | str | None = None,
    output_dir: Path | str | None = None,
    callback: "MetricsCallback | None" = None,
    **settings: Any,
) -> LoadedFamily:
    """Give a model of codes, named as to `load`, a prior of the sounds in `folder`; returns it ready for use.

    It is in the model's file then. `settings` are fields of `PriorConfig`. Raises as `train` does, and `LibraryError`.
    """
    from distill.training.execution import run_training
    from distill.training.request import TrainingRequest

    library, entry = locate(str(model), Path(models_dir or default_models_dir()))
    path = library.path(entry).absolute()
    mel = load_model_v2(path).spectrogram.config
    request = TrainingRequest.for_folder(
        Path(folder),
        family="prior",
        model_name=entry.name,
        models_dir=library.folder,
        output_dir=Path(output_dir) if output_dir else None,
        sample_rate=mel.sample_rate,
        model_file=str(path),
        **settings,
    )
    run_training(dataclasses.replace(request, spectrogram_config=mel), callback)
    return load_any(path)


def load(model: Path | str, *, models_dir: Path | str | None = None, device: str = "cpu") -> LoadedFamily:
    """Load a model by its path, or by its name or id in the library; raises `ModelFileError`, `LibraryError`."""
    library = ModelLibrary(models_dir or default_models_dir())
    path = as_path(str(model)) or library.path(library.find(str(model)))
    return load_any(path, device)
