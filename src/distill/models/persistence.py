"""Saving, loading, renaming and deleting models, on disk and in the library; `models.format` describes the files."""

import dataclasses
import datetime
import math
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from distill.audio.spectrogram import SpectrogramConfig
from distill.errors import ConfigError, ModelFileError, StorageError
from distill.families import Family, get_family
from distill.library.catalog import ModelEntry, ModelLibrary
from distill.library.container import malformed_as
from distill.library.header import (
    MODEL_FILE_EXTENSION,
    MODEL_FORMAT_MARKER,
    SAVED_MODEL_VERSION_V2,
    ModelMetadata,
)
from distill.library.lock import locked
from distill.models.archive import read_archive
from distill.models.format import (
    SAVED_MODEL_VERSION,
    TrainingRecord,
    build_model,
    check_file,
    family_of,
    model_content,
    read_content,
    split_settings,
    write_content,
)
from distill.models.loaded import LoadedFamily
from distill.models.loaded_vae import LoadedModel
from distill.models.loaded_vqvae import LoadedVQModel
from distill.models.vae import ConvVAE
from distill.models.vqvae import ConvVQVAE
from distill.storage import storage_errors

__all__ = [
    "MODEL_FILE_EXTENSION",
    "MODEL_FORMAT_MARKER",
    "SAVED_MODEL_VERSION",
    "SAVED_MODEL_VERSION_V2",
    "LoadedModel",
    "LoadedVQModel",
    "ModelMetadata",
    "add_to_library",
    "delete_model",
    "describe_model",
    "load_any",
    "load_model",
    "load_model_v2",
    "rename_model",
    "save_family_model",
    "save_model",
    "save_model_from_checkpoint",
    "save_model_v2",
]

Settings = Any  # a mapping or a dataclass


def save_model_v2(
    model: ConvVQVAE,
    spectrogram_config: SpectrogramConfig,
    vqvae_config: Settings,
    training_config: Settings,
    metadata: ModelMetadata,
    models_dir: Path | str,
    codebook_health: dict[str, dict[str, float]] | None = None,
    loss_curve_history: dict[str, list[float]] | None = None,
) -> Path:
    """Save an RVQ-VAE in the library `models_dir` under its metadata's name, with a counter if that is taken.

    Raises `ModelFileError` when `vqvae_config` is not this model's, `StorageError` when it cannot be written.
    """
    # A whole training configuration may be given; what else is in it does not describe the model.
    given = {name: value for name, value in _as_dict(vqvae_config).items() if name in model.settings}
    if differing := [name for name, value in given.items() if value != model.settings[name]]:
        raise ModelFileError(f"vqvae_config does not describe this model: {', '.join(differing)} differ")
    return save_family_model(
        get_family("vqvae"), model, spectrogram_config, training_config, metadata, models_dir,
        codebook_health, loss_curve_history,
    )  # fmt: skip


def save_model(
    model: ConvVAE,
    spectrogram_config: SpectrogramConfig,
    training_config: Settings,
    metadata: ModelMetadata,
    models_dir: Path | str,
    analysis: dict[str, Any] | None = None,
    loss_curve_history: dict[str, list[float]] | None = None,
) -> Path:
    """Save a VAE in the library `models_dir`, as `save_model_v2` does an RVQ-VAE; raises `StorageError`."""
    return save_family_model(
        get_family("vae"), model, spectrogram_config, training_config, metadata, models_dir,
        analysis, loss_curve_history,
    )  # fmt: skip


def save_family_model(
    family: Family,
    model: Any,
    spectrogram_config: SpectrogramConfig,
    training_config: Settings,
    metadata: ModelMetadata,
    models_dir: Path | str,
    record: Any = None,
    loss_curve_history: dict[str, list[float]] | None = None,
) -> Path:
    """Save a model of any family with the `record` of its training; raises `ModelFileError`, `StorageError`."""
    curves = {name: _nonfinite_to_none(curve) for name, curve in (loss_curve_history or {}).items()}
    history = TrainingRecord(_as_dict(training_config), record, curves if loss_curve_history is not None else None)
    content = model_content(family, model, SpectrogramConfig(**_as_dict(spectrogram_config)), metadata, history)
    return add_to_library(content, metadata, Path(models_dir))


def save_model_from_checkpoint(checkpoint_path: Path | str, metadata: ModelMetadata, models_dir: Path | str) -> Path:
    """Save the best weights in a checkpoint of `train` as a VAE; raises `ModelFileError`, `StorageError`."""
    path = Path(checkpoint_path)
    with malformed_as(ModelFileError, path, "checkpoint"):
        content = read_archive(path)
    family = get_family("vae")
    if not isinstance(content, dict) or content.get("family") != family.name:
        raise ModelFileError(f"{path}: not a checkpoint of a VAE run")
    try:
        identity = dict(content["identity"])
        settings, parts = split_settings(family, content["model_settings"])
        spectrogram_config = SpectrogramConfig(**identity["spectrogram_config"])
        training_config = dict(identity["config"])
        best, last = content["best_weights"], content["model_state"]
    except (ConfigError, KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"{path}: the checkpoint is damaged: {error}") from error
    # None: no epoch was validated before this checkpoint.
    model = build_model(path, family, settings, parts, last if best is None else best)
    return save_model(model, spectrogram_config, training_config, metadata, models_dir)


def load_model_v2(model_path: Path | str, device: torch.device | str = "cpu") -> LoadedVQModel:
    """Load an RVQ-VAE, in eval mode; raises `ModelFileError` (a `ValueError`) for any other file."""
    loaded = _load(Path(model_path), get_family("vqvae"), device)
    assert isinstance(loaded, LoadedVQModel)
    return loaded


def load_model(model_path: Path | str, device: torch.device | str = "cpu") -> LoadedModel:
    """Load a VAE, in eval mode; raises `ModelFileError` (a `ValueError`) for any other file."""
    loaded = _load(Path(model_path), get_family("vae"), device)
    assert isinstance(loaded, LoadedModel)
    return loaded


def load_any(model_path: Path | str, device: torch.device | str = "cpu") -> LoadedFamily:
    """Load a model of any family, in eval mode; raises `ModelFileError`."""
    return _load(Path(model_path), None, device)


def _load(path: Path, expected: Family | None, device: torch.device | str) -> LoadedFamily:
    content = read_content(path, expected)
    file = check_file(path, content, expected or family_of(path, content), device)
    return file.family.loaded_type.from_file(file)


def delete_model(model_id: str, models_dir: Path | str) -> None:
    """Delete a model and its file from the library; raises `LibraryError` when there is none with this id."""
    ModelLibrary(models_dir).remove(model_id)


def describe_model(library: ModelLibrary, entry: ModelEntry, **about: Any) -> Path:
    """Change fields of a model's metadata other than its name and id; returns the path of its file.

    Raises `ConfigError`, `LibraryError`, `ModelFileError`, `StorageError`.
    """
    path = library.path(entry)
    content = _with_metadata(path, **about)
    with locked(library.folder):
        library.check_unchanged(entry)
        write_content(path, content)
        library.add(ModelEntry.of_file(path))
    return path


def rename_model(library: ModelLibrary, entry: ModelEntry, name: str) -> Path:
    """Rename a model in its file, its file name and the index; raises `ModelFileError`, `StorageError`.

    If the process is killed at any moment, there is one file, under the old name or the new one.
    """
    old = library.path(entry)
    if name == entry.name:
        return old
    content = _with_metadata(old, name=name)
    with library.new_file(name, old) as new, storage_errors(new):  # holds the library's lock
        library.check_unchanged(entry)
        # The file is rewritten where it is, then renamed: a copy under the new name could be left beside the old one.
        # Killed in between, the library lists it by its new name.
        write_content(old, content)
        old.rename(new)
        library.add(ModelEntry.of_file(new))
    return new


def _with_metadata(path: Path, **changes: Any) -> dict[str, Any]:
    """The content of a model file with other metadata; raises `ConfigError`, `ModelFileError`."""
    content = read_content(path)
    file = check_file(path, content, family_of(path, content))
    return content | {"metadata": dataclasses.asdict(dataclasses.replace(file.metadata, **changes))}


def add_part_to_file(path: Path, name: str, part: torch.nn.Module) -> Path:
    """Give the model at `path` a part, in place of one that it has; returns its absolute path.

    The file is replaced as a whole. Raises `ModelFileError`, `StorageError`.
    """
    content = read_content(path)
    family = family_of(path, content)
    prefix = f"{name}."
    weights = {key: value for key, value in content["model_state_dict"].items() if not key.startswith(prefix)}
    content["model_state_dict"] = weights | {prefix + key: value.cpu() for key, value in part.state_dict().items()}
    content[family.file.settings_key] = {**content[family.file.settings_key], name: part.settings}
    check_file(path, content, family)
    return write_content(path, content).absolute()


def add_to_library(content: dict[str, Any], metadata: ModelMetadata, models_dir: Path) -> Path:
    """Write a model file under a free name and add it to the index; fills in the metadata's id and date.

    Raises `ModelFileError` when it cannot be read back, `StorageError` when it cannot be written.
    """
    metadata.model_id = metadata.model_id or uuid.uuid4().hex
    metadata.save_date = metadata.save_date or datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    library = ModelLibrary(models_dir)
    with library.new_file(metadata.name) as path:
        try:
            write_content(path, content | {"metadata": dataclasses.asdict(metadata)})
            library.add(ModelEntry.of_file(path))  # from the file: one that cannot be read is noticed
        except (ModelFileError, StorageError):  # leave nothing behind, or a second try would add a second model
            with suppress(OSError):
                path.unlink()
            raise
    return path


def _nonfinite_to_none(curve: list[float]) -> list[float | None]:
    """Replace the values of a curve that are not finite by None: a file holds finite numbers only."""
    return [value if math.isfinite(value) else None for value in curve]


def _as_dict(settings: Settings) -> dict[str, Any]:
    if dataclasses.is_dataclass(settings) and not isinstance(settings, type):
        return dataclasses.asdict(settings)
    return dict(settings or {})
