"""Model files: `NAME.distill`, one dictionary of tensors and plain values, written and read by `models.archive`.

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
    loss_curve_history        one list per loss, with None where it was not finite, or None
    metadata                  those of ModelMetadata

A file may come from anybody. No part of it is used before its keys, types, ranges and shapes were checked, and no
module is built, no path or attribute chosen, by anything but the settings that passed.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError

from distill.audio.spectrogram import AudioSpectrogram, SpectrogramConfig
from distill.errors import ConfigError, ModelFileError
from distill.library.container import malformed_as
from distill.library.header import MODEL_FORMAT_MARKER, LatentAnalysis, ModelMetadata
from distill.models.archive import read_archive, same_form
from distill.models.settings import VAESettings, VQVAESettings
from distill.models.vae import ConvVAE
from distill.models.vqvae import ConvVQVAE
from distill.schema import short

SAVED_MODEL_VERSION = 1
SAVED_MODEL_VERSION_V2 = 2

_CURVES = TypeAdapter(dict[str, list[float | None]] | None)


@dataclass(frozen=True)
class Kind:
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
        """The keys of a file."""
        shared = {"format", "version", "model_type", "model_state_dict", "spectrogram_config", "training_config"}
        return shared | {"loss_curve_history", "metadata", self.settings_key, self.own_key}


VQVAE = Kind(
    version=SAVED_MODEL_VERSION_V2,
    model_type="vqvae",
    settings_key="vqvae_config",
    own_key="codebook_health_snapshot",
    own_type=dict[str, dict[str, float]] | None,
    settings_type=VQVAESettings,
    make_model=ConvVQVAE,
    refusal="Not a v2 VQ-VAE model. Use load_model() for v1 models.",
)
VAE = Kind(
    version=SAVED_MODEL_VERSION,
    model_type="vae",
    settings_key="vae_config",
    own_key="latent_analysis",
    own_type=LatentAnalysis | None,
    settings_type=VAESettings,
    make_model=ConvVAE,
    refusal="Not a v1 VAE model. Use load_model_v2() for v2 models.",
)


@dataclass(frozen=True)
class Parts:
    """A model file whose every part was checked, with the model, in eval mode, and the mel it is made for."""

    content: dict[str, Any]
    model: Any
    spectrogram: AudioSpectrogram
    metadata: ModelMetadata


def read_content(path: Path) -> dict[str, Any]:
    """The dictionary in a model file, of any version up to ours; its parts are not yet checked.

    Raises `ModelFileError`.
    """
    if not path.is_file():
        raise ModelFileError(f"{path}: no such file")
    with malformed_as(ModelFileError, path, "model file"):
        content = read_archive(path)
    check_marker(path, content)
    return dict(content)


def check_marker(path: Path, content: Any) -> None:
    """Raise `ModelFileError` unless the content is that of a model, of a version that is known."""
    if not isinstance(content, dict) or content.get("format") != MODEL_FORMAT_MARKER:
        raise ModelFileError(f"{path}: not a distill model")
    version = content.get("version")
    if not isinstance(version, int) or version < 1:
        raise ModelFileError(f"{path}: its version {short(version)} makes no sense")
    if version > SAVED_MODEL_VERSION_V2:
        raise ModelFileError(
            f"{path}: made by a newer distill (file version {short(version)})", "update distill to open it"
        )


def kind_of(content: dict[str, Any]) -> Kind:
    """The kind of a model file, by its version."""
    return VAE if content["version"] == SAVED_MODEL_VERSION else VQVAE


def check_parts(path: Path, content: dict[str, Any], kind: Kind, device: torch.device | str = "cpu") -> Parts:
    """Check every part of a file of one kind, and build what it describes; raises `ModelFileError`."""
    if content.get("version") != kind.version:
        raise ModelFileError(kind.refusal)
    if content.get("model_type") != kind.model_type:
        raise ModelFileError(f"{path}: it calls itself {short(content.get('model_type'))}, not {kind.model_type!r}")
    _check_keys(path, content, kind.keys)
    try:
        settings = dataclasses.asdict(kind.settings_type(**content[kind.settings_key]))
        spectrogram_config = SpectrogramConfig(**content["spectrogram_config"])
        metadata = ModelMetadata(**content["metadata"])
    except (ConfigError, TypeError) as error:
        raise ModelFileError(f"{path}: its settings are damaged: {error}") from error
    if settings["n_mels"] != spectrogram_config.n_mels:
        raise ModelFileError(f"{path}: its settings are damaged: the model and its spectrogram differ in n_mels")
    _check_record(path, content, kind, settings)
    model = build_model(path, kind.make_model, settings, content["model_state_dict"])
    spectrogram = AudioSpectrogram(spectrogram_config).to(device)
    return Parts(content, model.to(device).eval(), spectrogram, metadata)


def build_model(path: Path, make_model: Any, settings: dict[str, Any], weights: Any) -> Any:
    """The model with these settings, checked before, and weights, checked here; raises `ModelFileError`."""
    # First the shapes that grow with the settings, so that no settings make a model larger than its file. (On the meta
    # device it would cost no memory either, but a second, for what torch imports then.)
    large = make_model.large_shapes(settings)
    if not isinstance(weights, dict) or any(getattr(weights.get(name), "shape", None) != large[name] for name in large):
        raise ModelFileError(f"{path}: its weights do not fit its settings")
    with torch.random.fork_rng(devices=[]):
        model = make_model(**settings)
    if not same_form(weights, model.state_dict()):
        raise ModelFileError(f"{path}: its weights do not fit its settings")
    model.load_state_dict(weights, assign=True)
    return model


def _check_keys(path: Path, content: dict[str, Any], keys: set[str]) -> None:
    if content.keys() != keys:
        wrong = ", ".join(sorted(str(key)[:80] for key in content.keys() ^ keys)[:20])
        raise ModelFileError(f"{path}: missing or unknown parts: {wrong}")


def _check_record(path: Path, content: dict[str, Any], kind: Kind, settings: dict[str, Any]) -> None:
    """Check what the file tells of the run: the curves, and the codebook health or the latent analysis."""
    own = content[kind.own_key]
    for key, form in ((kind.own_key, TypeAdapter(kind.own_type)), ("loss_curve_history", _CURVES)):
        try:
            form.validate_python(content[key])
        except ValidationError as error:
            raise ModelFileError(f"{path}: its {key.replace('_', ' ')} is damaged") from error
    if not isinstance(content["training_config"], dict):
        raise ModelFileError(f"{path}: its training config is damaged")
    if kind is VAE and own is not None:
        vectors = [own["mean"], *(component["direction"] for component in own["components"])]
        if any(len(vector) != settings["latent_dim"] for vector in vectors):
            raise ModelFileError(f"{path}: its latent analysis does not fit its latent_dim")
