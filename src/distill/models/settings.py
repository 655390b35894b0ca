"""The settings that define a model's architecture; part of every model file. Imports no torch.

The upper bounds are for files from strangers, which may ask for anything.
"""

from typing import Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from distill.schema import VALIDATED, Validated


@dataclass(config=VALIDATED)
class CodeSettings(Validated):
    """The settings of a `ConvVQVAE` that a user can choose."""

    codebook_dim: int = Field(default=16, ge=1, le=1024)
    codebook_size: int = Field(default=256, ge=2, le=65_536)
    num_quantizers: int = Field(default=3, ge=2, le=4)
    decay: float = Field(default=0.95, gt=0, lt=1)
    commitment_weight: float = Field(default=0.25, ge=0, le=100, allow_inf_nan=False)
    threshold_ema_dead_code: float = Field(default=2.0, ge=0, le=1e6, allow_inf_nan=False)
    kmeans_init: bool = True
    kmeans_iters: int = Field(default=10, ge=1, le=1000)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    transform: Literal["lapped", "blocks"] = "lapped"


@dataclass(config=VALIDATED)
class VQVAESettings(CodeSettings):
    """The arguments of `ConvVQVAE`; the bands of its mel are those of the spectrogram."""

    # 16 is `distill.models.blocks.STRIDE`, which cannot be imported without torch.
    n_mels: int = Field(default=128, ge=16, le=512, multiple_of=16)


USUAL_TEMPERATURE = 0.8  # of new sounds from a prior: what is rare is drawn less often than it occurs


@dataclass(config=VALIDATED)
class PriorSettings(Validated):
    """The settings of a `CodePrior`, beside those that follow from the model whose codes it knows."""

    width: int = Field(default=160, ge=8, le=1024)  # of the memory of what has sounded
    hidden: int = Field(default=128, ge=8, le=1024)  # of the networks that code a column in depth
    layers: int = Field(default=2, ge=1, le=8)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    anchor_columns: int = Field(
        default=2048, ge=4, le=65_536
    )  # of sounds of the collection, near which others are drawn


@dataclass(config=VALIDATED)
class LatentSettings(Validated):
    """The settings of a `ConvVAE` that a user can choose."""

    latent_dim: int = Field(default=64, ge=1, le=1024)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    transform: Literal["lapped", "convolutions"] = "lapped"


@dataclass(config=VALIDATED)
class VAESettings(LatentSettings):
    """The arguments of `ConvVAE`; the shape of its mel follows from the length of a chunk."""

    n_mels: int = Field(default=128, ge=16, le=512, multiple_of=16)
    frames: int = Field(default=96, ge=16, le=8192, multiple_of=16)
