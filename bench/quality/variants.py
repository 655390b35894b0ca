"""Variants for the ablation: each is the default with one design choice changed."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partialmethod
from importlib import import_module
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distill.data.chunks import ChunkDataset, Key
from distill.models.losses import spectral_loss
from distill.models.quantizer import ResidualQuantizer
from distill.training.config import VQVAEConfig


@dataclass(frozen=True)
class Variant:
    """`settings` replace fields of the preset, with a value or a function of the preset; `patch` changes the code.

    A variant runs in a process of its own, so its patch is never undone.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    patch: Callable[[], None] | None = None

    def overrides(self, preset: VQVAEConfig) -> dict[str, Any]:
        """The settings, evaluated for a preset."""
        return {name: value(preset) if callable(value) else value for name, value in self.settings.items()}


def _scaled_learning_rate(factor: float) -> Callable[[VQVAEConfig], float]:
    """A function from a preset to its learning rate times `factor`."""
    return lambda preset: preset.learning_rate * factor


def _levels(more: int) -> dict[str, Any]:
    """More levels (or fewer), with the codebook size that keeps the bits per vector."""

    def count(preset: VQVAEConfig) -> int:
        return min(max(preset.num_quantizers + more, 2), 4)

    def size(preset: VQVAEConfig) -> int:
        bits: float = preset.num_quantizers * math.log2(preset.codebook_size)
        return round(2 ** (bits / count(preset)))

    return {"num_quantizers": count, "codebook_size": size}


def _set(target: str, value: object) -> Callable[[], None]:
    """A patch that sets `module:name` or `module:Class.name` to `value`."""

    def patch() -> None:
        module, _, name = target.partition(":")
        *owner, attribute = name.split(".")
        setattr(attrgetter(owner[0])(import_module(module)) if owner else import_module(module), attribute, value)

    return patch


_NO_CACHED_MELS = _set("distill.data.chunks:MelDataset.fits", staticmethod(lambda *_: False))


def _augment(vary: Callable[[Tensor, np.random.Generator], Tensor]) -> Callable[[], None]:
    """A patch that applies `vary` to every augmented chunk `[1, S]`, seeded by the chunk's position in the run."""
    usual = ChunkDataset.waveform

    def varied(self: ChunkDataset, key: Key) -> Tensor:
        chunk = usual(self, key)
        return vary(chunk, np.random.default_rng([self.seed, *key, 1])) if self.augment else chunk

    def patch() -> None:
        _set("distill.data.chunks:ChunkDataset.waveform", varied)()
        _NO_CACHED_MELS()  # waveforms can only be varied before their mel is computed

    return patch


def _noise(chunk: Tensor, rng: np.random.Generator) -> Tensor:
    """Add white noise 50 to 80 dB below the peak, where the chunk is not zero."""
    level = float(chunk.abs().max()) * 10 ** (rng.uniform(-80, -50) / 20)
    noise = torch.from_numpy(rng.standard_normal(chunk.shape).astype(np.float32))
    return torch.where(chunk == 0, 0.0, chunk + level * noise)


def _tilt(chunk: Tensor, rng: np.random.Generator) -> Tensor:
    """Tilt the spectrum by up to 6 dB per octave above about 4 kHz with a one-zero filter, keeping the peak."""
    before = torch.nn.functional.pad(chunk, (1, 0))[..., :-1]
    tilted = chunk + float(rng.uniform(-0.5, 0.5)) * before
    return tilted * (chunk.abs().max() / tilted.abs().max().clamp(min=1e-9))


def _delay(chunk: Tensor, rng: np.random.Generator) -> Tensor:
    """Delay the chunk by up to 85 ms, half a column of the grid."""
    samples = int(rng.integers(0, 4096))
    return torch.nn.functional.pad(chunk, (samples, 0))[..., : chunk.shape[-1]]


def _absolute_error(recon: Tensor, target: Tensor, exponent: int = 1) -> Tensor:
    """The loss of absolute values, whatever the exponent asked for."""
    del exponent
    return spectral_loss(recon, target)


_QUANTIZER = "distill.models.quantizer:ResidualQuantizer"
_GREEDY = partialmethod(ResidualQuantizer.__init__, beam=1)

DEFAULT = Variant("as it is")

VARIANTS = (
    DEFAULT,
    Variant("as it starts, nothing learnt", {"learning_rate": 1e-9, "decay": 0.999999}),
    Variant("no principal components", patch=_set("distill.models.vqvae:start_from_components", lambda *_: None)),
    Variant("components without a prior", patch=_set("distill.models.lapped:_PRIOR_COLUMNS", 0)),
    Variant("nearest code, no search", patch=_set(f"{_QUANTIZER}.__init__", _GREEDY)),
    Variant("one window in the phase search", patch=_set("distill.audio.two_windows:_DETAIL_WEIGHT", 0.0)),
    Variant("absolute error", patch=_set("distill.models.losses:spectral_loss", _absolute_error)),
    Variant("codebook dim 12", {"codebook_dim": 12}),
    Variant("codebook dim 24", {"codebook_dim": 24}),
    Variant("one level less, same rate", _levels(-1)),
    Variant("half the learning rate", {"learning_rate": _scaled_learning_rate(0.5)}),
    Variant("twice the learning rate", {"learning_rate": _scaled_learning_rate(2)}),
    Variant("commitment 0.05", {"commitment_weight": 0.05}),
    Variant("commitment 1", {"commitment_weight": 1.0}),
    Variant("validation share 0.3", {"val_fraction": 0.3}),
    Variant("no augmentation", {"augment": False}),
    Variant("no varied speed", patch=_set("distill.data.chunks:_SPEED_SHARE", 0.0)),
    Variant("mels made batch by batch", patch=_NO_CACHED_MELS),
    Variant("and noise", patch=_augment(_noise)),
    Variant("and spectral tilt", patch=_augment(_tilt)),
    Variant("and a late start", patch=_augment(_delay)),
)
