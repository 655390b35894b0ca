"""A map of sounds by what a model of codes sees of them: near to each other is what has similar codes.

Each sound becomes one vector: the mean of the vectors that its codes stand for, their deviation, and the mean step from
one column to the next. Of those the map shows the two principal components, in which the collection's sounds differ
most. An axis has no meaning of its own; what it is said to mean is the audible property that it goes along with.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from distill.models.analysis import PROPERTIES
from distill.models.codes import Codes
from distill.models.prior import embed
from distill.models.quantizer import NO_CODE

if TYPE_CHECKING:
    from distill.models.loaded_vqvae import LoadedVQModel

_GOES_ALONG = 0.6  # a correlation from which on an axis is said to follow a property


@dataclass(frozen=True, eq=False)
class View:
    """A sound as a model sees it, float `[F]`, and its audible properties by name, which only name the axes."""

    vector: Tensor
    heard: dict[str, float]


@dataclass(frozen=True)
class Axis:
    """How much of the differences between sounds an axis shows, and what it goes along with, if with anything."""

    share: float
    meaning: str | None  # a name in `PROPERTIES`, or "length"
    correlation: float  # with the property that it goes along with most, from -1 to 1


@dataclass(frozen=True)
class SoundMap:
    """The places float `[N, 2]` of sounds, and what is known of the two axes."""

    places: npt.NDArray[np.float32]
    axes: tuple[Axis, Axis]


@torch.no_grad()
def view_of(loaded: "LoadedVQModel", sound: Codes) -> View:
    """What a model sees of a sound; raises `CodesError` for codes of another model."""
    codes = loaded.columns_of(sound)
    sounding = (codes != NO_CODE).flatten(1).any(dim=1)
    vectors = embed(codes[sounding], loaded.model.quantizer.codebooks)
    mel = loaded.spectrogram.decibels(loaded.model.decode_columns(codes.unsqueeze(0)))[:, 0]
    heard = {name: float(measure(mel)[0]) for name, measure in PROPERTIES.items()}
    return View(_summary(vectors), heard | {"length": math.log1p(len(vectors))})


def map_of(views: Sequence[View], reference: int) -> SoundMap:
    """The map of one sound or more, whose first `reference` decide what the axes are, so that others move nothing."""
    seen = torch.stack([view.vector for view in views])
    known = seen[: reference if reference > 2 else len(seen)]
    _, spread, directions = torch.linalg.svd(known - known.mean(dim=0), full_matrices=False)
    found = min(2, len(spread))  # of a single sound there is one direction, in which nothing differs
    places = seen.new_zeros(len(seen), 2)
    places[:, :found] = (seen - known.mean(dim=0)) @ directions[:found].T
    shares = [float(part) for part in spread.square() / spread.square().sum().clamp(min=1e-12)] + [0.0]
    heard = {name: torch.tensor([view.heard[name] for view in views]) for name in views[0].heard}
    axes = [_axis(shares[axis], places[: len(known), axis].cpu(), heard) for axis in (0, 1)]
    return SoundMap(places.cpu().numpy(), (axes[0], axes[1]))


def _summary(vectors: Tensor) -> Tensor:
    """The mean, the deviation and the mean step of the columns `[W, H, D]` of a sound, float `[3 · H · D]`."""
    if len(vectors) == 0:
        return vectors.new_zeros(3, *vectors.shape[1:]).flatten()
    steps = vectors.diff(dim=0).abs().sum(dim=0) / max(1, len(vectors) - 1)
    return torch.stack([vectors.mean(dim=0), vectors.std(dim=0, correction=0), steps]).flatten()


def _axis(share: float, places: Tensor, heard: dict[str, Tensor]) -> Axis:
    correlations = {name: _correlation(places, values[: len(places)]) for name, values in heard.items()}
    name = max(correlations, key=lambda one: abs(correlations[one]))
    return Axis(share, name if abs(correlations[name]) >= _GOES_ALONG else None, correlations[name])


def _correlation(one: Tensor, other: Tensor) -> float:
    """From -1 to 1; 0 where one of them is always the same."""
    one, other = one - one.mean(), other - other.mean()
    return float((one * other).sum() / (one.norm() * other.norm()).clamp(min=1e-9))
