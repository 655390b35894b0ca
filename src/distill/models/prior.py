"""The prior: an autoregressive model of the codes of an RVQ-VAE, from which new sounds are drawn.

It is causal over columns, each of which is coded in depth: a recurrent network remembers what has sounded; the first
level of a column is coded row by row, every row given those before it, as in a neural autoregressive distribution
estimator (Uria et al. 2016); each further level is coded for all rows at once, given all levels before it.

A small collection has too few examples of each of thousands of codes. So a code is known by its vector: codes with
similar vectors have similar probabilities, those never seen among them.
"""

import dataclasses
import math
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distill.models.quantizer import NO_CODE
from distill.models.settings import PriorSettings
from distill.models.vqvae import ConvVQVAE

UNKNOWN = -1.0  # a condition that is not given
_FEATURES = 64  # hidden numbers from which the probability of a code follows
_SMOOTHING = 2.0  # times that each code is counted beside those it occurs
_TRAINED_COLUMNS = 64  # whose codes a training step is about: a fair sample, for all of them would take too long
_UNASKED_SHARE = 0.15  # of the sounds in training are shown without a condition
_FAR = 64.0  # columns: what is further away than any sound is long makes no difference
_CONDITIONS = 9  # features of them for a column
_BITS = 1 / math.log(2)


class Conditions(NamedTuple):
    """What is asked of sounds: float `[B]` each, `UNKNOWN` where anything will do."""

    columns: Tensor  # from the onset to the end
    loudness: Tensor  # the root mean square of its vectors, over that of the collection


class Bits(NamedTuple):
    """The mean information in a code of each level, `[Q]`, and in whether a column sounds, in bits."""

    levels: Tensor
    end: Tensor


class CodePrior(nn.Module):
    """A model of codes int64 `[B, W, H, Q]`: W columns of H rows, -1 where nothing sounds.

    Its methods are given the `codebooks` `[Q, K, D]` that the codes are from.
    """

    started: Tensor
    frequencies: Tensor
    row_scale: Tensor
    loudness_scale: Tensor
    gain: Tensor
    anchors: Tensor
    anchor_lengths: Tensor

    def __init__(self, rows: int, levels: int, size: int, dim: int, settings: PriorSettings) -> None:
        super().__init__()
        self.settings = dataclasses.asdict(settings)
        self.rows, self.levels, self.size = rows, levels, size
        width, hidden = settings.width, settings.hidden
        self.read = nn.Linear(rows * (dim + 1) + 1, width)
        self.condition = nn.Sequential(nn.Linear(_CONDITIONS, hidden), nn.SiLU(), nn.Linear(hidden, width))
        self.drop = nn.Dropout(settings.dropout)
        self.memory = nn.GRU(width, width, num_layers=settings.layers, batch_first=True)
        self.to_end = nn.Linear(width, 1)
        self.to_rows = nn.Linear(width, hidden)
        self.row_bias = nn.Parameter(torch.zeros(rows, hidden))
        self.level_bias = nn.Parameter(torch.zeros(levels, hidden))
        self.from_before = nn.Parameter(torch.randn(rows, dim + 1, hidden) / dim**0.5)  # from this row a column ago
        self.from_above = nn.Parameter(torch.randn(rows, dim + 1, hidden) / (rows * dim) ** 0.5)  # from rows before it
        self.from_all = nn.Parameter(torch.randn(rows, dim + 1, hidden) / (rows * dim) ** 0.5)  # from levels before it
        self.from_own = nn.Parameter(torch.randn(levels, dim + 1, hidden) / dim**0.5)
        self.trunk = nn.Sequential(
            nn.LayerNorm(hidden), nn.SiLU(), nn.Linear(hidden, 2 * hidden), nn.SiLU(), nn.Linear(2 * hidden, hidden)
        )
        self.codes = nn.ModuleList(
            nn.Sequential(nn.Linear(dim, _FEATURES), nn.SiLU(), nn.Linear(_FEATURES, hidden)) for _ in range(levels)
        )
        self.register_buffer("started", torch.tensor(False))
        self.register_buffer("frequencies", torch.zeros(rows, levels, size))  # log, of each code in its row and level
        self.register_buffer("row_scale", torch.ones(rows, 1))
        self.register_buffer("loudness_scale", torch.ones(()))
        self.register_buffer("gain", torch.ones(()))  # with which new sounds are as loud as the collection's
        anchors = torch.full((settings.anchor_columns, rows, levels), NO_CODE, dtype=torch.int32)
        self.register_buffer("anchors", anchors)
        self.register_buffer("anchor_lengths", torch.zeros(settings.anchor_columns // 4, dtype=torch.int64))

    @classmethod
    def for_codec(cls, codec: ConvVQVAE, settings: PriorSettings) -> Self:
        """A prior for the codes of a model."""
        quantizer = codec.quantizer
        return cls(codec.grid.rows, quantizer.levels, quantizer.size, quantizer.dim, settings)

    @staticmethod
    def large_shapes(settings: PriorSettings) -> dict[str, tuple[int, ...]]:
        """The shapes of the weights that grow with the settings, by name."""
        return {
            f"memory.weight_hh_l{settings.layers - 1}": (3 * settings.width, settings.width),
            "to_rows.weight": (settings.hidden, settings.width),
            "anchor_lengths": (settings.anchor_columns // 4,),
        }

    @torch.no_grad()
    def start_from(self, codes: Tensor, codebooks: Tensor) -> None:
        """Take from `[B, W, H, Q]` what needs no training: frequencies of codes, scales, and some sounds as anchors."""
        sounding = codes[is_sounding(codes)]  # [N, H, Q]
        if len(sounding) == 0:
            return
        power = embed(sounding, codebooks).square()
        self.row_scale.copy_(power.mean(dim=(0, 2)).sqrt().clamp(min=1e-4).unsqueeze(-1))
        self.loudness_scale.copy_(power.mean().sqrt().clamp(min=1e-4))
        self.frequencies.copy_(self._smoothed_frequencies(sounding).log())
        self._keep_anchors(codes)
        self.started.fill_(True)

    def _keep_anchors(self, codes: Tensor) -> None:
        """Keep of `[B, W, H, Q]` the sounds that begin and end within them, as many as there is room for."""
        self.anchor_lengths.zero_()
        filled = count = 0
        for one in codes:
            columns = is_sounding(one.unsqueeze(0))[0].nonzero().flatten()
            if len(columns) == 0 or int(columns[-1]) == len(one) - 1:
                continue
            sound = one[int(columns[0]) : int(columns[-1]) + 1]
            if count == len(self.anchor_lengths) or filled + len(sound) > len(self.anchors):
                break
            self.anchors[filled : filled + len(sound)] = sound.to(torch.int32)
            self.anchor_lengths[count] = len(sound)
            filled, count = filled + len(sound), count + 1

    @property
    def is_consistent(self) -> bool:
        """True if all codes of the anchors can be looked up; those of a file may be anything."""
        codes, lengths = self.anchors, self.anchor_lengths
        within = bool(((codes >= NO_CODE) & (codes < self.size)).all())
        return within and bool((lengths >= 0).all()) and int(lengths.clamp(max=len(codes)).sum()) <= len(codes)

    def anchor(self, number: int) -> Tensor:
        """The codes int64 `[W, H, Q]` of one of the sounds that are kept, from its onset to its end."""
        ends = self.anchor_lengths.cumsum(dim=0)
        stop = int(ends[number])
        return self.anchors[stop - int(self.anchor_lengths[number]) : stop].long()

    @property
    def anchor_count(self) -> int:
        """The number of sounds that are kept, which come first."""
        return int((self.anchor_lengths > 0).cumprod(dim=0).sum())

    @property
    def all_anchors(self) -> list[Tensor]:
        """The codes int64 `[W, H, Q]` of all sounds that are kept, from their onset to their end."""
        return [self.anchor(number) for number in range(self.anchor_count)]

    def _smoothed_frequencies(self, codes: Tensor) -> Tensor:
        """The frequency of each code in its row and level, `[H, Q, K]`, of codes `[N, H, Q]`.

        Those of a row are drawn towards those of all rows, and these towards equal ones (additive smoothing).
        """
        rows = torch.arange(self.rows, device=codes.device)[:, None] * self.levels
        places = (rows + torch.arange(self.levels, device=codes.device)) * self.size + codes
        counts = torch.bincount(places.flatten(), minlength=self.frequencies.numel()).view_as(self.frequencies).float()
        overall = counts.sum(dim=0) + _SMOOTHING
        counts += _SMOOTHING * self.size * overall / overall.sum(dim=-1, keepdim=True)
        return counts / counts.sum(dim=-1, keepdim=True)

    def conditions_of(self, codes: Tensor, codebooks: Tensor) -> Conditions:
        """The conditions that `[B, W, H, Q]` meet; `columns` is `UNKNOWN` where the end is not in view."""
        sounding = is_sounding(codes)
        count = sounding.sum(dim=1)
        place = torch.arange(codes.shape[1], device=codes.device)
        last = (place * sounding).amax(dim=1)
        first = (place + codes.shape[1] * ~sounding).amin(dim=1)
        ended = (count > 0) & (last < codes.shape[1] - 1)
        energy = embed(codes, codebooks).square().mean(dim=(2, 3)).sum(dim=1) / count.clamp(min=1)
        columns = torch.where(ended, (last - first + 1).float(), UNKNOWN)
        return Conditions(columns, energy.sqrt() / self.loudness_scale)

    def bits(self, codes: Tensor, codebooks: Tensor, asked: Conditions) -> Bits:
        """The information in `[B, W, H, Q]`, each column given those before it; differentiable.

        In training it is that of a random sample of the columns, which has the same mean.
        """
        vectors, sounding = self.normalized(embed(codes, codebooks)), is_sounding(codes)
        memory, _ = self.advance(_delayed(vectors), _delayed(sounding), condition_features(sounding, asked))
        end = F.binary_cross_entropy_with_logits(self.to_end(memory).squeeze(-1), sounding.float()) * _BITS
        batch, column = sounding.nonzero(as_tuple=True)
        if len(batch) == 0:
            return Bits(memory.new_zeros(self.levels), end)
        if self.training:
            chosen = torch.randperm(len(batch), device=codes.device)[:_TRAINED_COLUMNS]
            batch, column = batch[chosen], column[chosen]
        found, before = codes[batch, column], _delayed(vectors)[batch, column]
        rows = self.rows_from(memory[batch, column], before)
        features = self.features(codebooks)
        logits = [self.first_logits(rows, self.normalized(codebooks[0][found[..., 0]]), features)]
        for level in range(1, self.levels):
            partial = self.normalized(embed(found[..., :level], codebooks))
            logits.append(self.logits(level, self.with_levels(level, rows, partial), features))
        levels = [F.cross_entropy(one.flatten(0, 1), found[..., n].flatten()) for n, one in enumerate(logits)]
        return Bits(torch.stack(levels) * _BITS, end)

    @torch.no_grad()
    def unigram_bits(self, codes: Tensor) -> Tensor:
        """The mean information in a code of `[B, W, H, Q]`, of which only frequencies in rows and levels are known."""
        found = codes[is_sounding(codes)].unsqueeze(-1)  # [N, H, Q, 1]
        return -self.frequencies.expand(len(found), -1, -1, -1).gather(-1, found).mean() * _BITS

    # One step at a time, as in training all at once

    def normalized(self, vectors: Tensor, row: int | slice = slice(None)) -> Tensor:
        """Vectors `[…, D]` of one row, or of all, as the network sees them: `[…, D + 1]`, how large and where to.

        Within bounds, so that a sound louder than all others leads to no memory that no sound has led to.
        """
        scaled = vectors / self.row_scale[row]
        power = scaled.square().mean(dim=-1, keepdim=True)
        return torch.cat([scaled / (1 + power).sqrt(), (power + 0.01).log() / 4], dim=-1)

    def advance(
        self, vectors: Tensor, sounding: Tensor, conditions: Tensor, memory: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Memory `[B, W, width]` before columns, of those a column ago: `[B, W, H, D + 1]`, and if they sound `[B, W]`.

        `conditions` are the features of what is asked, `[B, W, 9]`.

        The second result goes on from there, given as `memory`.
        """
        read = self.read(torch.cat([vectors.flatten(2), sounding.unsqueeze(-1).float()], dim=-1))
        heard, state = self.memory(self.drop(read + self.condition(conditions)), memory)
        return self.drop(heard), state

    def rows_from(self, memory: Tensor, before: Tensor) -> Tensor:
        """What is known of each row of columns before the first code, float `[N, H, hidden]`."""
        from_before: Tensor = torch.einsum("nrd,rdh->nrh", before, self.from_before)
        rows: Tensor = from_before + self.to_rows(memory).unsqueeze(1) + self.row_bias
        return rows

    def first_logits(self, rows: Tensor, first: Tensor, features: list[Tensor]) -> Tensor:
        """Logits `[N, H, K]` of the first level, given its vectors above, `normalized`, `[N, H, D + 1]`."""
        above = torch.einsum("nrd,rdh->nrh", first, self.from_above)
        return self.logits(0, rows + above.cumsum(dim=1) - above, features)

    def with_levels(self, level: int, rows: Tensor, partial: Tensor) -> Tensor:
        """What is known of each row before a further level, `[N, H, hidden]`, given the sum of those before it.

        That is `normalized`, `[N, H, D + 1]`.
        """
        known = torch.einsum("nrd,rdh->nh", partial, self.from_all).unsqueeze(1)
        return rows + known + partial @ self.from_own[level]

    def features(self, codebooks: Tensor) -> list[Tensor]:
        """What is known of each code, `[K, hidden]` for each level; for the logits."""
        return [
            network(codebook / codebook.square().mean().sqrt().clamp(min=1e-6)) / self.row_bias.shape[-1] ** 0.5
            for network, codebook in zip(self.codes, codebooks)
        ]

    def sought(self, level: int, state: Tensor) -> Tensor:
        """The features `[…, hidden]` that a code of a level should have, from all that is known, `[…, hidden]`."""
        state = state + self.level_bias[level]
        sought: Tensor = state + self.trunk(state)
        return sought

    def logits(self, level: int, state: Tensor, features: list[Tensor]) -> Tensor:
        """Logits `[N, H, K]` of a level from all that is known of each row, `[N, H, hidden]`."""
        return self.sought(level, state) @ features[level].T + self.frequencies[:, level]


def is_sounding(codes: Tensor) -> Tensor:
    """Bool `[B, W]`: the columns of `[B, W, H, Q]` that have codes."""
    return codes[:, :, 0, 0] != NO_CODE


def embed(codes: Tensor, codebooks: Tensor) -> Tensor:
    """The vectors `[…, D]` of the first levels of codes `[…, q]`; zeros where there are none."""
    vectors = torch.zeros(*codes.shape[:-1], codebooks.shape[-1], device=codebooks.device)
    for level in range(codes.shape[-1]):
        code = codes[..., level]
        vectors = vectors + codebooks[level][code.clamp(min=0)] * (code != NO_CODE).unsqueeze(-1)
    return vectors


def condition_features(sounding: Tensor, asked: Conditions) -> Tensor:
    """Features of the conditions before each column, `[B, W, 9]`: what came before, what is left, and how loud."""
    begun = _delayed(sounding).cumsum(dim=1) > 0
    place = begun.cumsum(dim=1).float()  # columns since the onset
    return features_at(place, asked)


def features_at(place: Tensor, asked: Conditions) -> Tensor:
    """Features in columns `place` columns after the onset, 0 before it: float `[B, W]` → `[B, W, 9]`."""
    columns, loudness = (condition.unsqueeze(1).expand_as(place) for condition in asked)
    left, place = (columns - place).clamp(max=_FAR), place.clamp(max=_FAR)
    known = columns > 0
    length = [known, (left.clamp(min=0) + 1).log() * known, (left / 2).tanh() * known, (-place / 2).exp() * known]
    loud = loudness > 0
    level = [loud, loudness.clamp(min=1e-3).log() * loud]
    since = [place > 0, (place + 1).log(), (-place / 2).exp()]
    return torch.stack([value.float() for value in since + length + level], dim=-1)


def with_some_left_out(asked: Conditions) -> Conditions:
    """The conditions with some of them left out at random, so that sounds can also be drawn without."""
    return Conditions(*(torch.where(torch.rand_like(value) < _UNASKED_SHARE, UNKNOWN, value) for value in asked))


def _delayed(values: Tensor) -> Tensor:
    """`[B, W, …]` a column later, beginning with zeros."""
    return torch.cat([torch.zeros_like(values[:, :1]), values[:, :-1]], dim=1)
