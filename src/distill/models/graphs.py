"""The networks of a loaded model as graphs for other programs: one sound at a time, codes as in files of codes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from distill.models.prior import CodePrior, Conditions, embed, features_at, is_sounding
from distill.models.quantizer import NO_CODE
from distill.models.vae import ConvVAE
from distill.models.vqvae import ConvVQVAE


@dataclass(frozen=True)
class Graph:
    """A network whose inputs are those of `example(columns)`, a function of how many columns there are.

    `lengths` says which axis of which input grows with the columns, and by how much for each of them.
    """

    name: str
    network: nn.Module
    example: Callable[[int], Mapping[str, Tensor]]
    outputs: tuple[str, ...]
    lengths: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def codec_graphs(codec: ConvVQVAE) -> list[Graph]:
    """The encoder (mel float `[1, 1, M, T]` to codes int64 `[Q, H, W]`) and the decoder, and the prior's step, if any.

    T is a multiple of the frames from one column to the next.
    """
    grid, quantizer = codec.grid, codec.quantizer

    def mel(columns: int) -> dict[str, Tensor]:
        return {"mel": _noise(1, 1, grid.bands, columns * grid.hop)}

    def codes(columns: int) -> dict[str, Tensor]:
        return {"codes": _codes(quantizer.levels, grid.rows, columns, size=quantizer.size)}

    graphs = [
        Graph("encoder", _Encoder(codec), mel, ("codes",), {"mel": (3, grid.hop)}),
        Graph("decoder", _Decoder(codec), codes, ("mel",), {"codes": (2, 1)}),
    ]
    prior = getattr(codec, "prior", None)
    return [*graphs, _prior_graph(prior, quantizer.codebooks)] if isinstance(prior, CodePrior) else graphs


def latent_graphs(model: ConvVAE) -> list[Graph]:
    """The encoder (mel float `[1, 1, M, frames]` to the mean latent `[1, L]`) and the decoder of a VAE."""
    return [
        Graph(
            "encoder", _LatentEncoder(model), lambda _: {"mel": _noise(1, 1, _bands(model), model.frames)}, ("latent",)
        ),
        Graph("decoder", _LatentDecoder(model), lambda _: {"latent": _noise(1, model.latent_dim)}, ("mel",)),
    ]


def _prior_graph(prior: CodePrior, codebooks: Tensor) -> Graph:
    def step(columns: int) -> dict[str, Tensor]:
        del columns
        layers, width = prior.settings["layers"], prior.settings["width"]
        before, column = (_codes(prior.levels, prior.rows, size=prior.size) for _ in range(2))
        return {
            "before": before,
            "column": torch.where(torch.arange(prior.levels)[:, None] > 0, NO_CODE, column),
            "begun": torch.ones(1),
            "place": torch.full((1,), 3.0),
            "asked": torch.tensor([12.0, 1.0]),
            "memory": _noise(layers, 1, width),
        }

    return Graph("prior", _PriorStep(prior, codebooks), step, ("sounds", "logits", "memory_after"))


class _Encoder(nn.Module):
    def __init__(self, codec: ConvVQVAE) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, mel: Tensor) -> Tensor:
        columns = self.codec.grid.sounding(mel)  # [1, W]
        vectors = self.codec.encode(mel)[0].permute(1, 2, 0)  # [H, W, D]
        codes = self.codec.quantizer.search_at_once(vectors.flatten(0, 1))
        return codes.reshape(len(codes), *vectors.shape[:2]).masked_fill(~columns, NO_CODE)


class _Decoder(nn.Module):
    def __init__(self, codec: ConvVQVAE) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, codes: Tensor) -> Tensor:
        return self.codec.decode_codes(codes.flatten(1).T.unsqueeze(0), self.codec.grid.rows)


class _PriorStep(nn.Module):
    """All that the prior says of a column, given codes int64 `[Q, H]` of the one before, and of its own so far.

    The logits of a row of the first level need the codes of the rows above, those of a level all codes of the levels
    before; what is not known yet is -1.
    """

    def __init__(self, prior: CodePrior, codebooks: Tensor) -> None:
        super().__init__()
        self.prior = prior
        self.register_buffer("codebooks", codebooks)
        self.codebooks: Tensor

    def forward(
        self, before: Tensor, column: Tensor, begun: Tensor, place: Tensor, asked: Tensor, memory: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        prior, last, found = self.prior, before.T[None], column.T[None]  # [1, H, Q]
        # Before the very first column there is not even silence.
        heard = prior.normalized(embed(last, self.codebooks)) * begun
        conditions = features_at(place[None], Conditions(asked[:1], asked[1:]))
        sounded = is_sounding(last[None]) & (begun > 0)
        state, after = prior.advance(heard[None], sounded, conditions, memory)
        rows, features = prior.rows_from(state[:, 0], heard), prior.features(self.codebooks)
        logits = [prior.first_logits(rows, prior.normalized(embed(found[..., :1], self.codebooks)), features)]
        for level in range(1, prior.levels):
            partial = prior.normalized(embed(found[..., :level], self.codebooks))
            logits.append(prior.logits(level, prior.with_levels(level, rows, partial), features))
        return prior.to_end(state).flatten().sigmoid(), torch.cat(logits), after


class _LatentEncoder(nn.Module):
    def __init__(self, model: ConvVAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, mel: Tensor) -> Tensor:
        return self.model.encode(mel)[0]


class _LatentDecoder(nn.Module):
    def __init__(self, model: ConvVAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, latent: Tensor) -> Tensor:
        return self.model.decode(latent)


def _bands(model: ConvVAE) -> int:
    bands: int = model.settings["n_mels"]
    return bands


def _noise(*shape: int) -> Tensor:
    """The same numbers for the same shape, from -1 to 1."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def _codes(*shape: int, size: int) -> Tensor:
    return torch.randint(size, shape, generator=torch.Generator().manual_seed(0))
