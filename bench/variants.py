"""The choices that are measured one by one: each variant is the default with one thing changed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from distill.training.config import VQVAEConfig


@dataclass(frozen=True)
class Variant:
    """`settings` replace fields of the preset, with a value or a function of the preset; `patch` changes the code.

    A variant runs in a process of its own, so `patch` may put what it likes in place of what it likes.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    patch: Callable[[], None] | None = None

    def overrides(self, preset: VQVAEConfig) -> dict[str, Any]:
        """The settings, worked out for one preset."""
        return {name: value(preset) if callable(value) else value for name, value in self.settings.items()}


def _times(factor: float) -> Callable[[VQVAEConfig], float]:
    """The preset's learning rate times `factor`."""
    return lambda preset: preset.learning_rate * factor


def _levels(count: int) -> dict[str, Any]:
    """So many levels, with the codebook size at which a vector costs as many bits as before."""
    return {
        "num_quantizers": count,
        "codebook_size": lambda preset: round(preset.codebook_size ** (preset.num_quantizers / count)),
    }


DEFAULT = Variant("as it is")

VARIANTS = (
    DEFAULT,
    Variant("codebook dim 128", {"codebook_dim": 128}),
    Variant("codebook dim 8", {"codebook_dim": 8}),
    Variant("no dropout", {"dropout": 0.0}),
    Variant("no augmentation", {"augment": False}),
    Variant("half the learning rate", {"learning_rate": _times(0.5)}),
    Variant("twice the learning rate", {"learning_rate": _times(2)}),
    Variant("commitment 0.05", {"commitment_weight": 0.05}),
    Variant("commitment 1", {"commitment_weight": 1.0}),
    Variant("2 levels, same rate", _levels(2)),
    Variant("3 levels, same rate", _levels(3)),
    Variant("4 levels, same rate", _levels(4)),
    Variant("a tenth for validation", {"val_fraction": 0.1}),
)
