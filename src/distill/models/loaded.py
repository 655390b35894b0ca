"""A model ready for use: sounds in, sounds out."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch
from torch import Tensor

from distill.audio.recording import Samples
from distill.audio.spectrogram import AudioSpectrogram, mark_end
from distill.errors import AudioError, ConfigError
from distill.library.header import ModelMetadata
from distill.models.blocks import STRIDE
from distill.models.reconstruct import CONTEXT, reconstruct_waveform
from distill.models.vae import ConvVAE
from distill.models.vqvae import ConvVQVAE


class Reconstructor(ABC):
    """What the loaded models of both families can do."""

    spectrogram: AudioSpectrogram
    device: torch.device

    @abstractmethod
    def _mel_to_mel(self, mel: Tensor, levels: int | None) -> Tensor:
        """A mel `[1, 1, M, T]` through the model; raises `ConfigError` for levels it does not have."""

    def _context(self) -> int:
        """How many frames around a block of a long sound the model has to be shown."""
        return CONTEXT

    @property
    def sample_rate(self) -> int:
        """The rate in Hz of what `reconstruct` returns."""
        return self.spectrogram.config.sample_rate

    def reconstruct(
        self, sound: Path | str | Samples, sample_rate: int | None = None, levels: int | None = None
    ) -> Samples:
        """What the model makes of a sound file, or of mono float `[S]` at `sample_rate`: float32 `[S']`.

        The result is at the model's rate and lasts as long as the sound; `levels` uses only the first so many
        levels of codes. Raises `AudioError` for an unreadable file, `ConfigError` for impossible levels.
        """
        waveform = torch.from_numpy(self._waveform(sound, sample_rate)).to(self.device)
        made = reconstruct_waveform(
            lambda mel: self._mel_to_mel(mel, levels), self.spectrogram, waveform, self._context()
        )
        samples: Samples = made.cpu().numpy()
        return samples

    def _waveform(self, sound: Path | str | Samples, sample_rate: int | None) -> Samples:
        if isinstance(sound, Path | str):
            from distill.audio.io import read_waveform  # here, so that loading a model does not wait for it

            return read_waveform(Path(sound), self.sample_rate)
        samples = np.asarray(sound, np.float32)
        if samples.ndim != 1 or len(samples) == 0 or not np.isfinite(samples).all():
            raise AudioError(f"expected mono samples, finite numbers [S]; found an array of shape {samples.shape}")
        resampled = soxr.resample(samples, sample_rate or self.sample_rate, self.sample_rate)
        return np.asarray(resampled, dtype=np.float32)


@dataclass(frozen=True)
class LoadedVQModel(Reconstructor):
    """An RVQ-VAE (v1.1), in eval mode."""

    model: ConvVQVAE
    spectrogram: AudioSpectrogram
    metadata: ModelMetadata
    device: torch.device
    codebook_health: dict[str, dict[str, float]] | None
    vqvae_config: dict[str, Any]

    @torch.no_grad()
    def codes(self, sound: Path | str | Samples, sample_rate: int | None = None) -> Tensor:
        """The grid of codes int64 `[Q, H, W]` of a sound, given as to `reconstruct`; -1 where nothing sounds."""
        waveform = torch.from_numpy(self._waveform(sound, sample_rate)).to(self.device)
        codes = self.model.encode_to_codes(self.spectrogram.waveform_to_mel(mark_end(waveform)[None, None]))
        return codes[0].T.reshape(codes.shape[-1], self.model.bands // STRIDE, -1).cpu()

    @property
    def column_seconds(self) -> float:
        """How long a column of the grid lasts."""
        return STRIDE * self.spectrogram.config.hop_length / self.sample_rate

    def _mel_to_mel(self, mel: Tensor, levels: int | None) -> Tensor:
        if levels is not None and not 1 <= levels <= self.model.quantizer.levels:
            raise ConfigError(f"levels is {levels}", f"this model has 1 to {self.model.quantizer.levels}")
        return self.model.reconstruct(mel, levels)


@dataclass(frozen=True)
class LoadedModel(Reconstructor):
    """A continuous VAE (v1), in eval mode; `analysis` is that of `distill.models.analysis`, or None."""

    model: ConvVAE
    spectrogram: AudioSpectrogram
    metadata: ModelMetadata
    device: torch.device
    analysis: dict[str, Any] | None

    def _mel_to_mel(self, mel: Tensor, levels: int | None) -> Tensor:
        if levels is not None:
            raise ConfigError("this model is a continuous VAE: it has no levels of codes")
        return self.model.reconstruct(mel)

    def _context(self) -> int:
        return -(-self.model.frames // CONTEXT) * CONTEXT  # all the windows that a frame is seen through
