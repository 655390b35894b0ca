"""What a trained model makes, and how soon: sounds from its prior, and from its codes without one."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import distill
from bench.quality.split import at_48_khz
from distill.audio.recording import Samples
from distill.models.loaded import LoadedFamily
from distill.models.loaded_vqvae import LoadedVQModel
from distill.models.new_sounds import codes_of, finished, prior_of, render
from distill.models.prior import embed
from distill.models.quantizer import NO_CODE
from distill.models.targets import crossed

_NEAREST = 5  # columns of other sounds, of which retrieval takes one
_TIMED = 16  # sounds of a second


def retrieved(loaded: LoadedVQModel, sounds: list[Samples], count: int) -> Iterator[Tensor]:
    """Sounds `[S]` at 48 kHz of real columns: after each comes what follows one that is like it.

    Each begins as another of the `sounds`, `[S]` at the model's rate, and lasts as long.
    """
    codes = [_sounding(codes_of(loaded, sound)) for sound in sounds]
    codes = [one for one in codes if len(one) > 1]
    columns, follows = torch.cat(codes), torch.cat([torch.arange(len(one)) < len(one) - 1 for one in codes])
    vectors = embed(columns, loaded.model.quantizer.codebooks).flatten(1)
    draw = np.random.default_rng(0)
    for number in range(count):
        first = codes[number % len(codes)]
        at, chosen = sum(len(one) for one in codes[: number % len(codes)]), []
        for _ in range(len(first)):
            chosen.append(columns[at])
            distance = (vectors - vectors[at]).square().sum(dim=1).masked_fill(~follows, torch.inf)
            nearest = distance.topk(min(_NEAREST, len(distance)), largest=False).indices
            at = int(nearest[draw.integers(len(nearest))]) + 1
        yield _heard(loaded, render(loaded, _ending(torch.stack(chosen))))


def crossings(loaded: LoadedVQModel, count: int) -> Iterator[Tensor]:
    """Sounds `[S]` at 48 kHz between two of those that the prior keeps, as its targets are; none if it keeps none."""
    codebooks, prior = loaded.model.quantizer.codebooks, prior_of(loaded)
    for seed in range(count if prior.anchor_count else 0):
        vectors = crossed(prior, prior.all_anchors, codebooks, seed)
        with torch.no_grad():
            mel = loaded.model.decode(torch.nn.functional.pad(vectors, (0, 0, 0, 0, 1, 1)).permute(2, 1, 0)[None])
            yield _heard(loaded, loaded.spectrogram.mel_to_waveform(mel)[0, 0].numpy())


@torch.no_grad()
def bits(loaded: LoadedVQModel, sounds: list[Samples]) -> dict[str, float]:
    """The mean information in a code of sounds `[S]` at the model's rate, with the prior and with frequencies alone."""
    prior, codebooks = prior_of(loaded), loaded.model.quantizer.codebooks
    prior.eval()
    totals = np.zeros(3)
    for sound in sounds:
        codes = _ending(_sounding(codes_of(loaded, sound)))[None]
        count = int((codes[..., 0, 0] != NO_CODE).sum())
        if count:
            found = prior.bits(codes, codebooks, prior.conditions_of(codes, codebooks)).levels.mean()
            totals += count * np.array([float(found), float(prior.unigram_bits(codes)), 1.0])
    code, unigram = (totals[:2] / max(1.0, totals[2])).tolist()
    return {"code": code, "unigram": unigram, "below": unigram - code}


def times(model: Path | str) -> dict[str, float]:
    """How soon a loaded model has made its first sound of a second, in seconds, and how many times real time it takes.

    The first is the very first: nothing has been made in this process before, if nobody has asked for it.
    """
    loaded: LoadedFamily = distill.load(model)
    begin = time.perf_counter()
    next(iter(loaded.generate(1, seconds=1.0)))
    first = time.perf_counter() - begin
    begin = time.perf_counter()
    sounds = list(loaded.generate(_TIMED, seconds=1.0))
    took = time.perf_counter() - begin
    return {"first": first, "sixteen": took, "real_time": sum(map(len, sounds)) / loaded.sample_rate / took}


def _heard(loaded: LoadedFamily, sound: Samples) -> Tensor:
    assert isinstance(loaded, LoadedVQModel)
    return at_48_khz(torch.from_numpy(finished(loaded, sound, None)), loaded.sample_rate)


def _sounding(codes: Tensor) -> Tensor:
    """`[W, H, Q]` from the first column that sounds to the last."""
    sounds = (codes[:, 0, 0] != NO_CODE).nonzero().flatten()
    return codes[int(sounds[0]) : int(sounds[-1]) + 1] if len(sounds) else codes[:0]


def _ending(codes: Tensor) -> Tensor:
    """`[W, H, Q]` with a silent column before and after."""
    return torch.nn.functional.pad(codes, (0, 0, 0, 0, 1, 1), value=NO_CODE)
