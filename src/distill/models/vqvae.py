"""The RVQ-VAE: an encoder and a decoder of mel columns with a residual quantizer between them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from distill.audio.spectrogram import PADDING
from distill.models.blocks import STRIDE
from distill.models.grid import pad_to_grid, silence_where_uncoded, sounding_columns
from distill.models.quantizer import NO_CODE, ResidualQuantizer
from distill.models.transform_coding import TransformDecoder, TransformEncoder, frame_blocks, start_from_components


class ConvVQVAE(nn.Module):
    """Mels `[B, 1, M, T]` of at most `n_mels` bands to codes `[B, H·W, Q]` and back.

    A column of the grid is 16 frames, coded by H = n_mels / 16 vectors, each with a share of the column's components. A
    column in which nothing sounds has no code: its indices are -1 and it decodes to silence.
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
        n_mels: int = 128,
    ) -> None:
        super().__init__()
        if n_mels % STRIDE:
            raise ValueError(f"n_mels is {n_mels}; it must be a multiple of {STRIDE}")
        self.settings: dict[str, Any] = {
            "codebook_dim": codebook_dim,
            "codebook_size": codebook_size,
            "num_quantizers": num_quantizers,
            "decay": decay,
            "commitment_weight": commitment_weight,  # applied by vqvae_loss; kept for the record
            "threshold_ema_dead_code": threshold_ema_dead_code,
            "kmeans_init": kmeans_init,
            "kmeans_iters": kmeans_iters,
            "dropout": dropout,
            "n_mels": n_mels,
        }
        self.bands = n_mels
        self.encoder = TransformEncoder(n_mels, codebook_dim)
        self.quantizer = ResidualQuantizer(
            codebook_dim,
            codebook_size,
            num_quantizers,
            decay=decay,
            dead_threshold=threshold_ema_dead_code,
            kmeans_init=kmeans_init,
            kmeans_iters=kmeans_iters,
        )
        self.decoder = TransformDecoder(n_mels, codebook_dim, dropout)

    @staticmethod
    def large_shapes(settings: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        """The shapes of the weights that grow with the settings, by name."""
        rows, dim = settings["n_mels"] // STRIDE, settings["codebook_dim"]
        return {
            "encoder.linear.weight": (rows * dim, settings["n_mels"] * STRIDE),
            "quantizer.codebooks": (settings["num_quantizers"], settings["codebook_size"], dim),
        }

    @torch.no_grad()
    def start_from(self, mels: Sequence[Tensor], check_cancelled: Callable[[], None] = lambda: None) -> None:
        """Begin with the components of the columns of mels `[B, 1, M, T]`, and with codebooks by k-means.

        What `check_cancelled` raises, called every now and then, leaves the codebooks to be placed anew.
        """
        mels = [mel[mel.isfinite().all(dim=(1, 2, 3))] for mel in mels]  # a damaged sample must not decide
        distinct = sum(len(self._columns(mel)) for mel in mels)
        if distinct == 0:
            return

        def shifted() -> Iterator[Tensor]:  # made again for each pass: all of them at once would fill the memory
            for mel in mels:
                check_cancelled()
                yield torch.cat([self._columns(mel[..., shift:]) for shift in (0, *_shifts(mel.shape[-1]))])

        start_from_components(self.encoder, self.decoder, shifted(), distinct)
        columns = torch.cat([self.encoder.linear(some) for some in shifted()])
        batches = len(mels) * len(columns) / distinct
        self.quantizer.initialize(columns.reshape(-1, self.quantizer.dim), batches, check_cancelled)

    def _columns(self, mel: Tensor) -> Tensor:
        """The columns `[N, M·16]` of a mel `[B, 1, M, T]` in which anything sounds, silence at 0; none is cut short."""
        whole = mel[..., : max(1, mel.shape[-1] // STRIDE) * STRIDE]
        return frame_blocks(pad_to_grid(whole, self.bands) - PADDING)[sounding_columns(whole)]

    def forward(self, mel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`(recon [B, 1, M, T], indices int64 [B, H·W, Q], commit_loss scalar)`; the commitment is unweighted."""
        columns = sounding_columns(mel)
        quantized, indices, commit_loss = self.quantize(self.encode(mel), columns)
        recon = silence_where_uncoded(self.decode(quantized), columns)
        return recon[..., : mel.shape[-2], : mel.shape[-1]], indices, commit_loss

    def encode(self, mel: Tensor) -> Tensor:
        """Vectors float `[B, D, H, W]` of a mel `[B, 1, M, T]`, before quantization."""
        encoded: Tensor = self.encoder(pad_to_grid(mel, self.bands) - PADDING)
        return encoded

    def quantize(self, vectors: Tensor, columns: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """`(quantized [B, D, H, W], indices [B, H·W, Q], commit_loss)`; bool `columns` `[B, W]` says what to code."""
        height = vectors.shape[-2]
        mask = None if columns is None else columns.unsqueeze(1).expand(-1, height, -1).flatten(1)
        flat, indices, commitment = self.quantizer(vectors.flatten(2).transpose(1, 2), mask)
        return _as_grid(flat, height), indices, commitment.sum()

    def decode(self, quantized: Tensor) -> Tensor:
        """Mel float `[B, 1, 16·H, 16·W]` of quantized vectors `[B, D, H, W]`."""
        decoded: Tensor = self.decoder(quantized) + PADDING
        return decoded

    def codes_to_embeddings(self, indices: Tensor, height: int) -> Tensor:
        """Vectors `[B, D, height, W]` of codes `[B, height·W, q]`; q < Q keeps only the first q levels."""
        return _as_grid(self.quantizer.embed(indices), height)

    def decode_codes(self, indices: Tensor, height: int) -> Tensor:
        """Mel `[B, 1, 16·height, 16·W]` of codes `[B, height·W, q]`; columns without a code are silent."""
        mel = self.decode(self.codes_to_embeddings(indices, height))
        columns = (indices[..., 0] != NO_CODE).reshape(len(indices), height, -1).any(dim=1)
        return silence_where_uncoded(mel, columns)

    @torch.no_grad()
    def encode_to_codes(self, mel: Tensor) -> Tensor:
        """Codes int64 `[B, H·W, Q]` of a mel `[B, 1, M, T]`."""
        return self.quantize(self.encode(mel), sounding_columns(mel))[1]

    @torch.no_grad()
    def reconstruct(self, mel: Tensor, levels: int | None = None) -> Tensor:
        """The mel `[B, 1, M, T]` as its first `levels` levels of codes (all when None) give it back."""
        codes = self.encode_to_codes(mel)[..., :levels]
        recon = self.decode_codes(codes, -(-mel.shape[-2] // STRIDE))
        return recon[..., : mel.shape[-2], : mel.shape[-1]]


def _shifts(frames: int) -> range:
    """At which of so many frames the first column could as well begin."""
    return range(2, min(STRIDE, frames - STRIDE + 1), 2)


def _as_grid(flat: Tensor, height: int) -> Tensor:
    """`[B, H·W, D]` → `[B, D, H, W]`."""
    return flat.transpose(1, 2).reshape(len(flat), flat.shape[-1], height, -1)
