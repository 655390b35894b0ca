"""Model files: `NAME.distill`, one dictionary of tensors and plain values, written and read by `models.archive`.

Every file has exactly these keys:

    format                    "distill_model"
    version                   2 (RVQ-VAE) or 1 (continuous VAE)
    model_type                the family: "vqvae" or "vae"
    model_state_dict          the tensors of a ConvVQVAE or a ConvVAE; those of an added part have its name as a prefix
    vqvae_config, vae_config  its VQVAESettings or VAESettings; those of an added part under its name
    spectrogram_config        the SpectrogramConfig of the mels that it reads and writes
    training_config           the settings of the run, for the record
    codebook_health_snapshot  (RVQ-VAE) health on the validation set, or None
    latent_analysis           (VAE) the result of distill.models.analysis, with latents of examples, or None
    loss_curve_history        one list per loss, with None where it was not finite, or None
    metadata                  the fields of ModelMetadata

The keys that differ by family, and the parts that its models can have, are in the family's row (`distill.families`).

A file may come from anybody. No part of it is used before its keys, types, ranges and shapes have been checked; modules
are built, and paths and attributes chosen, from checked settings alone.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError

from distill.audio.spectrogram import AudioSpectrogram, SpectrogramConfig
from distill.errors import ConfigError, ModelFileError
from distill.families import Family, find_family
from distill.library.container import malformed_as
from distill.library.header import MODEL_FORMAT_MARKER, SAVED_MODEL_VERSION_V2, ModelMetadata
from distill.library.members import Malformed
from distill.models.archive import read_archive, same_form, write_archive
from distill.schema import short

SAVED_MODEL_VERSION = 1

_OTHERS = 12  # times as many numbers as the large weights have may be in all weights together …
_FIXED = 16 << 20  # … beside so many that depend on no settings

_CURVES = TypeAdapter(dict[str, list[float | None]] | None)


_SHARED_KEYS = {
    "format", "version", "model_type", "model_state_dict", "spectrogram_config", "training_config",
    "loss_curve_history", "metadata",
}  # fmt: skip


@dataclass(frozen=True)
class CheckedFile:
    """A model file that passed every check, with its model, in eval mode, and the spectrogram it works with."""

    content: dict[str, Any]
    family: Family
    model: Any
    spectrogram: AudioSpectrogram
    metadata: ModelMetadata
    device: torch.device

    @property
    def record(self) -> Any:
        """The family's record of the training: codebook health, or the analysis of a latent space."""
        return self.content[self.family.file.record_key]


@dataclass(frozen=True)
class TrainingRecord:
    """What a model file says of the training: the settings of the run, the family's own record, and the curves."""

    config: Mapping[str, Any] = field(default_factory=dict)
    record: Any = None
    curves: Mapping[str, list[float | None]] | None = None


def model_content(
    family: Family, model: Any, spectrogram: SpectrogramConfig, metadata: ModelMetadata, record: TrainingRecord
) -> dict[str, Any]:
    """The dictionary of a model file."""
    return {
        "format": MODEL_FORMAT_MARKER,
        "version": family.file.version,
        "model_type": family.name,
        "model_state_dict": {name: value.cpu() for name, value in model.state_dict().items()},
        family.file.settings_key: dict(model.settings),
        "spectrogram_config": dataclasses.asdict(spectrogram),
        "training_config": dict(record.config),
        family.file.record_key: record.record,
        "loss_curve_history": record.curves,
        "metadata": dataclasses.asdict(metadata),
    }


def write_content(path: Path, content: dict[str, Any]) -> Path:
    """Write a model file, whole or not at all; returns its path. Raises `ModelFileError`, `StorageError`."""
    try:
        write_archive(path, content)
    except Malformed as error:
        raise ModelFileError(f"{path}: not saved: {error}") from error
    return path


def read_content(path: Path, expected: Family | None = None) -> dict[str, Any]:
    """Read the dictionary in a model file of any version up to ours; its parts are not checked yet.

    Raises `ModelFileError`.
    """
    with malformed_as(ModelFileError, path, "model file"):
        return dict(read_archive(path, lambda structure: check_sizes(path, structure, expected)))


def check_sizes(path: Path, content: Any, expected: Family | None = None) -> None:
    """Check the marker, and that the weights are no larger than the settings say: so can be refused without being read.

    Of the weights in `content`, only the `shape` is used. Raises `ModelFileError`.
    """
    check_marker(path, content)
    family = expected or family_of(path, content)
    _check_family(content, family)
    try:
        settings, parts = split_settings(family, content[family.file.settings_key])
    except (ConfigError, KeyError, TypeError) as error:
        raise ModelFileError(f"{path}: its settings are damaged: {error}") from error
    large = _large_shapes(family, settings, parts)
    weights = content.get("model_state_dict")
    _check_large(path, weights, large)
    most = _OTHERS * sum(map(math.prod, large.values())) + _FIXED
    if sum(math.prod(getattr(weight, "shape", ())) for weight in weights.values()) > most:
        raise ModelFileError(f"{path}: its weights do not fit its settings")


def check_marker(path: Path, content: Any) -> None:
    """Raise `ModelFileError` unless the content is that of a model file of a known version."""
    if not isinstance(content, dict) or content.get("format") != MODEL_FORMAT_MARKER:
        raise ModelFileError(f"{path}: not a distill model")
    version = content.get("version")
    if not isinstance(version, int) or version < 1:
        raise ModelFileError(f"{path}: its version {short(version)} is not valid")
    if version > SAVED_MODEL_VERSION_V2:
        raise ModelFileError(
            f"{path}: made by a newer distill (file version {short(version)})", "update distill to open it"
        )


def family_of(path: Path, content: dict[str, Any]) -> Family:
    """The family of a model file; raises `ModelFileError` if it is unknown."""
    family = find_family(content.get("model_type"))
    if family is None or family.part_of:
        raise ModelFileError(f"{path}: its family {short(content.get('model_type'))} is not known")
    return family


def check_file(path: Path, content: dict[str, Any], family: Family, device: torch.device | str = "cpu") -> CheckedFile:
    """Check every part of a file of `family`, and build the model it describes; raises `ModelFileError`."""
    layout = family.file
    # Before the keys are compared, so that the message for a file of another family says which function opens it.
    _check_family(content, family)
    _check_keys(path, content, _SHARED_KEYS | {layout.settings_key, layout.record_key})
    try:
        settings, parts = split_settings(family, content[layout.settings_key])
        spectrogram_config = SpectrogramConfig(**content["spectrogram_config"])
        metadata = ModelMetadata(**content["metadata"])
    except (ConfigError, TypeError) as error:
        raise ModelFileError(f"{path}: its settings are damaged: {error}") from error
    if settings["n_mels"] != spectrogram_config.rows:
        raise ModelFileError(f"{path}: its settings are damaged: the model and its spectrogram differ in n_mels")
    _check_record(path, content, family, settings)
    model = build_model(path, family, settings, parts, content["model_state_dict"])
    spectrogram = AudioSpectrogram(spectrogram_config).to(device)
    model.training_record = TrainingRecord(
        content["training_config"], content[layout.record_key], content["loss_curve_history"]
    )
    return CheckedFile(content, family, model.to(device).eval(), spectrogram, metadata, torch.device(device))


def split_settings(family: Family, settings: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Check the settings of a model, and those of the parts it has, by name; raises `ConfigError`, `TypeError`."""
    given = {**family.file.before, **settings}  # anything but a mapping is a TypeError here
    parts = {name: part.settings(**given.pop(name)) for name, part in family.file.parts.items() if name in given}
    return dataclasses.asdict(family.file.settings(**given)), parts


def build_model(path: Path, family: Family, settings: dict[str, Any], parts: dict[str, Any], weights: Any) -> Any:
    """Build a model from checked settings, and from weights that are checked here; raises `ModelFileError`."""
    # First the shapes that grow with the settings, so that no settings can make a model larger than its file. (Building
    # it on the meta device would cost no memory either, but a second for the imports that torch needs there.)
    _check_large(path, weights, _large_shapes(family, settings, parts))
    make_model: Any = family.model_type
    with torch.random.fork_rng(devices=[]):  # loading a model must not advance the caller's random numbers
        model = make_model(**settings)
        for name, of_part in parts.items():
            add_part(family, model, name, of_part)
    if not same_form(weights, model.state_dict()):
        raise ModelFileError(f"{path}: its weights do not fit its settings")
    model.load_state_dict(weights, assign=True)
    return model


def _check_family(content: dict[str, Any], family: Family) -> None:
    if content.get("version") != family.file.version or content.get("model_type") != family.name:
        raise ModelFileError(family.file.foreign)


def _large_shapes(family: Family, settings: dict[str, Any], parts: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shapes of the weights that grow with the settings of the model and its parts, by name."""
    make_model: Any = family.model_type
    large: dict[str, tuple[int, ...]] = make_model.large_shapes(settings)
    for name, of_part in parts.items():
        shapes = family.file.parts[name].large_shapes(of_part)
        large |= {f"{name}.{weight}": shape for weight, shape in shapes.items()}
    return large


def _check_large(path: Path, weights: Any, large: dict[str, tuple[int, ...]]) -> None:
    if not isinstance(weights, dict) or any(getattr(weights.get(name), "shape", None) != large[name] for name in large):
        raise ModelFileError(f"{path}: its weights do not fit its settings")


def add_part(family: Family, model: Any, name: str, settings: Any) -> torch.nn.Module:
    """Build a part from its settings and add it to the model; returns the part."""
    part = family.file.parts[name].build(model, settings)
    model.add_module(name, part)
    model.settings[name] = dataclasses.asdict(settings)
    return part


def _check_keys(path: Path, content: dict[str, Any], keys: set[str]) -> None:
    if content.keys() != keys:
        # Cut to size: a hostile file may have many keys, and long ones.
        wrong = ", ".join(sorted(str(key)[:80] for key in content.keys() ^ keys)[:20])
        raise ModelFileError(f"{path}: missing or unknown parts: {wrong}")


def _check_record(path: Path, content: dict[str, Any], family: Family, settings: dict[str, Any]) -> None:
    """Check the record of the run: the curves, the configuration, and the family's own record."""
    key = family.file.record_key
    for name, form in ((key, TypeAdapter(family.file.record_type)), ("loss_curve_history", _CURVES)):
        try:
            form.validate_python(content[name])
        except ValidationError as error:
            raise ModelFileError(f"{path}: its {name.replace('_', ' ')} is damaged") from error
    if not isinstance(content["training_config"], dict):
        raise ModelFileError(f"{path}: its training config is damaged")
    if not family.file.record_fits(settings, content[key]):
        raise ModelFileError(f"{path}: its {key.replace('_', ' ')} does not fit its settings")
