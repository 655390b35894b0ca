"""The classic family: a convolutional VAE with one latent vector for a whole chunk of sound."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.audio.spectrogram import PADDING
from distill.distributed import randn_like
from distill.models.blocks import STRIDE, decoder, encoder

_GRID_CHANNELS = 32  # of the grid between the convolutions and the latent vector
_WINDOW_HOP = 2 * STRIDE  # frames between the starts of the windows in which a long sound is reconstructed


class ConvVAE(nn.Module):
    """Maps mels `[B, 1, M, T]` of up to `frames` frames to Gaussians over `latent_dim` numbers, and latents back."""

    def __init__(self, latent_dim: int = 64, dropout: float = 0.2, n_mels: int = 128, frames: int = 96) -> None:
        super().__init__()
        if n_mels % STRIDE or frames % STRIDE:
            raise ValueError(f"n_mels {n_mels} and frames {frames} must be multiples of {STRIDE}")
        self.settings: dict[str, Any] = {
            "latent_dim": latent_dim,
            "dropout": dropout,
            "n_mels": n_mels,
            "frames": frames,
        }
        self.latent_dim, self.frames = latent_dim, frames
        self._grid = (_GRID_CHANNELS, n_mels // STRIDE, frames // STRIDE)
        cells = self._grid[0] * self._grid[1] * self._grid[2]
        self.encoder = encoder(_GRID_CHANNELS)
        self.to_latent = nn.Linear(cells, 2 * latent_dim)
        self.from_latent = nn.Linear(latent_dim, cells)
        self.decoder = decoder(_GRID_CHANNELS, dropout)

    @staticmethod
    def large_shapes(settings: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        """The shapes of the weights that grow with the settings, by name."""
        cells = _GRID_CHANNELS * (settings["n_mels"] // STRIDE) * (settings["frames"] // STRIDE)
        return {"to_latent.weight": (2 * settings["latent_dim"], cells)}

    def forward(self, mel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return `(recon [B, 1, M, T], mu [B, L], logvar [B, L])`; the latent is sampled in training, else it is mu."""
        mu, logvar = self.encode(mel)
        # The reparameterisation trick; where several processes train, each draws its own part of the noise.
        z = mu + randn_like(mu) * (0.5 * logvar).exp() if self.training else mu
        return self.decode(z)[..., : mel.shape[-1]], mu, logvar

    def encode(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """Encode a mel `[B, 1, M, T]` to `(mu, logvar)`, float `[B, L]` each; raises `ValueError` when T > `frames`."""
        if mel.shape[-1] > self.frames:
            raise ValueError(f"the mel has {mel.shape[-1]} frames; this model takes up to {self.frames} at a time")
        padded = F.pad(mel, (0, self.frames - mel.shape[-1]), value=PADDING)
        # The encoder expects silence at 0.
        mu, logvar = self.to_latent(self.encoder(padded - PADDING).flatten(1)).chunk(2, dim=1)
        return mu, logvar.clamp(-12, 6)  # a variance beyond this range is only ever diverging

    def decode(self, z: Tensor) -> Tensor:
        """Decode latents `[B, L]` to mels float `[B, 1, M, frames]`."""
        mel: Tensor = self.decoder(self.from_latent(z).unflatten(1, self._grid)) + PADDING
        return mel

    @torch.no_grad()
    def sample(self, num_samples: int, device: torch.device | str = "cpu") -> Tensor:
        """Sample mels `[num_samples, 1, M, frames]` from the standard normal prior."""
        return self.decode(torch.randn(num_samples, self.latent_dim, device=device))

    @torch.no_grad()
    def reconstruct(self, mel: Tensor) -> Tensor:
        """Reconstruct a mel `[1, 1, M, T]` of any length in windows that are cross-faded."""
        length = mel.shape[-1]
        # At most half a window, so that windows overlap; and a power of two, so that it divides the length of the
        # blocks in which a long sound is reconstructed, and all of them have their windows at the same places.
        hop = min(_WINDOW_HOP, 1 << ((self.frames // 2).bit_length() - 1))
        starts = range(0, max(1, length - self.frames + hop), hop)
        padded = F.pad(mel, (0, starts[-1] + self.frames - length), value=PADDING)
        windows = torch.cat([padded[..., start : start + self.frames] for start in starts])
        return overlap_add(self.decode(self.encode(windows)[0]), hop)[..., :length]


def overlap_add(windows: Tensor, hop: int) -> Tensor:
    """Cross-fade N windows `[N, 1, M, T]` that begin `hop` frames apart: one mel `[1, 1, M, (N - 1) · hop + T]`."""
    frames = windows.shape[-1]
    # A triangle without its two zeros, so that every frame has a weight to divide by.
    fade = torch.bartlett_window(frames + 2, periodic=False, device=windows.device)[1:-1]
    total = torch.zeros(*windows.shape[1:-1], (len(windows) - 1) * hop + frames, device=windows.device)
    weight = torch.zeros(total.shape[-1], device=windows.device)
    for number, window in enumerate(windows):
        place = slice(number * hop, number * hop + frames)
        total[..., place] += window * fade
        weight[place] += fade
    return (total / weight).unsqueeze(0)
