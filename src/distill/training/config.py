"""Settings of a run for both families, and the presets that follow from how much sound there is."""

import dataclasses
import math
from collections.abc import Collection
from pathlib import PurePath
from typing import Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from distill.models.settings import CodeSettings, LatentSettings, PriorSettings
from distill.schema import VALIDATED, Validated

LEVEL_NAMES = ("Structure", "Timbre", "Detail", "Fine")

MAX_EPOCHS = 100_000  # the loss curves in a model file have a value for each

Device = Literal["auto", "cpu", "cuda", "mps"]


@dataclass(config=VALIDATED)
class EngineConfig(Validated):
    """Settings of the training engine, shared by all families."""

    batch_size: int = Field(default=16, ge=1, le=4096)
    max_epochs: int = Field(default=200, ge=1, le=MAX_EPOCHS)
    learning_rate: float = Field(default=1e-3, gt=0, le=1, allow_inf_nan=False)
    weight_decay: float = Field(default=0.01, ge=0, le=1, allow_inf_nan=False)
    gradient_clip_norm: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    chunk_duration_s: float = Field(default=1.0, ge=0.1, le=60, allow_inf_nan=False)
    val_fraction: float = Field(default=0.2, gt=0, lt=1, allow_inf_nan=False)
    augment: bool = True  # vary the gain and the speed of a chunk, and where it is cut
    augmentation_copies: int = Field(default=1, ge=1, le=1000)  # how often an epoch shows each chunk, varied
    checkpoint_interval: int = Field(default=10, ge=1)  # epochs
    preview_interval: int = Field(default=20, ge=1)  # epochs
    max_checkpoints: int = Field(default=3, ge=1)
    minutes: float | None = Field(default=None, gt=0, le=1e6, allow_inf_nan=False)  # budget; replaces max_epochs
    device: Device = "auto"
    num_workers: int = Field(default=0, ge=0, le=256)
    seed: int = Field(default=0, ge=0, lt=2**32)

    size_setting: ClassVar[str] = ""  # the setting that decides the size of the model

    def headline(self) -> str:
        """The size of the model in a few words."""
        return ""

    def why(self, file_count: int, seconds: float, chosen: Collection[str], frame_rate: float) -> str:
        """The reason for the model's size, in a sentence; the sounds last `seconds`, the user set `chosen`.

        Mels have `frame_rate` frames in a second.
        """
        del seconds, chosen, frame_rate
        return f"The settings are those for {file_count} files."

    def kilobits(self, frame_rate: float) -> float | None:
        """The bit rate of the codes in kbit/s at `frame_rate` frames in a second; None for a model without codes."""
        del frame_rate
        return None


@dataclass(config=VALIDATED)
class VQVAEConfig(EngineConfig, CodeSettings):
    """Settings of an RVQ-VAE run (v1.1): the engine's and the model's, and whether a prior is trained after it."""

    with_prior: bool = False  # the preset has one; it needs a model file, so a library

    def model_settings(self) -> dict[str, Any]:
        """The fields that `ConvVQVAE` takes, by its argument names."""
        return _part(self, CodeSettings)

    size_setting: ClassVar[str] = "codebook_size"

    def headline(self) -> str:
        """The number of levels and of codes per level."""
        return f"{self.num_quantizers} levels of {self.codebook_size} codes"

    def why(self, file_count: int, seconds: float, chosen: Collection[str], frame_rate: float) -> str:
        """The reason for the number of codes, in a sentence."""
        del file_count
        codes = f"{self.headline()}, about {self.kilobits(frame_rate):.4g} kbit/s"
        if {"num_quantizers", "codebook_size"} & set(chosen):
            return f"{codes}: partly chosen by you."
        vectors = seconds * frame_rate * VECTORS_PER_FRAME / self.codebook_size
        lasts = f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.0f} minutes"
        more = "With more sound the codebooks would be larger." if self.codebook_size < _LARGE else "That is enough."
        return f"{codes}: {lasts} of sound give each code about {vectors:.0f} examples to learn from. {more}"

    def kilobits(self, frame_rate: float) -> float:
        """The bit rate of the codes in kbit/s at `frame_rate` frames in a second."""
        return self.num_quantizers * math.log2(self.codebook_size) * frame_rate * VECTORS_PER_FRAME / 1000


@dataclass(config=VALIDATED)
class PriorConfig(EngineConfig, PriorSettings):
    """Settings of a run that trains the prior of a saved model: the engine's and the prior's."""

    model_file: str = ""

    def model_settings(self) -> PriorSettings:
        """The settings of the `CodePrior`."""
        return PriorSettings(**_part(self, PriorSettings))

    def headline(self) -> str:
        """The model that the prior is for."""
        return f"prior of {PurePath(self.model_file).name}"


@dataclass(config=VALIDATED)
class TrainingConfig(EngineConfig, LatentSettings):
    """Settings of a continuous VAE run (v1): the engine's, the model's and the KL term's."""

    kl_weight_max: float = Field(default=2e-5, ge=0, le=100, allow_inf_nan=False)  # for mels with power
    kl_warmup_fraction: float = Field(default=0.3, ge=0, le=1)
    free_bits: float = Field(default=0.1, ge=0, le=100, allow_inf_nan=False)  # nats per latent dimension

    def model_settings(self) -> dict[str, Any]:
        """The fields that `ConvVAE` takes, by its argument names."""
        return _part(self, LatentSettings)

    size_setting: ClassVar[str] = "latent_dim"

    def headline(self) -> str:
        """The number of latent dimensions."""
        return f"{self.latent_dim} latent dimensions"

    def why(self, file_count: int, seconds: float, chosen: Collection[str], frame_rate: float) -> str:
        """The number of latent dimensions and the basis of the settings, in a sentence."""
        del seconds, chosen, frame_rate
        return f"{self.latent_dim} numbers describe a sound; the settings are those for {file_count} files."


def _part(config: EngineConfig, of: type[CodeSettings] | type[LatentSettings] | type[PriorSettings]) -> dict[str, Any]:
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(of)}


def validation_fraction(file_count: int) -> float:
    """The share of files held out; it is kept small, for each file has something to teach that no other has."""
    return 0.25 if file_count < 10 else 0.1


# Presets. docs/internals.md says how they were found, docs/quality.md what each choice is worth.

_LARGE = 1024  # codes: with four levels as many as 12 kbit/s allow
_SMALL = 128
VECTORS_PER_FRAME = 3  # of the grid, for mels of the family's spectrogram: 24 vectors in a column, one every 8 frames
VECTORS_PER_SECOND = 48_000 / 512 * VECTORS_PER_FRAME  # at 48 kHz; the presets are for this many
_VECTORS_PER_CODE = 2  # with fewer, a large codebook cannot be filled; varied sounds give many times as many
_LONG_S = 100.0  # of sound, of which one pass is an epoch; of less, several


def get_adaptive_vqvae_config(file_count: int, seconds: float | None = None, **overrides: Any) -> VQVAEConfig:
    """The RVQ-VAE preset for `file_count` files that last `seconds` together; `overrides` replace fields of it.

    Codebooks are large, 11.25 kbit/s, unless there are only a few seconds to fill them. Where the duration is not
    known, a file counts as a second.
    """
    length = file_count if seconds is None else seconds
    # No dropout: augmentation, above all in speed, does its job.
    preset: dict[str, Any] = {"val_fraction": validation_fraction(file_count), "dropout": 0.0}
    preset |= {"codebook_dim": 18, "num_quantizers": 4, "with_prior": True}
    preset |= {"codebook_size": _LARGE if length * VECTORS_PER_SECOND >= _LARGE * _VECTORS_PER_CODE else _SMALL}
    if length > _LONG_S:
        preset |= {"decay": 0.98, "max_epochs": 300, "learning_rate": 2e-3}
    else:
        # Slow decay: a code for a rare sound has to survive the steps in which that sound is not seen.
        preset |= {"decay": 0.99, "max_epochs": 100, "learning_rate": 1e-3, "augmentation_copies": 8}
    return VQVAEConfig(**(preset | overrides))


_PRIOR_CHUNK_S = (1.5, 8.0)  # of a sound that a prior is shown at once, at least and at most
_PRIOR_BATCH_S = 48.0  # of sound in a step
_PRIOR_EPOCHS = 40
_PRIOR_STEPS = 20  # of an epoch, about


def get_adaptive_prior_config(file_count: int, seconds: float | None = None, **overrides: Any) -> PriorConfig:
    """The preset of a prior for `file_count` files that last `seconds` together; `overrides` replace fields of it."""
    shortest, longest = _PRIOR_CHUNK_S
    # From the onset to the end of most sounds: only of those can others be drawn whole.
    chunk = min(longest, max(shortest, 1.25 * (seconds or 0.0) / max(1, file_count)))
    batch = min(32, max(4, round(_PRIOR_BATCH_S / chunk)))
    chunks = max(file_count, (seconds or 0.0) / chunk, 1)
    copies = max(1, round(_PRIOR_STEPS * batch / chunks))
    preset: dict[str, Any] = {
        "val_fraction": validation_fraction(file_count),
        "chunk_duration_s": chunk,
        "batch_size": batch,
        "max_epochs": _PRIOR_EPOCHS,
        "augmentation_copies": copies,
        "learning_rate": 2e-3,
        "dropout": 0.2,
        "preview_interval": 10,
    }
    return PriorConfig(**(preset | overrides))


def get_adaptive_config(file_count: int, seconds: float | None = None, **overrides: Any) -> TrainingConfig:
    """The VAE preset for `file_count` files: conservative below 50, balanced below 200, else aggressive.

    `seconds`, the duration of all files together, has no influence yet.
    """
    del seconds
    names = (
        "dropout", "weight_decay", "learning_rate", "max_epochs",
        "kl_warmup_fraction", "gradient_clip_norm", "augmentation_copies",
    )  # fmt: skip
    if file_count < 50:
        values = (0.4, 0.05, 5e-4, 100, 0.5, 0.5, 15)
    elif file_count < 200:
        values = (0.2, 0.01, 1e-3, 200, 0.3, 1.0, 10)
    else:
        values = (0.1, 0.001, 2e-3, 500, 0.2, 5.0, 5)
    preset = dict(zip(names, values)) | {"val_fraction": validation_fraction(file_count)}
    return TrainingConfig(**(preset | overrides))
