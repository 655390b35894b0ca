"""The registry of model families: one row says all that tells one family from another.

Whoever has to know what a family is asks its row; nothing else in distill compares a family's name. The built-in rows
stand in `distill.training.families`; another family is one more `register(Family(…))`. Imports no torch: what needs it
is named by a row as "module:attribute", and imported when it is asked for.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from distill.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

    from distill.models.loaded import LoadedFamily
    from distill.training.config import EngineConfig
    from distill.training.metrics import History
    from distill.training.objective import Objective

_BUILT_IN = "distill.training.families"


def _fits_any(settings: Mapping[str, Any], record: Any) -> bool:
    del settings, record
    return True


def _no_shapes(settings: Any) -> dict[str, tuple[int, ...]]:
    del settings
    return {}


@dataclass(frozen=True)
class Part:
    """A later addition to a model, a prior, say, that not every file of its family has.

    Under its name stand its settings in those of the model, and its weights, as a prefix, in the model's state dict.
    """

    settings: type[Any]  # a pydantic dataclass, which checks what a file says
    build: Callable[["nn.Module", Any], "nn.Module"]  # from the model it belongs to, and its settings
    # Shapes, by name, of its weights that grow with its settings: a file is held to them before anything is built.
    large_shapes: Callable[[Any], dict[str, tuple[int, ...]]] = _no_shapes


@dataclass(frozen=True)
class FileLayout:
    """The keys of a family's model files that other families' do not have (see `distill.models.format`)."""

    version: int
    settings_key: str
    settings: type[Any]  # a pydantic dataclass: the arguments of the model
    record_key: str  # what training leaves beside weights and curves
    record_type: Any  # that pydantic checks it against
    foreign: str  # the complaint about a file of another family, where one of this was expected
    record_fits: Callable[[Mapping[str, Any], Any], bool] = _fits_any  # the model's settings, and the record
    parts: Mapping[str, Part] = field(default_factory=dict)


@dataclass(frozen=True)
class Loss:
    """A loss beside the total that displays show: its field in epoch events, and its curve in a history."""

    field: str
    curve: str
    label: str
    meaning: str


@dataclass(frozen=True)
class FigurePanel:
    """Figures of the last epoch or step that the page shows of a run: event fields and their labels."""

    title: str
    text: str
    figures: Mapping[str, str]


@dataclass(frozen=True)
class Family:
    """One row of the registry."""

    name: str  # in commands, run folders and checkpoints, and as the `model_type` of model files
    title: str
    summary: str
    config: "type[EngineConfig]"
    preset: "Callable[..., EngineConfig]"  # (file count, seconds of sound or None, **overrides)
    history: "type[History[Any, Any]]"
    file: FileLayout
    objective: "str | type[Objective]"
    model: "str | type[nn.Module]"
    loaded: "str | type[LoadedFamily]"
    losses: tuple[Loss, ...] = ()
    panel: FigurePanel | None = None
    has_codes: bool = False
    generates: bool = False

    @property
    def objective_type(self) -> "type[Objective]":
        """The class that judges batches in training; made of a configuration."""
        found: type[Objective] = _resolved(self.objective)
        return found

    @property
    def model_type(self) -> "type[nn.Module]":
        """The network; made of the settings that `file.settings` checks."""
        found: type[nn.Module] = _resolved(self.model)
        return found

    @property
    def loaded_type(self) -> "type[LoadedFamily]":
        """The class of loaded models."""
        found: type[LoadedFamily] = _resolved(self.loaded)
        return found


_rows: dict[str, Family] = {}


def register(family: Family) -> Family:
    """Add a row, in place of one of the same name."""
    _rows[family.name] = family
    return family


def unregister(name: str) -> None:
    """Take a row out again."""
    _rows.pop(name, None)


def all_families() -> Iterable[Family]:
    """The rows, the default family first."""
    importlib.import_module(_BUILT_IN)
    return tuple(_rows.values())


def find_family(name: object) -> Family | None:
    """The row of a family, or None when there is none of that name."""
    return next((family for family in all_families() if family.name == name), None)


def get_family(name: str) -> Family:
    """The row of a family; raises `ConfigError` when there is none of that name."""
    family = find_family(name)
    if family is None:
        known = ", ".join(family.name for family in all_families())
        raise ConfigError(f"there is no family {str(name)[:80]!r}", f"there are {known}")
    return family


def _resolved(reference: Any) -> Any:
    return pkgutil.resolve_name(reference) if isinstance(reference, str) else reference
