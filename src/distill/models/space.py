"""The codes of sounds that a model knows or makes: those of its collection, new ones, ones between and like others."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from distill.errors import ConfigError
from distill.models.codes import Codes
from distill.models.new_sounds import NewSounds, draw_between, draw_codes, prior_of
from distill.models.quantizer import NO_CODE

if TYPE_CHECKING:
    from distill.models.loaded_vqvae import LoadedVQModel


def collection_count(loaded: "LoadedVQModel") -> int:
    """The number of sounds of its collection that a model keeps the codes of; 0 without a prior."""
    return 0 if loaded.lacks else prior_of(loaded).anchor_count


def of_collection(loaded: "LoadedVQModel", number: int) -> Codes:
    """One of the sounds of the collection that the model keeps; raises `ConfigError` without a prior, or of another."""
    prior = prior_of(loaded)
    if not 0 <= number < prior.anchor_count:
        raise ConfigError(f"there is no sound {number + 1}", f"the model keeps {prior.anchor_count} of its collection")
    return _with_silence(loaded, prior.anchor(number))


def drawn(loaded: "LoadedVQModel", seed: int, like: Sequence[Codes] | None = None) -> Codes:
    """A new sound, `like` others if they are given.

    Raises `ConfigError` without a prior or if those others are silent, `CodesError` for codes of another model.
    """
    parts = None if like is None else [_sounding_part(loaded.columns_of(codes)) for codes in like]
    if parts is not None and not any(map(len, parts)):
        raise ConfigError("all of these sounds are silent", "choose others")
    (codes,) = draw_codes(loaded, prior_of(loaded), NewSounds([seed]), parts and [part for part in parts if len(part)])
    return _with_silence(loaded, _sounding_part(codes))


def between(loaded: "LoadedVQModel", first: Codes, second: Codes, share: float) -> Codes:
    """A sound at `share` (0 to 1) of the way from one to another; raises as `drawn` does."""
    if share in (0, 1):
        return second if share else first
    start, end = (loaded.columns_of(codes) for codes in (first, second))
    return loaded.codes_of_columns(draw_between(loaded, start, end, share, seed=0))


def _sounding_part(codes: Tensor) -> Tensor:
    """The columns of `[W, H, Q]` from the first that sounds to the last."""
    columns = (codes != NO_CODE).flatten(1).any(dim=1).nonzero()
    return codes[int(columns.min()) : int(columns.max()) + 1] if len(columns) else codes[:0]


def _with_silence(loaded: "LoadedVQModel", columns: Tensor) -> Codes:
    """Codes `[W, H, Q]` after a silent column and before one, as those of a sound between silence."""
    return loaded.codes_of_columns(torch.nn.functional.pad(columns, (0, 0, 0, 0, 1, 1), value=NO_CODE))
