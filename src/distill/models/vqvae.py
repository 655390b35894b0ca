"""The RVQ-VAE: an encoder and a decoder of mel columns, with a residual quantizer between them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from distill.audio.spectrogram import PADDING
from distill.models.grid import BANDS_PER_ROW, Grid, Transform
from distill.models.lapped import COMPONENTS, SPAN, LappedDecoder, LappedEncoder, start_from_components
from distill.models.quantizer import NO_CODE, ResidualQuantizer
from distill.models.reconstruct import CONTEXT
from distill.models.refiner import REACH, Refiner
from distill.models.transform_coding import TransformDecoder, TransformEncoder


class ConvVQVAE(nn.Module):
    """Maps mels `[B, 1, M, T]` of at most `n_mels` rows to codes `[B, H·W, Q]` and back.

    A column of the grid is 16 frames, half of them shared with the next one, coded by H = n_mels / 16 vectors, each
    with a share of the column's components. A column in which nothing sounds has no code: its indices are -1, and it
    decodes to silence. Models of distill 0.1.0 have the transform "blocks", whose columns do not overlap.
    """

    def __init__(
        self,
        codebook_dim: int = 16,
        codebook_size: int = 256,
        num_quantizers: int = 3,
        decay: float = 0.95,
        commitment_weight: float = 0.25,
        threshold_ema_dead_code: float = 2,
        kmeans_init: bool = True,
        kmeans_iters: int = 10,
        dropout: float = 0.2,
        transform: Transform = "lapped",
        n_mels: int = 128,
    ) -> None:
        super().__init__()
        if n_mels % BANDS_PER_ROW:
            raise ValueError(f"n_mels is {n_mels}; it must be a multiple of {BANDS_PER_ROW}")
        self.settings: dict[str, Any] = {
            "codebook_dim": codebook_dim,
            "codebook_size": codebook_size,
            "num_quantizers": num_quantizers,
            "decay": decay,
            "commitment_weight": commitment_weight,  # only recorded: `vqvae_loss` applies it, and applies it once
            "threshold_ema_dead_code": threshold_ema_dead_code,
            "kmeans_init": kmeans_init,
            "kmeans_iters": kmeans_iters,
            "dropout": dropout,  # of the network beside the decoder, which only models with blocks have
            "transform": transform,
            "n_mels": n_mels,
        }
        self.grid = Grid.of(transform, n_mels)
        self.encoder: LappedEncoder | TransformEncoder
        self.decoder: LappedDecoder | TransformDecoder
        if transform == "lapped":
            self.encoder = LappedEncoder(n_mels, self.grid.rows, codebook_dim)
            self.decoder = LappedDecoder(n_mels, self.grid.rows, codebook_dim)
            self.refiner: Refiner | nn.Identity = Refiner(n_mels)
        else:
            self.encoder = TransformEncoder(n_mels, codebook_dim)
            self.decoder = TransformDecoder(n_mels, codebook_dim, dropout)
            self.refiner = nn.Identity()
        self.quantizer = ResidualQuantizer(
            codebook_dim,
            codebook_size,
            num_quantizers,
            decay=decay,
            dead_threshold=threshold_ema_dead_code,
            kmeans_init=kmeans_init,
            kmeans_iters=kmeans_iters,
        )

    @property
    def reach(self) -> int:
        """The number of frames on either side of those of a column in which its codes are still heard."""
        return REACH if isinstance(self.refiner, Refiner) else CONTEXT

    @staticmethod
    def large_shapes(settings: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        """The shapes of the weights that grow with the settings, by name."""
        dim = settings["codebook_dim"]
        outputs = settings["n_mels"] // BANDS_PER_ROW * dim
        inputs = settings["n_mels"] * SPAN
        if settings["transform"] == "lapped":
            inputs = min(inputs, COMPONENTS * SPAN)
        return {
            "encoder.linear.weight": (outputs, inputs),
            "quantizer.codebooks": (settings["num_quantizers"], settings["codebook_size"], dim),
        }

    @torch.no_grad()
    def start_from(self, mels: Sequence[Tensor], check_cancelled: Callable[[], None] = lambda: None) -> None:
        """Initialise the linear maps by the components of mels `[B, 1, M, T]`, then the codebooks by k-means.

        `check_cancelled` is called now and then; if it raises, the codebooks are to be placed anew.
        """
        assert isinstance(self.encoder, LappedEncoder)
        assert isinstance(self.decoder, LappedDecoder)  # models with blocks come from files and checkpoints alone
        mels = [mel[mel.isfinite().all(dim=(1, 2, 3))] for mel in mels]  # one damaged sample would spoil everything
        if not any(self.grid.sounding(mel).any() for mel in mels if len(mel)):
            return
        silent_at_0 = [self.grid.pad(mel) - PADDING for mel in mels if len(mel)]
        start_from_components(self.encoder, self.decoder, silent_at_0, check_cancelled)
        columns = torch.cat([self.encode(mel).movedim(1, -1).transpose(1, 2)[self.grid.sounding(mel)] for mel in mels])
        self.quantizer.initialize(columns.flatten(0, -2), len(mels), check_cancelled)

    def forward(self, mel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return `(recon [B, 1, M, T], indices int64 [B, H·W, Q], commit_loss scalar)`; the last is unweighted."""
        columns = self.grid.sounding(mel)
        quantized, indices, commit_loss = self.quantize(self.encode(mel), columns)
        recon = self.grid.silence(self.decode(quantized), columns)
        return recon[..., : mel.shape[-2], : mel.shape[-1]], indices, commit_loss

    def encode(self, mel: Tensor) -> Tensor:
        """Encode a mel `[B, 1, M, T]` to vectors float `[B, D, H, W]`, before quantization."""
        encoded: Tensor = self.encoder(self.grid.pad(mel) - PADDING)
        return encoded

    def quantize(self, vectors: Tensor, columns: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return `(quantized [B, D, H, W], indices [B, H·W, Q], commit_loss)`; bool `columns` `[B, W]` are coded."""
        height = vectors.shape[-2]
        # A column is coded or not as a whole, so all its rows share one mask.
        mask = None if columns is None else columns.unsqueeze(1).expand(-1, height, -1).flatten(1)
        flat, indices, commitment = self.quantizer(vectors.flatten(2).transpose(1, 2), mask)
        return _as_grid(flat, height), indices, commitment.sum()

    def decode(self, quantized: Tensor) -> Tensor:
        """Decode quantized vectors `[B, D, H, W]` to a mel float `[B, 1, 16·H, T]`, T = 8·(W - 1)."""
        decoded: Tensor = self.refiner(self.decoder(quantized)) + PADDING
        return decoded

    def codes_to_embeddings(self, indices: Tensor, height: int) -> Tensor:
        """Look up the vectors `[B, D, height, W]` of codes `[B, height·W, q]`; q < Q takes only the first q levels."""
        return _as_grid(self.quantizer.embed(indices), height)

    def decode_codes(self, indices: Tensor, height: int) -> Tensor:
        """Decode codes `[B, height·W, q]` to a mel `[B, 1, 16·height, T]`; where there is no code, it is silent."""
        mel = self.decode(self.codes_to_embeddings(indices, height))
        columns = (indices != NO_CODE).any(dim=-1).reshape(len(indices), height, -1).any(dim=1)
        return self.grid.silence(mel, columns)

    @torch.no_grad()
    def encode_to_codes(self, mel: Tensor) -> Tensor:
        """Encode a mel `[B, 1, M, T]` to codes int64 `[B, H·W, Q]`."""
        return self.quantize(self.encode(mel), self.grid.sounding(mel))[1]

    def columns(self, codes: Tensor) -> Tensor:
        """Arrange codes `[B, H·W, Q]` column by column: `[B, W, H, Q]`."""
        return codes.reshape(len(codes), self.grid.rows, -1, codes.shape[-1]).transpose(1, 2)

    def decode_columns(self, codes: Tensor) -> Tensor:
        """`decode_codes` for codes `[B, W, H, q]`."""
        return self.decode_codes(codes.transpose(1, 2).flatten(1, 2), self.grid.rows)

    def decode_frames(self, codes: Tensor, first: int, stop: int) -> Tensor:
        """Frames [first, stop) of the mel `[B, 1, M, T]` of codes `[B, W, H, q]`, from as few of them as it takes."""
        hop = self.grid.hop
        begin = max(0, (first - self.reach) // hop)
        mel = self.decode_columns(codes[:, begin : -(-(stop + self.reach) // hop) + self.grid.overlap])
        return mel[..., first - hop * begin : stop - hop * begin]

    @torch.no_grad()
    def reconstruct(self, mel: Tensor, levels: int | None = None) -> Tensor:
        """Reconstruct a mel `[B, 1, M, T]` from its first `levels` levels of codes, from all of them if None."""
        codes = self.encode_to_codes(mel)[..., :levels]
        recon = self.decode_codes(codes, self.grid.rows)
        return recon[..., : mel.shape[-2], : mel.shape[-1]]


def _as_grid(flat: Tensor, height: int) -> Tensor:
    """Arrange vectors `[B, H·W, D]` as a grid `[B, D, H, W]`."""
    return flat.transpose(1, 2).reshape(len(flat), flat.shape[-1], height, -1)
