"""The registry of model families: one entry has everything in which a family differs from others.

Code that depends on the family asks its entry; nothing in distill compares names of families. The built-in entries are
in `distill.training.families`; another family is one more `register(Family(…))`. Imports no torch: an entry refers to
classes that need it as "module:attribute", and they are imported on first use.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from distill.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

    from distill.audio.settings import SpectrogramConfig
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
    """An optional part of a model, such as a prior, that not every file of its family has.

    The settings of the model hold those of the part under its name; its weights have the name as a prefix.
    """

    settings: type[Any]  # a pydantic dataclass, which checks the values in a file
    build: Callable[["nn.Module", Any], "nn.Module"]  # from the model it belongs to, and its settings
    # Shapes, by name, of the weights that grow with its settings. A file must have them before anything is built, so
    # that no settings make a part larger than its file.
    large_shapes: Callable[[Any], dict[str, tuple[int, ...]]] = _no_shapes


@dataclass(frozen=True)
class FileLayout:
    """The keys of model files that are particular to a family (see `distill.models.format`)."""

    version: int
    settings_key: str
    settings: type[Any]  # a pydantic dataclass: the arguments of the model
    record_key: str  # for a result of training beside weights and curves
    record_type: Any  # that pydantic checks it against
    foreign: str  # the message for a file of another family
    record_fits: Callable[[Mapping[str, Any], Any], bool] = _fits_any  # called with the model's settings and the record
    parts: Mapping[str, Part] = field(default_factory=dict)
    before: Mapping[str, Any] = field(default_factory=dict)  # values of settings that older files and runs do not have


@dataclass(frozen=True)
class Loss:
    """A loss term that displays show beside the total: its field in epoch events, and its curve in a history."""

    field: str
    curve: str
    label: str
    meaning: str


@dataclass(frozen=True)
class FigurePanel:
    """A panel of the web page with figures of the last epoch or step: event fields and their labels."""

    title: str
    text: str
    figures: Mapping[str, str]


@dataclass(frozen=True)
class Family:
    """One entry of the registry."""

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
    spectrogram: "SpectrogramConfig | None" = None  # of new runs; None for the default
    losses: tuple[Loss, ...] = ()
    panel: FigurePanel | None = None
    has_codes: bool = False
    generates: bool = False
    part_of: str | None = None  # the family whose models this trains a part of; it has no model files of its own

    @property
    def objective_type(self) -> "type[Objective]":
        """The class of the training objective; its instances are made from a configuration."""
        found: type[Objective] = _resolved(self.objective)
        return found

    @property
    def model_type(self) -> "type[nn.Module]":
        """The class of the network; its instances are made from `file.settings`."""
        found: type[nn.Module] = _resolved(self.model)
        return found

    @property
    def loaded_type(self) -> "type[LoadedFamily]":
        """The class of loaded models."""
        found: type[LoadedFamily] = _resolved(self.loaded)
        return found


_registry: dict[str, Family] = {}


def register(family: Family) -> Family:
    """Add an entry, in place of one of the same name."""
    _registry[family.name] = family
    return family


def unregister(name: str) -> None:
    """Remove an entry, if there is one."""
    _registry.pop(name, None)


def all_families() -> Iterable[Family]:
    """The entries of families with models of their own, the default family first."""
    return tuple(family for family in _entries() if family.part_of is None)


def find_family(name: object) -> Family | None:
    """The entry of a family, or None when there is none of that name."""
    return next((family for family in _entries() if family.name == name), None)


def get_family(name: str) -> Family:
    """The entry of a family; raises `ConfigError` when there is none of that name."""
    family = find_family(name)
    if family is None:
        known = ", ".join(family.name for family in all_families())
        raise ConfigError(f"there is no family {str(name)[:80]!r}", f"there are {known}")
    return family


def family_of_event(event: object) -> Family | None:
    """The entry whose steps or epochs an event is one of, or None for an event that all families have."""
    kinds = ((family, (family.history.step_type, family.history.epoch_type)) for family in _entries())
    return next((family for family, of_family in kinds if type(event) in of_family), None)


def _entries() -> Iterable[Family]:
    # Imported here, for the built-in entries import this module.
    importlib.import_module(_BUILT_IN)
    return tuple(_registry.values())


def _resolved(reference: Any) -> Any:
    return pkgutil.resolve_name(reference) if isinstance(reference, str) else reference
