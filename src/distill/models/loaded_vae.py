"""A loaded continuous VAE: its directions, and new sounds along them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor

from distill.audio.recording import Samples
from distill.audio.spectrogram import AudioSpectrogram
from distill.errors import ConfigError
from distill.library.header import ModelMetadata
from distill.models.generate import between, move, render, sample_walk, vary
from distill.models.loaded import LoadedFamily, shares_of
from distill.models.reconstruct import CONTEXT
from distill.models.vae import ConvVAE

if TYPE_CHECKING:
    from distill.models.format import CheckedFile
    from distill.models.graphs import Graph


@dataclass(frozen=True)
class LoadedModel(LoadedFamily):
    """A continuous VAE (v1), in eval mode; `analysis` is the result of `distill.models.analysis`, or None."""

    model: ConvVAE
    spectrogram: AudioSpectrogram
    metadata: ModelMetadata
    device: torch.device
    analysis: dict[str, Any] | None

    family_name: ClassVar[str] = "vae"

    @classmethod
    def from_file(cls, file: "CheckedFile") -> Self:
        """The model of a file that was checked."""
        return cls(file.model, file.spectrogram, file.metadata, file.device, file.record)

    def directions(self) -> dict[str, list[float]]:
        """The named directions of its latent space, each with its safe range in standard deviations."""
        components = self.analysis["components"] if self.analysis else []
        return {component["name"]: component["safe_range"] for component in components if "name" in component}

    @property
    def generates(self) -> bool:
        """True: any VAE does."""
        return True

    def generate(
        self, count: int, seconds: float | None = None, seed: int = 0, moves: Mapping[str, float] | None = None,
        *, temperature: float | None = None, loop: bool = False,
    ) -> Iterator[Samples]:  # fmt: skip
        """Generate new sounds, as `LoadedFamily.generate` says; a long one goes on towards another and back."""
        if loop:
            raise ConfigError("a continuous VAE makes no loops")
        for number in range(count):
            latents = move(self, sample_walk(self, seed + number, temperature), moves or {})
            yield render(self, latents[0], 1.0 if seconds is None else seconds, latents[1])

    def vary(self, sound: Path | str | Samples, strength: float, count: int = 1, seed: int = 0) -> Iterator[Samples]:
        """Sounds on the way from the latent of a sound to new ones, as `LoadedFamily.vary` says."""
        return vary(self, self.waveform(sound), strength, count, seed)

    def extend(
        self, sound: Path | str | Samples, seconds: float, seed: int = 0, temperature: float | None = None
    ) -> Samples:
        """Raises `ConfigError`: a latent stands for a whole sound."""
        del sound, seconds, seed, temperature
        raise ConfigError("a continuous VAE cannot go on from a sound", "a model of codes can")

    def inpaint(self, sound: Path | str | Samples, start: float, end: float, seed: int = 0) -> Samples:
        """Raises `ConfigError`, as `extend` does."""
        del sound, start, end, seed
        raise ConfigError("a continuous VAE cannot fill a gap", "a model of codes can")

    def morph(
        self, first: Path | str | Samples, second: Path | str | Samples, steps: int | Sequence[float] = 5,
        seconds: float | None = None, seed: int = 0, moves: Mapping[str, float] | None = None,
    ) -> Iterator[Samples]:  # fmt: skip
        """Sounds on a straight line between the latents of two sounds, as `LoadedFamily.morph` says; nothing is drawn.

        Without `seconds`, each lasts as long as the longer of the two, but not longer than one chunk.
        """
        del seed
        start, end = self.waveform(first), self.waveform(second)
        longest = self.model.frames * self.spectrogram.config.hop_length
        length = min(max(len(start), len(end)), longest) / self.sample_rate if seconds is None else seconds
        for share in shares_of(steps):
            yield render(self, move(self, between(self, start, end, share), moves or {}), length)

    def graphs(self) -> "list[Graph]":
        """Its encoder and decoder."""
        from distill.models.graphs import latent_graphs

        return latent_graphs(self.model)

    def _mel_to_mel(self, mel: Tensor, levels: int | None) -> Tensor:
        if levels is not None:
            raise ConfigError("this model is a continuous VAE: it has no levels of codes")
        return self.model.reconstruct(mel)

    def _context(self) -> int:
        # Enough for every window that a frame is seen through, and a multiple of their hop, so that all blocks of a
        # long sound have their windows at the same places.
        return -(-self.model.frames // CONTEXT) * CONTEXT
