"""A map of sounds by what a model of codes sees of them: near to each other is what has similar codes.

Each sound becomes one vector: the mean of the vectors that its codes stand for, their deviation, and the mean step from
one column to the next. Of those the map shows the two principal components, in which the collection's sounds differ
most. An axis has no meaning of its own; what it is said to mean is the audible property that it goes along with.
"""

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


@dataclass(frozen=True)
class Axis:
    """How much of the differences between sounds an axis shows, and what it goes along with, if with anything."""

    share: float
    meaning: str | None  # a name in `PROPERTIES`, or "length"
    correlation: float  # with it, from -1 to 1


@dataclass(frozen=True)
class SoundMap:
    """The places float `[N, 2]` of sounds, and what is known of the two axes."""

    places: npt.NDArray[np.float32]
    axes: tuple[Axis, Axis]


@torch.no_grad()
def map_of(loaded: "LoadedVQModel", sounds: Sequence[Codes], reference: int) -> SoundMap:
    """The map of sounds, of which the first `reference` decide what the axes are, so that others do not move them."""
    columns = [loaded.columns_of(sound) for sound in sounds]
    seen = torch.stack([_view(one, loaded.model.quantizer.codebooks) for one in columns])
    known = seen[: reference if reference > 2 else len(seen)]
    centred = known - known.mean(dim=0)
    _, spread, directions = torch.linalg.svd(centred, full_matrices=False)
    spread = torch.nn.functional.pad(spread, (0, max(0, 2 - len(spread))))
    directions = torch.nn.functional.pad(directions, (0, 0, 0, max(0, 2 - len(directions))))
    places = (seen - known.mean(dim=0)) @ directions[:2].T
    shares = spread.square() / spread.square().sum().clamp(min=1e-12)
    heard = _properties(loaded, columns)
    axes = [_axis(float(shares[axis]), places[:, axis], heard) for axis in (0, 1)]
    return SoundMap(places.cpu().numpy(), (axes[0], axes[1]))


def _view(codes: Tensor, codebooks: Tensor) -> Tensor:
    """What a model sees of a sound `[W, H, Q]`, float `[3 · H · D]`; zeros for silence."""
    vectors = embed(codes, codebooks)[(codes != NO_CODE).flatten(1).any(dim=1)]
    if len(vectors) == 0:
        return vectors.new_zeros(3, *vectors.shape[1:]).flatten()
    steps = vectors.diff(dim=0).abs().sum(dim=0) / max(1, len(vectors) - 1)
    return torch.cat([vectors.mean(dim=0), vectors.std(dim=0, correction=0), steps]).flatten()


def _properties(loaded: "LoadedVQModel", sounds: Sequence[Tensor]) -> dict[str, Tensor]:
    """The audible properties of sounds `[W, H, Q]` by name, float `[N]` each."""
    heard: dict[str, list[Tensor]] = {name: [] for name in (*PROPERTIES, "length")}
    for codes in sounds:
        mel = loaded.spectrogram.decibels(loaded.model.decode_columns(codes.unsqueeze(0)))[:, 0]
        for name, measure in PROPERTIES.items():
            heard[name].append(measure(mel)[0])
        heard["length"].append((codes != NO_CODE).flatten(1).any(dim=1).sum().log1p())
    return {name: torch.stack(values) for name, values in heard.items()}


def _axis(share: float, places: Tensor, heard: dict[str, Tensor]) -> Axis:
    correlations = {name: float(torch.corrcoef(torch.stack([places, values]))[0, 1]) for name, values in heard.items()}
    name = max(correlations, key=lambda one: abs(np.nan_to_num(correlations[one])))
    strongest = float(np.nan_to_num(correlations[name]))
    return Axis(share, name if abs(strongest) >= _GOES_ALONG else None, strongest)
