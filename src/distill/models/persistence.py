"""Model files: `NAME.distill`, a `torch.save` of one dictionary, read with `weights_only=True` and never otherwise.

Both versions have exactly these keys:

    format                    "distill_model"
    version                   2 (RVQ-VAE) or 1 (continuous VAE)
    model_type                "vqvae" or "vae"
    model_state_dict          the tensors of a ConvVQVAE or a ConvVAE
    vqvae_config, vae_config  its settings, those of VQVAESettings or VAESettings
    spectrogram_config        the mel it reads and writes, those of SpectrogramConfig
    training_config           the settings of the run, for the record
    codebook_health_snapshot  (RVQ-VAE) health on the validation set, or None
    latent_analysis           (VAE) that of distill.models.analysis, or None
    loss_curve_history        one list per loss, or None
    metadata                  those of ModelMetadata
"""

import dataclasses
import datetime
import io
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from distill.audio.spectrogram import AudioSpectrogram, SpectrogramConfig
from distill.errors import ConfigError, ModelFileError
from distill.library.catalog import ModelEntry, ModelLibrary
from distill.library.header import MODEL_FILE_EXTENSION, MODEL_FORMAT_MARKER, LatentAnalysis, ModelMetadata
from distill.models.loaded import LoadedModel, LoadedVQModel
from distill.models.settings import VAESettings, VQVAESettings
from distill.models.vae import ConvVAE
from distill.models.vqvae import ConvVQVAE
from distill.storage import atomic_write_bytes, storage_errors

__all__ = [
    "MODEL_FILE_EXTENSION",
    "MODEL_FORMAT_MARKER",
    "SAVED_MODEL_VERSION",
    "SAVED_MODEL_VERSION_V2",
    "LoadedModel",
    "LoadedVQModel",
    "ModelMetadata",
    "delete_model",
    "load_any",
    "load_model",
    "load_model_v2",
    "rename_model",
    "save_model",
    "save_model_from_checkpoint",
    "save_model_v2",
]

SAVED_MODEL_VERSION = 1
SAVED_MODEL_VERSION_V2 = 2

Settings = Any  # a mapping or a dataclass


@dataclass(frozen=True)
class _Kind:
    """What tells the files of one family from those of the other."""

    version: int
    model_type: str
    settings_key: str
    own_key: str
    own_type: Any
    settings_type: type[VQVAESettings] | type[VAESettings]
    make_model: type[ConvVQVAE] | type[ConvVAE]
    refusal: str  # of a file of the other family

    @property
    def keys(self) -> set[str]:
        shared = {"format", "version", "model_type", "model_state_dict", "spectrogram_config", "training_config"}
        return shared | {"loss_curve_history", "metadata", self.settings_key, self.own_key}


_VQVAE = _Kind(
    version=SAVED_MODEL_VERSION_V2,
    model_type="vqvae",
    settings_key="vqvae_config",
    own_key="codebook_health_snapshot",
    own_type=dict[str, dict[str, float]] | None,
    settings_type=VQVAESettings,
    make_model=ConvVQVAE,
    refusal="Not a v2 VQ-VAE model. Use load_model() for v1 models.",
)
_VAE = _Kind(
    version=SAVED_MODEL_VERSION,
    model_type="vae",
    settings_key="vae_config",
    own_key="latent_analysis",
    own_type=LatentAnalysis | None,
    settings_type=VAESettings,
    make_model=ConvVAE,
    refusal="Not a v1 VAE model. Use load_model_v2() for v2 models.",
)


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
    given = {name: value for name, value in _as_dict(vqvae_config).items() if name in model.settings}
    if differing := [name for name, value in given.items() if value != model.settings[name]]:
        raise ModelFileError(f"vqvae_config does not describe this model: {', '.join(differing)} differ")
    content = _content(_VQVAE, model, spectrogram_config, training_config, codebook_health, loss_curve_history)
    return _add_to_library(content, metadata, Path(models_dir))


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
    content = _content(_VAE, model, spectrogram_config, training_config, analysis, loss_curve_history)
    return _add_to_library(content, metadata, Path(models_dir))


def save_model_from_checkpoint(checkpoint_path: Path | str, metadata: ModelMetadata, models_dir: Path | str) -> Path:
    """Make a VAE model of the best weights in a checkpoint of `train`; raises `ModelFileError`, `StorageError`."""
    path = Path(checkpoint_path)
    content = _torch_load(path)
    if not isinstance(content, dict) or content.get("family") != _VAE.model_type:
        raise ModelFileError(f"{path}: not a checkpoint of a VAE run")
    try:
        settings, identity = content["model_settings"], content["identity"]
        model = ConvVAE(**dataclasses.asdict(VAESettings(**settings)))
        spectrogram_config = SpectrogramConfig(**identity["spectrogram_config"])
        weights = content["best_weights"] or content["model_state"]
    except (ConfigError, KeyError, TypeError) as error:
        raise ModelFileError(f"{path}: the checkpoint is damaged: {error}") from error
    _check_weights(path, model.state_dict(), weights)
    model.load_state_dict(weights)
    return save_model(model, spectrogram_config, identity["config"], metadata, models_dir)


def load_model_v2(model_path: Path | str, device: torch.device | str = "cpu") -> LoadedVQModel:
    """Load an RVQ-VAE, in eval mode; raises `ModelFileError` (a `ValueError`) for any other file."""
    content, model, spectrogram, metadata = _load(Path(model_path), _VQVAE, device)
    health = content["codebook_health_snapshot"]
    return LoadedVQModel(model, spectrogram, metadata, torch.device(device), health, model.settings)


def load_model(model_path: Path | str, device: torch.device | str = "cpu") -> LoadedModel:
    """Load a VAE, in eval mode; raises `ModelFileError` (a `ValueError`) for any other file."""
    content, model, spectrogram, metadata = _load(Path(model_path), _VAE, device)
    return LoadedModel(model, spectrogram, metadata, torch.device(device), content["latent_analysis"])


def load_any(model_path: Path | str, device: torch.device | str = "cpu") -> LoadedModel | LoadedVQModel:
    """Load a model of either family, in eval mode; raises `ModelFileError`."""
    is_vae = _read(Path(model_path)).get("version") == SAVED_MODEL_VERSION
    return load_model(model_path, device) if is_vae else load_model_v2(model_path, device)


def delete_model(model_id: str, models_dir: Path | str) -> None:
    """Delete a model and its file from the library; raises `LibraryError` when there is none with this id."""
    ModelLibrary(models_dir).remove(model_id)


def _content(
    kind: _Kind,
    model: ConvVQVAE | ConvVAE,
    spectrogram_config: SpectrogramConfig,
    training_config: Settings,
    own: Any,
    loss_curve_history: dict[str, list[float]] | None,
) -> dict[str, Any]:
    """The dictionary of a model file, all but its metadata."""
    return {
        "format": MODEL_FORMAT_MARKER,
        "version": kind.version,
        "model_type": kind.model_type,
        "model_state_dict": {name: value.detach().cpu() for name, value in model.state_dict().items()},
        kind.settings_key: dict(model.settings),
        "spectrogram_config": _as_dict(spectrogram_config),
        "training_config": _as_dict(training_config),
        kind.own_key: own,
        "loss_curve_history": loss_curve_history,
    }


def _load(
    path: Path, kind: _Kind, device: torch.device | str
) -> tuple[dict[str, Any], Any, AudioSpectrogram, ModelMetadata]:
    """Read and check a file of one kind, and build what it describes; raises `ModelFileError`."""
    content = _read(path)
    if content.get("version") != kind.version:
        raise ModelFileError(kind.refusal)
    if content.get("model_type") != kind.model_type:
        raise ModelFileError(f"{path}: it calls itself {content.get('model_type')!r}, not {kind.model_type!r}")
    _check_keys(path, content, kind.keys)
    try:
        settings = dataclasses.asdict(kind.settings_type(**content[kind.settings_key]))
        spectrogram = AudioSpectrogram(SpectrogramConfig(**content["spectrogram_config"]))
        metadata = ModelMetadata(**content["metadata"])
    except (ConfigError, TypeError) as error:
        raise ModelFileError(f"{path}: its settings are damaged: {error}") from error
    if kind is _VAE and settings["n_mels"] != spectrogram.config.n_mels:
        raise ModelFileError(f"{path}: its settings are damaged: the model and its spectrogram differ in n_mels")
    _check_own(path, kind, content[kind.own_key], settings)
    with torch.device("meta"):  # costs no memory, whatever the settings say
        expected = kind.make_model(**settings).state_dict()
    _check_weights(path, expected, content["model_state_dict"])
    model = kind.make_model(**settings)
    model.load_state_dict(content["model_state_dict"])
    return content, model.to(device).eval(), spectrogram.to(device), metadata


def rename_model(library: ModelLibrary, entry: ModelEntry, name: str) -> Path:
    """Give a model another name, in its file, its file name and the index; raises `ModelFileError`, `StorageError`."""
    old = library.path(entry)
    if name == entry.name:
        return old
    content = _read(old)
    metadata = dataclasses.replace(ModelMetadata(**content.pop("metadata")), name=name)
    new = _add_to_library(content, metadata, library.folder)
    with storage_errors(old):
        old.unlink()
    return new


def _plain(value: Any) -> Any:
    """`value` with numpy's numbers, which `weights_only` refuses to read, made Python's."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def _as_dict(settings: Settings) -> dict[str, Any]:
    if dataclasses.is_dataclass(settings) and not isinstance(settings, type):
        return dataclasses.asdict(settings)
    return dict(settings or {})


def _add_to_library(content: dict[str, Any], metadata: ModelMetadata, models_dir: Path) -> Path:
    """Write the file under a free name and enter it in the index; fills in the metadata's id and date."""
    metadata.model_id = metadata.model_id or uuid.uuid4().hex
    metadata.save_date = metadata.save_date or datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    library = ModelLibrary(models_dir)
    buffer = io.BytesIO()
    torch.save(_plain(content | {"metadata": dataclasses.asdict(metadata)}), buffer)
    with library.new_file(metadata.name) as path:
        atomic_write_bytes(path, buffer.getbuffer())
        try:
            library.add(ModelEntry.of_file(path))
        except ModelFileError:  # a file that cannot be read back is not left behind
            path.unlink()
            raise
    return path


def _read(path: Path) -> dict[str, Any]:
    """The dictionary in a model file, of any version up to ours; raises `ModelFileError`."""
    content = _torch_load(path)
    if not isinstance(content, dict) or content.get("format") != MODEL_FORMAT_MARKER:
        raise ModelFileError(f"{path}: not a distill model")
    version = content.get("version")
    if not isinstance(version, int) or version < 1:
        raise ModelFileError(f"{path}: its version {version!r} makes no sense")
    if version > SAVED_MODEL_VERSION_V2:
        raise ModelFileError(f"{path}: made by a newer distill (file version {version}); update distill to open it")
    return content


def _torch_load(path: Path) -> Any:
    if not path.is_file():
        raise ModelFileError(f"{path}: no such file")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its unpickler meets
        raise ModelFileError(f"{path}: not a readable model file; it may be damaged or cut short") from error


def _check_keys(path: Path, content: dict[str, Any], keys: set[str]) -> None:
    if content.keys() != keys:
        wrong = ", ".join(sorted(str(key) for key in content.keys() ^ keys))
        raise ModelFileError(f"{path}: missing or unknown parts: {wrong}")


def _check_weights(path: Path, expected: dict[str, Tensor], state: Any) -> None:
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelFileError(f"{path}: its weights are not tensors")

    def form(tensors: dict[str, Tensor]) -> dict[str, Any]:
        return {name: (value.shape, value.dtype, value.layout) for name, value in tensors.items()}

    if form(state) != form(expected) or any(value.is_meta for value in state.values()):
        raise ModelFileError(f"{path}: its weights do not fit its settings")
    if not all(bool(torch.isfinite(value).all()) for value in state.values()):
        raise ModelFileError(f"{path}: its weights are not all finite numbers")


def _check_own(path: Path, kind: _Kind, own: Any, settings: dict[str, Any]) -> None:
    """Check the codebook health or the latent analysis, whichever the file has."""
    try:
        TypeAdapter(kind.own_type).validate_python(own)
    except ValidationError as error:
        raise ModelFileError(f"{path}: its {kind.own_key.replace('_', ' ')} is damaged") from error
    if kind is _VAE and own is not None:
        vectors = [own["mean"], *(component["direction"] for component in own["components"])]
        if any(len(vector) != settings["latent_dim"] for vector in vectors):
            raise ModelFileError(f"{path}: its latent analysis does not fit its latent_dim")
