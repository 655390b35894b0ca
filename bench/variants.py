"""The choices that are measured one by one: each variant is the default with one thing changed."""

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

from distill.audio.spectrogram import real_frames
from distill.data.chunks import ChunkDataset, Key
from distill.models.quantizer import ResidualQuantizer
from distill.models.transform_coding import TransformDecoder
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


def _levels(more: int) -> dict[str, Any]:
    """So many levels more, with the codebook size at which a vector costs as many bits as before."""

    def count(preset: VQVAEConfig) -> int:
        return min(max(preset.num_quantizers + more, 2), 4)

    def size(preset: VQVAEConfig) -> int:
        bits: float = preset.num_quantizers * math.log2(preset.codebook_size)
        return round(2 ** (bits / count(preset)))

    return {"num_quantizers": count, "codebook_size": size}


def _constant(place: str, value: object) -> Callable[[], None]:
    """A patch that puts `value` in the place `module:name` or `module:Class.name`."""

    def patch() -> None:
        module, _, name = place.partition(":")
        *owner, attribute = name.split(".")
        setattr(attrgetter(owner[0])(import_module(module)) if owner else import_module(module), attribute, value)

    return patch


_SAMPLES = _constant("distill.data.chunks:MelDataset.fits", staticmethod(lambda *_: False))


def _chunks(vary: Callable[[Tensor, np.random.Generator], Tensor]) -> Callable[[], None]:
    """A patch that varies every augmented chunk `[1, S]` once more, the same way for the same place in a run."""
    usual = ChunkDataset.waveform

    def varied(self: ChunkDataset, key: Key) -> Tensor:
        chunk = usual(self, key)
        return vary(chunk, np.random.default_rng([self.seed, *key, 1])) if self.augment else chunk

    def patch() -> None:
        _constant("distill.data.chunks:ChunkDataset.waveform", varied)()
        _SAMPLES()  # a mel is too late to be varied so

    return patch


def _noise(chunk: Tensor, rng: np.random.Generator) -> Tensor:
    """White noise, 50 to 80 dB below the peak, where the chunk is not zero."""
    level = float(chunk.abs().max()) * 10 ** (rng.uniform(-80, -50) / 20)
    noise = torch.from_numpy(rng.standard_normal(chunk.shape).astype(np.float32))
    return torch.where(chunk == 0, 0.0, chunk + level * noise)


def _tilt(chunk: Tensor, rng: np.random.Generator) -> Tensor:
    """Up to 6 dB more or less per octave band above about 4 kHz: one zero on either side, the peak kept."""
    before = torch.nn.functional.pad(chunk, (1, 0))[..., :-1]
    tilted = chunk + float(rng.uniform(-0.5, 0.5)) * before
    return tilted * (chunk.abs().max() / tilted.abs().max().clamp(min=1e-9))


def _late(chunk: Tensor, rng: np.random.Generator) -> Tensor:
    """The chunk up to 85 ms later, half a column of the grid."""
    late = int(rng.integers(0, 4096))
    return torch.nn.functional.pad(chunk, (late, 0))[..., : chunk.shape[-1]]


def _squared(recon: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of mels where there is sound."""
    real = real_frames(target).expand_as(target)
    return (recon - target)[real].square().mean()


_QUANTIZER = "distill.models.quantizer:ResidualQuantizer"
_GREEDY = partialmethod(ResidualQuantizer.__init__, beam=1)

DEFAULT = Variant("as it is")

VARIANTS = (
    DEFAULT,
    Variant("as it starts, nothing learnt", {"learning_rate": 1e-9, "decay": 0.999999}),
    Variant("no principal components", patch=_constant("distill.models.vqvae:start_from_components", lambda *_: None)),
    Variant("components without a prior", patch=_constant("distill.models.transform_coding:_PRIOR_COLUMNS", 0)),
    Variant(
        "no correcting network",
        patch=_constant("distill.models.transform_coding:TransformDecoder.forward", TransformDecoder.uncorrected),
    ),
    Variant("nearest code, no search", patch=_constant(f"{_QUANTIZER}.__init__", _GREEDY)),
    Variant("one window in the phase search", patch=_constant("distill.audio.vocoder:_SHORT_WEIGHT", 0.0)),
    Variant("squared error", patch=_constant("distill.models.losses:spectral_loss", _squared)),
    Variant("dropout 0.2", {"dropout": 0.2}),
    Variant("codebook dim 8", {"codebook_dim": 8}),
    Variant("codebook dim 24", {"codebook_dim": 24}),
    Variant("one level less, same rate", _levels(-1)),
    Variant("one level more, same rate", _levels(1)),
    Variant("half the learning rate", {"learning_rate": _times(0.5)}),
    Variant("twice the learning rate", {"learning_rate": _times(2)}),
    Variant("commitment 0.05", {"commitment_weight": 0.05}),
    Variant("commitment 1", {"commitment_weight": 1.0}),
    Variant("validation share 0.3", {"val_fraction": 0.3}),
    Variant("no augmentation", {"augment": False}),
    Variant("no varied speed", patch=_constant("distill.data.chunks:_SPEED_SHARE", 0.0)),
    Variant("mels made batch by batch", patch=_SAMPLES),
    Variant("and noise", patch=_chunks(_noise)),
    Variant("and spectral tilt", patch=_chunks(_tilt)),
    Variant("and a late start", patch=_chunks(_late)),
)
