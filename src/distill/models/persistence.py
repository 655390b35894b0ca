"""Model files: `NAME.distill`, a `torch.save` of one dictionary, read with `weights_only=True` and never otherwise.

Version 2 (RVQ-VAE) has exactly these keys:

    format                    "distill_model"
    version                   2
    model_type                "vqvae"
    model_state_dict          the tensors of a ConvVQVAE
    vqvae_config              its settings, those of VQVAESettings
    spectrogram_config        the mel it reads and writes, those of SpectrogramConfig
    training_config           the settings of the run, for the record
    codebook_health_snapshot  health on the validation set, or None
    loss_curve_history        one list per loss, or None
    metadata                  those of ModelMetadata
"""

import dataclasses
import datetime
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch
from torch import Tensor

from distill.audio.io import Samples, read_waveform
from distill.audio.spectrogram import AudioSpectrogram, SpectrogramConfig
from distill.errors import ConfigError, ModelFileError
from distill.library.catalog import ModelEntry, ModelLibrary
from distill.library.header import MODEL_FILE_EXTENSION, MODEL_FORMAT_MARKER, ModelMetadata
from distill.models.reconstruct import reconstruct_waveform
from distill.models.settings import VQVAESettings
from distill.models.vqvae import ConvVQVAE
from distill.storage import atomic_write

__all__ = [
    "MODEL_FILE_EXTENSION",
    "MODEL_FORMAT_MARKER",
    "SAVED_MODEL_VERSION",
    "SAVED_MODEL_VERSION_V2",
    "LoadedVQModel",
    "ModelMetadata",
    "load_model_v2",
    "rename_model",
    "save_model_v2",
]

SAVED_MODEL_VERSION = 1
SAVED_MODEL_VERSION_V2 = 2

_KEYS_V2 = {
    "format",
    "version",
    "model_type",
    "model_state_dict",
    "vqvae_config",
    "spectrogram_config",
    "training_config",
    "codebook_health_snapshot",
    "loss_curve_history",
    "metadata",
}

Settings = Any  # a mapping or a dataclass


@dataclass(frozen=True)
class LoadedVQModel:
    """An RVQ-VAE ready for use, in eval mode."""

    model: ConvVQVAE
    spectrogram: AudioSpectrogram
    metadata: ModelMetadata
    device: torch.device
    codebook_health: dict[str, dict[str, float]] | None
    vqvae_config: dict[str, Any]

    @property
    def sample_rate(self) -> int:
        """The rate in Hz of what `reconstruct` returns."""
        return self.spectrogram.config.sample_rate

    def reconstruct(
        self, sound: Path | str | Samples, sample_rate: int | None = None, levels: int | None = None
    ) -> Samples:
        """What the model makes of a sound file, or of mono float `[S]` at `sample_rate`: float32 `[S']`.

        The result is at the model's rate and lasts as long as the sound; `levels` uses only the first so many
        levels of codes. Raises `AudioError` for an unreadable file, `ConfigError` for impossible levels.
        """
        if levels is not None and not 1 <= levels <= self.model.quantizer.levels:
            raise ConfigError(f"levels is {levels}; this model has 1 to {self.model.quantizer.levels}")
        waveform = torch.from_numpy(self._waveform(sound, sample_rate)).to(self.device)
        made = reconstruct_waveform(lambda mel: self.model.reconstruct(mel, levels), self.spectrogram, waveform)
        samples: Samples = made.cpu().numpy()
        return samples

    def _waveform(self, sound: Path | str | Samples, sample_rate: int | None) -> Samples:
        if isinstance(sound, Path | str):
            return read_waveform(Path(sound), self.sample_rate)
        resampled = soxr.resample(np.asarray(sound, np.float32), sample_rate or self.sample_rate, self.sample_rate)
        return np.asarray(resampled, dtype=np.float32)


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
    content = {
        "format": MODEL_FORMAT_MARKER,
        "version": SAVED_MODEL_VERSION_V2,
        "model_type": "vqvae",
        "model_state_dict": _cpu_state(model),
        "vqvae_config": dict(model.settings),
        "spectrogram_config": _as_dict(spectrogram_config),
        "training_config": _as_dict(training_config),
        "codebook_health_snapshot": codebook_health,
        "loss_curve_history": loss_curve_history,
    }
    return _add_to_library(content, metadata, Path(models_dir))


def load_model_v2(model_path: Path | str, device: torch.device | str = "cpu") -> LoadedVQModel:
    """Load an RVQ-VAE, in eval mode; raises `ModelFileError` (a `ValueError`) for any other file."""
    path = Path(model_path)
    content = _read(path)
    if content.get("version") == SAVED_MODEL_VERSION:
        raise ModelFileError("Not a v2 VQ-VAE model. Use load_model() for v1 models.")
    if content.get("model_type") != "vqvae" or content.get("version") != SAVED_MODEL_VERSION_V2:
        raise ModelFileError(f"{path}: not a v2 VQ-VAE model (it calls itself {content.get('model_type')!r})")
    _check_keys(path, content, _KEYS_V2)
    try:
        settings = dataclasses.asdict(VQVAESettings(**content["vqvae_config"]))
        spectrogram = AudioSpectrogram(SpectrogramConfig(**content["spectrogram_config"]))
        metadata = ModelMetadata(**content["metadata"])
    except (ConfigError, TypeError) as error:
        raise ModelFileError(f"{path}: its settings are damaged: {error}") from error
    model = ConvVQVAE(**settings)
    _load_weights(path, model, content["model_state_dict"])
    return LoadedVQModel(
        model=model.to(device).eval(),
        spectrogram=spectrogram.to(device),
        metadata=metadata,
        device=torch.device(device),
        codebook_health=content["codebook_health_snapshot"],
        vqvae_config=settings,
    )


def rename_model(library: ModelLibrary, entry: ModelEntry, name: str) -> Path:
    """Give a model another name, in its file, its file name and the index; raises `ModelFileError`, `StorageError`."""
    old = library.path(entry)
    content = _read(old)
    metadata = dataclasses.replace(ModelMetadata(**content.pop("metadata")), name=name)
    new = _add_to_library(content, metadata, library.folder)
    old.unlink()
    return new


def _as_dict(settings: Settings) -> dict[str, Any]:
    if dataclasses.is_dataclass(settings) and not isinstance(settings, type):
        return dataclasses.asdict(settings)
    return dict(settings or {})


def _cpu_state(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu() for name, value in model.state_dict().items()}


def _add_to_library(content: dict[str, Any], metadata: ModelMetadata, models_dir: Path) -> Path:
    """Write the file under a free name and enter it in the index; fills in the metadata's id and date."""
    metadata.model_id = metadata.model_id or uuid.uuid4().hex
    metadata.save_date = metadata.save_date or datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    library = ModelLibrary(models_dir)
    with library.new_file(metadata.name) as path:
        whole = content | {"metadata": dataclasses.asdict(metadata)}
        atomic_write(path, lambda file: torch.save(whole, file))
        library.add(ModelEntry.of_file(path))
    return path


def _read(path: Path) -> dict[str, Any]:
    """The dictionary in a model file, of any version up to ours; raises `ModelFileError`."""
    if not path.is_file():
        raise ModelFileError(f"{path}: no such model file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its unpickler meets
        raise ModelFileError(f"{path}: not a readable model file; it may be damaged or cut short") from error
    if not isinstance(content, dict) or content.get("format") != MODEL_FORMAT_MARKER:
        raise ModelFileError(f"{path}: not a distill model")
    version = content.get("version")
    if not isinstance(version, int) or version < 1:
        raise ModelFileError(f"{path}: its version {version!r} makes no sense")
    if version > SAVED_MODEL_VERSION_V2:
        raise ModelFileError(f"{path}: made by a newer distill (file version {version}); update distill to open it")
    return content


def _check_keys(path: Path, content: dict[str, Any], keys: set[str]) -> None:
    if content.keys() != keys:
        wrong = ", ".join(sorted(str(key) for key in content.keys() ^ keys))
        raise ModelFileError(f"{path}: missing or unknown parts: {wrong}")


def _load_weights(path: Path, model: torch.nn.Module, state: Any) -> None:
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelFileError(f"{path}: its weights are not tensors")
    if not all(bool(torch.isfinite(value).all()) for value in state.values()):
        raise ModelFileError(f"{path}: its weights are not all finite numbers")
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ModelFileError(f"{path}: its weights do not fit its settings") from error
