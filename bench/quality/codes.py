"""Bit rate of an RVQ-VAE's codes, and codebook usage of each level."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from distill.models.loaded_vqvae import LoadedVQModel
from distill.models.quantizer import NO_CODE, ResidualQuantizer


@dataclass(frozen=True)
class LevelUsage:
    """Codebook usage of a level over a set of files; efficiency is the entropy of its codes as a share of log2 K."""

    utilization: float
    perplexity: float
    perplexity_share: float  # of K
    efficiency: float


@dataclass(frozen=True)
class BitRates:
    """Kbit/s of sound that fills the whole grid, and of the test files with plain and with entropy-coded indices."""

    fully_coded: float
    nominal: float
    entropy_coded: float


def codes_of(loaded: LoadedVQModel, waveforms: Iterable[Tensor]) -> Tensor:
    """Codes of waveforms `[S]` at the model's rate, without the positions that have none: int64 `[N, Q]`."""
    codes = torch.cat([torch.from_numpy(loaded.encode(one.numpy()).grid.copy()).flatten(1).T for one in waveforms])
    return codes[(codes != NO_CODE).any(dim=-1)]


def level_usage(quantizer: ResidualQuantizer, codes: Tensor) -> list[LevelUsage]:
    """Usage of each level over int64 `codes` `[N, Q]`."""
    size = quantizer.size
    return [
        LevelUsage(
            health["utilization"],
            health["perplexity"],
            health["perplexity"] / size,
            math.log2(health["perplexity"]) / math.log2(size),
        )
        for health in quantizer.get_codebook_utilization(codes).values()
    ]


def bit_rates(loaded: LoadedVQModel, train: Tensor, test: Tensor, seconds: float) -> BitRates:
    """Rates of `test` codes `[N, Q]` of `seconds` of sound, entropy-coded with the frequencies in `train` codes."""
    quantizer = loaded.model.quantizer
    return BitRates(
        fully_coded=fully_coded_bits(loaded) / 1000,
        nominal=plain_bits(test, quantizer.size) / seconds / 1000,
        entropy_coded=entropy_coded_bits(test, quantizer.code_counts(train)) / seconds / 1000,
    )


def fully_coded_bits(loaded: LoadedVQModel) -> float:
    """Bits per second of sound without pauses."""
    quantizer = loaded.model.quantizer
    bits = loaded.model.grid.rows * quantizer.levels * math.log2(quantizer.size)  # of a column
    return bits * loaded.spectrogram.config.sample_rate / (loaded.model.grid.hop * loaded.spectrogram.config.hop_length)


def plain_bits(codes: Tensor, size: int) -> float:
    """Bits of int64 `codes` `[..., Q]` at log2 K each."""
    return int((codes != NO_CODE).sum()) * math.log2(size)


def entropy_coded_bits(codes: Tensor, counts: Tensor) -> float:
    """Ideal code length in bits of int64 `codes` `[N, Q]`, with probabilities from `counts` `[Q, K]`, each plus one."""
    probabilities = (counts + 1) / (counts + 1).sum(dim=-1, keepdim=True)
    bits = -probabilities.log2()  # [Q, K]
    return float(bits.gather(1, codes.T).sum())
