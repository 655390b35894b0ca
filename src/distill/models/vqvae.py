"""The RVQ-VAE: an encoder and a decoder of mel columns, with a residual quantizer between them."""

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
    """Maps mels `[B, 1, M, T]` of at most `n_mels` bands to codes `[B, H·W, Q]` and back.

    A column of the grid is 16 frames, coded by H = n_mels / 16 vectors, each with a share of the column's components. A
    column in which nothing sounds has no code: its indices are -1, and it decodes to silence.
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
            "commitment_weight": commitment_weight,  # only recorded: `vqvae_loss` applies it, and applies it once
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
        """Initialise the linear maps by the components of the columns of mels `[B, 1, M, T]`, the codebooks by k-means.

        `check_cancelled` is called now and then; if it raises, the codebooks are to be placed anew.
        """
        mels = [mel[mel.isfinite().all(dim=(1, 2, 3))] for mel in mels]  # one damaged sample would spoil everything
        distinct = sum(len(self._columns(mel)) for mel in mels)
        if distinct == 0:
            return

        def shifted() -> Iterator[Tensor]:  # made again for each pass: all of them at once would fill the memory
            for mel in mels:
                check_cancelled()
                # A sound might as well begin a little later, so a mel is cut into columns at several offsets.
                yield torch.cat([self._columns(mel[..., shift:]) for shift in (0, *_shifts(mel.shape[-1]))])

        start_from_components(self.encoder, self.decoder, shifted(), distinct)
        columns = torch.cat([self.encoder.linear(some) for some in shifted()])
        # Usage is per batch of training, in which each mel is cut only once: the offsets count as more batches.
        batches = len(mels) * len(columns) / distinct
        self.quantizer.initialize(columns.reshape(-1, self.quantizer.dim), batches, check_cancelled)

    def _columns(self, mel: Tensor) -> Tensor:
        """The whole columns `[N, M·16]` of a mel `[B, 1, M, T]` in which anything sounds, with silence at 0."""
        whole = mel[..., : max(1, mel.shape[-1] // STRIDE) * STRIDE]
        return frame_blocks(pad_to_grid(whole, self.bands) - PADDING)[sounding_columns(whole)]

    def forward(self, mel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return `(recon [B, 1, M, T], indices int64 [B, H·W, Q], commit_loss scalar)`; the last is unweighted."""
        columns = sounding_columns(mel)
        quantized, indices, commit_loss = self.quantize(self.encode(mel), columns)
        recon = silence_where_uncoded(self.decode(quantized), columns)
        return recon[..., : mel.shape[-2], : mel.shape[-1]], indices, commit_loss

    def encode(self, mel: Tensor) -> Tensor:
        """Encode a mel `[B, 1, M, T]` to vectors float `[B, D, H, W]`, before quantization."""
        encoded: Tensor = self.encoder(pad_to_grid(mel, self.bands) - PADDING)
        return encoded

    def quantize(self, vectors: Tensor, columns: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return `(quantized [B, D, H, W], indices [B, H·W, Q], commit_loss)`; bool `columns` `[B, W]` are coded."""
        height = vectors.shape[-2]
        # A column is coded or not as a whole, so all its rows share one mask.
        mask = None if columns is None else columns.unsqueeze(1).expand(-1, height, -1).flatten(1)
        flat, indices, commitment = self.quantizer(vectors.flatten(2).transpose(1, 2), mask)
        return _as_grid(flat, height), indices, commitment.sum()

    def decode(self, quantized: Tensor) -> Tensor:
        """Decode quantized vectors `[B, D, H, W]` to a mel float `[B, 1, 16·H, 16·W]`."""
        decoded: Tensor = self.decoder(quantized) + PADDING
        return decoded

    def codes_to_embeddings(self, indices: Tensor, height: int) -> Tensor:
        """Look up the vectors `[B, D, height, W]` of codes `[B, height·W, q]`; q < Q takes only the first q levels."""
        return _as_grid(self.quantizer.embed(indices), height)

    def decode_codes(self, indices: Tensor, height: int) -> Tensor:
        """Decode codes `[B, height·W, q]` to a mel `[B, 1, 16·height, 16·W]`; columns without a code are silent."""
        mel = self.decode(self.codes_to_embeddings(indices, height))
        columns = (indices[..., 0] != NO_CODE).reshape(len(indices), height, -1).any(dim=1)
        return silence_where_uncoded(mel, columns)

    @torch.no_grad()
    def encode_to_codes(self, mel: Tensor) -> Tensor:
        """Encode a mel `[B, 1, M, T]` to codes int64 `[B, H·W, Q]`."""
        return self.quantize(self.encode(mel), sounding_columns(mel))[1]

    @torch.no_grad()
    def reconstruct(self, mel: Tensor, levels: int | None = None) -> Tensor:
        """Reconstruct a mel `[B, 1, M, T]` from its first `levels` levels of codes, from all of them if None."""
        codes = self.encode_to_codes(mel)[..., :levels]
        recon = self.decode_codes(codes, self.bands // STRIDE)
        return recon[..., : mel.shape[-2], : mel.shape[-1]]


def _shifts(frames: int) -> range:
    """The offsets, besides 0, at which the first column of a mel of `frames` frames might as well begin."""
    return range(2, min(STRIDE, frames - STRIDE + 1), 2)


def _as_grid(flat: Tensor, height: int) -> Tensor:
    """Arrange vectors `[B, H·W, D]` as a grid `[B, D, H, W]`."""
    return flat.transpose(1, 2).reshape(len(flat), flat.shape[-1], height, -1)
