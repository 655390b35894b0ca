"""The classic family: a VAE with one latent vector for a whole chunk of sound."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.audio.spectrogram import PADDING
from distill.distributed import randn_like
from distill.models.blocks import STRIDE, ScaledLinear, decoder, encoder
from distill.models.lapped import HOP, LappedDecoder, LappedEncoder, start_from_components
from distill.models.refiner import Refiner

_CHANNELS = {"lapped": 8, "convolutions": 32}  # of the grid between the mel and the latent vector
_START_SPREAD = 0.2  # of what is drawn for a sound, beside the spread of all sounds, which is 1 at the start
_LEAST_SPREAD = 1e-3  # of a component, beside that of the strongest
_WINDOW_HOP = 2 * STRIDE  # frames between the starts of the windows in which a long sound is reconstructed


class ConvVAE(nn.Module):
    """Maps mels `[B, 1, M, T]` of up to `frames` frames to Gaussians over `latent_dim` numbers, and latents back.

    Between mel and latent is a lapped transform, whose columns overlap by half. Models of distill 0.1.0 have
    convolutions in its place, which leave a pattern of their strides in what they decode.
    """

    started: Tensor

    def __init__(
        self,
        latent_dim: int = 64,
        dropout: float = 0.2,
        transform: Literal["lapped", "convolutions"] = "lapped",
        n_mels: int = 128,
        frames: int = 96,
    ) -> None:
        super().__init__()
        if n_mels % STRIDE or frames % STRIDE:
            raise ValueError(f"n_mels {n_mels} and frames {frames} must be multiples of {STRIDE}")
        self.settings: dict[str, Any] = {
            "latent_dim": latent_dim,
            "dropout": dropout,  # of the convolutions
            "transform": transform,
            "n_mels": n_mels,
            "frames": frames,
        }
        self.latent_dim, self.frames = latent_dim, frames
        self._grid = _grid(self.settings)
        channels, rows, _ = self._grid
        cells = math.prod(self._grid)
        self._started: bool | None = None  # `started`, read only once: each reading waits for the device
        if transform == "lapped":
            self.encoder: LappedEncoder | nn.Sequential = LappedEncoder(n_mels, rows, channels)
            self.to_latent: ScaledLinear | nn.Linear = ScaledLinear(cells, 2 * latent_dim)
            self.from_latent: ScaledLinear | nn.Linear = ScaledLinear(latent_dim, cells)
            self.decoder = nn.Sequential(LappedDecoder(n_mels, rows, channels), Refiner(n_mels))
            self.register_buffer("started", torch.tensor(False))
        else:
            self.encoder = encoder(channels)
            self.to_latent = nn.Linear(cells, 2 * latent_dim)
            self.from_latent = nn.Linear(latent_dim, cells)
            self.decoder = decoder(channels, dropout)
            self._started = True

    @staticmethod
    def large_shapes(settings: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        """The shapes of the weights that grow with the settings, by name."""
        return {"to_latent.weight": (2 * settings["latent_dim"], math.prod(_grid(settings)))}

    @property
    def ready(self) -> bool:
        """True once `start_from` has set the linear maps, where there are any."""
        if self._started is None:
            self._started = bool(self.started)
        return self._started

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        if self.settings["transform"] == "lapped":
            self._started = None

    @torch.no_grad()
    def start_from(self, mels: Sequence[Tensor], check_cancelled: Callable[[], None] = lambda: None) -> None:
        """Start the linear maps as principal components of mels `[B, 1, M, T]`: of columns, then of whole chunks.

        `check_cancelled` is called now and then.
        """
        # Models with convolutions come from files and checkpoints alone.
        encoder, decoder, to_latent, from_latent = self.encoder, self.decoder[0], self.to_latent, self.from_latent
        assert isinstance(encoder, LappedEncoder)
        assert isinstance(decoder, LappedDecoder)
        assert isinstance(to_latent, ScaledLinear)
        assert isinstance(from_latent, ScaledLinear)
        whole = [self._from_silence(mel[mel.isfinite().all(dim=(1, 2, 3))]) for mel in mels]
        if not any(mel.any() for mel in whole):
            return
        start_from_components(encoder, decoder, whole, check_cancelled)
        check_cancelled()
        mean, wider, narrower = _components(torch.cat([encoder(mel).flatten(1) for mel in whole]), self.latent_dim)
        from_latent.start_from(wider, mean)
        # At first, how much is drawn does not depend on the sound.
        variance = mean.new_full((self.latent_dim,), 2 * math.log(_START_SPREAD))
        bias = torch.cat([-narrower @ mean, variance])
        to_latent.start_from(torch.cat([narrower, torch.zeros_like(narrower)]), bias)
        self.started.fill_(True)
        self._started = True

    def _from_silence(self, mel: Tensor) -> Tensor:
        """A mel `[B, 1, M, T]` padded to a whole chunk, with silence at 0."""
        return F.pad(mel, (0, self.frames - mel.shape[-1]), value=PADDING) - PADDING

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
        mu, logvar = self.to_latent(self.encoder(self._from_silence(mel)).flatten(1)).chunk(2, dim=1)
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


def _grid(settings: Mapping[str, Any]) -> tuple[int, int, int]:
    """Channels, rows and columns of the grid between the mel and the latent vector."""
    frames, transform = settings["frames"], settings["transform"]
    columns = frames // HOP + 1 if transform == "lapped" else frames // STRIDE
    return _CHANNELS[transform], settings["n_mels"] // STRIDE, columns


def _components(vectors: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The mean `[C]` of vectors `[N, C]`, the map `[C, count]` from their components, of variance 1, and its inverse.

    Components of which there is next to nothing are 0.
    """
    mean = vectors.mean(dim=0)
    # On the CPU: not every GPU backend has the decomposition.
    _, singular, found = torch.linalg.svd((vectors - mean).cpu(), full_matrices=False)
    spread = singular[:count, None] / len(vectors) ** 0.5
    there, found = spread > _LEAST_SPREAD * spread[0], found[:count]
    maps = torch.where(there, found * spread, 0.0), torch.where(there, found / spread, 0.0)
    wider, narrower = (F.pad(rows, (0, 0, 0, count - len(rows))).to(mean.device) for rows in maps)
    return mean, wider.T, narrower


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
