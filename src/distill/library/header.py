"""The header of a `.distill` file: all but its weights, read without torch and without running anything from it."""

import dataclasses
from dataclasses import field
from pathlib import Path
from typing import (
    Annotated,
    Any,
    NotRequired,  # pydantic needs it below Python 3.12
)

from pydantic import AfterValidator, ConfigDict, Field, FiniteFloat, with_config
from pydantic.dataclasses import dataclass
from typing_extensions import TypedDict

from distill.errors import ConfigError, ModelFileError
from distill.families import find_family
from distill.library.container import check_numbers, malformed_as, read_structure
from distill.library.members import MAX_BYTES, Malformed
from distill.notices import ModelYoung, Notice
from distill.plain_files import open_plain
from distill.schema import VALIDATED, Validated

MODEL_FORMAT_MARKER = "distill_model"
FEW_EPOCHS = 10  # a model that has fewer, and did best in the last, is young
MODEL_FILE_EXTENSION = ".distill"
SAVED_MODEL_VERSION_V2 = 2  # the highest that is known

_EXACT = ConfigDict(extra="forbid")


@dataclass(config=VALIDATED)
class ModelMetadata(Validated):
    """The origin of a model; `model_id` and `save_date` (ISO 8601, UTC) are filled in when it is saved."""

    name: str = Field(default="model", min_length=1, max_length=200)
    model_id: str = Field(default="", max_length=64)
    save_date: str = Field(default="", max_length=64)
    dataset_name: str = Field(default="", max_length=1000)
    file_count: int = Field(default=0, ge=0)
    duration_s: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    epochs: int = Field(default=0, ge=0)  # completed
    best_epoch: int = Field(default=0, ge=0)  # the one whose weights these are, counted from 0
    train_loss: float | None = None
    val_loss: float | None = None
    validation_vectors: int = Field(default=0, ge=0)  # number of vectors that codebook health was counted over
    seed: int = 0
    distill_version: str = Field(default="", max_length=64)
    # What its maker says of it, for those it is given to.
    author: str = Field(default="", max_length=200)
    licence: str = Field(default="", max_length=100)  # of its sounds: an SPDX identifier, or in words
    tags: list[Annotated[str, Field(min_length=1, max_length=50)]] = Field(default_factory=list, max_length=20)

    @property
    def kept_epoch(self) -> int | None:
        """The epoch whose weights these are, counted from 1 as people do; None before the first is complete."""
        return self.best_epoch + 1 if self.epochs else None


def _whole(health: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    if any(level.keys() != {"utilization", "perplexity", "dead_codes"} for level in health.values()):
        raise ValueError("a level's health is its utilization, perplexity and dead codes")
    return health


WholeHealth = Annotated[dict[str, dict[str, float]], AfterValidator(_whole)]  # of all levels


@with_config(_EXACT)
class Direction(TypedDict):
    """One principal component of a VAE's latents: `direction` float `[L]` of length 1, `std` along it."""

    direction: list[FiniteFloat]
    std: FiniteFloat


@with_config(_EXACT)
class NamedDirection(Direction):
    """A leading component, named after what it does to the sound; see `distill.models.analysis`."""

    name: str
    effects: dict[str, FiniteFloat]
    safe_range: Annotated[list[FiniteFloat], Field(min_length=2, max_length=2)]


@with_config(_EXACT)
class LatentAnalysis(TypedDict):
    """The result of `distill.models.analysis`, as model files hold it."""

    mean: list[FiniteFloat]
    components: list[NamedDirection | Direction]
    examples: NotRequired[list[list[FiniteFloat]]]  # missing from files of distill 0.1.0


@dataclass(config=VALIDATED)
class Header(Validated):
    """The parts of a model file that describe the model."""

    model_type: Annotated[str, Field(max_length=64)]
    metadata: ModelMetadata
    version: Annotated[int, Field(ge=1)] = 1  # of the file's format
    settings: dict[str, Any] = field(default_factory=dict)
    sample_rate: int | None = None  # Hz
    health: WholeHealth | None = None
    analysis: LatentAnalysis | None = None
    curves: dict[str, list[float | None]] | None = None  # losses, one value per epoch

    @property
    def lacks(self) -> list[str]:
        """The parts that models of this family can have and this one lacks."""
        family = find_family(self.model_type)
        return [name for name in family.file.parts if name not in self.settings] if family else []

    @property
    def generates(self) -> bool:
        """True if the model makes new sounds: its family does, and it has the parts that this needs."""
        family = find_family(self.model_type)
        return family is not None and family.generates and not self.lacks

    @property
    def remarks(self) -> list[Notice]:
        """What is to be known of the model before it is used."""
        young = self.metadata.kept_epoch == self.metadata.epochs < FEW_EPOCHS
        return [ModelYoung(self.metadata.epochs)] if young else []

    def facts(self) -> dict[str, Any]:
        """The metadata as people read it: the kept epoch counted from 1, and nothing that is empty."""
        facts = dataclasses.asdict(self.metadata)
        facts |= {"kept_epoch": self.metadata.kept_epoch, "tags": ", ".join(self.metadata.tags)}
        told = ("validation_vectors", "author", "licence", "tags")
        hidden = {"best_epoch", *(name for name in told if not facts[name])}
        return {name: value for name, value in facts.items() if name not in hidden and value is not None}

    def safe_ranges(self) -> dict[str, list[float]]:
        """The safe range of each named direction of a VAE, in standard deviations."""
        components: list[Any] = [*self.analysis["components"]] if self.analysis else []
        return {component["name"]: component["safe_range"] for component in components if "name" in component}


def read_header(path: Path) -> Header:
    """Read the header of the model file at `path`; raises `ModelFileError`."""
    with malformed_as(ModelFileError, path, "model file"), open_plain(path, MAX_BYTES) as file:
        content = read_structure(file)
    if not isinstance(content, dict) or content.get("format") != MODEL_FORMAT_MARKER:
        raise ModelFileError(f"{path}: not a distill model")
    family = find_family(content.get("model_type"))  # None: models of families that are not known are listed, too
    try:
        return Header(
            model_type=content["model_type"],
            metadata=ModelMetadata(**content["metadata"]),
            version=content["version"],
            settings=(content.get(family.file.settings_key) if family else None) or {},
            sample_rate=_sample_rate(content.get("spectrogram_config")),
            health=content.get("codebook_health_snapshot"),
            analysis=content.get("latent_analysis"),
            curves=content.get("loss_curve_history"),
        )
    except (KeyError, TypeError, ConfigError) as error:
        raise ModelFileError(f"{path}: its metadata is damaged ({error})") from error


def _sample_rate(spectrogram_config: Any) -> Any:
    return spectrogram_config.get("sample_rate") if isinstance(spectrogram_config, dict) else None


def why_not_loaded(path: Path, header: Header) -> str:
    """The reason why the model at `path`, which has this header, cannot be loaded; empty if none is known."""
    if header.version > SAVED_MODEL_VERSION_V2:
        return "made by a newer distill"
    if find_family(header.model_type) is None:
        return "its family is not known"
    try:
        with open_plain(path, MAX_BYTES) as file:
            check_numbers(file)
    except OSError as error:
        return error.strerror or str(error)
    except Malformed as error:
        return str(error)
    return ""
