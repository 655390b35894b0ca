"""A loaded RVQ-VAE: its codes, and the new sounds that its prior makes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor

from distill.audio.recording import Samples
from distill.audio.spectrogram import AudioSpectrogram, mark_end
from distill.errors import CodesError, ConfigError, ModelFileError
from distill.library.header import ModelMetadata
from distill.models import new_sounds
from distill.models.codes import Codebook, Codes
from distill.models.loaded import LoadedFamily, shares_of
from distill.models.settings import USUAL_TEMPERATURE
from distill.models.vqvae import ConvVQVAE

if TYPE_CHECKING:
    from distill.models.format import CheckedFile
    from distill.models.graphs import Graph


@dataclass(frozen=True)
class LoadedVQModel(LoadedFamily):
    """An RVQ-VAE (v1.1), in eval mode."""

    model: ConvVQVAE
    spectrogram: AudioSpectrogram
    metadata: ModelMetadata
    device: torch.device
    codebook_health: dict[str, dict[str, float]] | None
    vqvae_config: dict[str, Any]

    family_name: ClassVar[str] = "vqvae"

    @classmethod
    def from_file(cls, file: "CheckedFile") -> Self:
        """The model of a file that was checked; raises `ModelFileError` where its prior refers to codes beyond it."""
        prior = getattr(file.model, "prior", None)
        if prior is not None and not prior.is_consistent:
            raise ModelFileError(f"{file.metadata.name}: its prior is damaged")
        return cls(file.model, file.spectrogram, file.metadata, file.device, file.record, file.model.settings)

    @property
    def generates(self) -> bool:
        """True if it has a prior."""
        return not self.lacks

    @property
    def makes_loops(self) -> bool:
        """True if it has a prior."""
        return self.generates

    def generate(
        self, count: int, seconds: float | None = None, seed: int = 0, moves: Mapping[str, float] | None = None,
        *, temperature: float | None = None, loop: bool = False,
    ) -> Iterator[Samples]:  # fmt: skip
        """Draw new sounds from the prior, as `LoadedFamily.generate` says; the n-th has the seed `seed` + n."""
        _refuse_moves(moves)
        asked = new_sounds.NewSounds(range(seed, seed + count), seconds, _usual(temperature))
        return (new_sounds.loop if loop else new_sounds.generate)(self, asked)

    def vary(self, sound: Path | str | Samples, strength: float, count: int = 1, seed: int = 0) -> Iterator[Samples]:
        """Draw codes from the prior that are near to those of a sound, as `LoadedFamily.vary` says."""
        return new_sounds.vary(self, self.waveform(sound), strength, range(seed, seed + count))

    def extend(
        self, sound: Path | str | Samples, seconds: float, seed: int = 0, temperature: float | None = None
    ) -> Samples:
        """Draw codes that follow those of a sound, as `LoadedFamily.extend` says."""
        return new_sounds.extend(self, self.waveform(sound), seconds, seed, _usual(temperature))

    def inpaint(self, sound: Path | str | Samples, start: float, end: float, seed: int = 0) -> Samples:
        """Draw codes between those of a sound, as `LoadedFamily.inpaint` says."""
        return new_sounds.inpaint(self, self.waveform(sound), start, end, seed)

    def morph(
        self, first: Path | str | Samples, second: Path | str | Samples, steps: int | Sequence[float] = 5,
        seconds: float | None = None, seed: int = 0, moves: Mapping[str, float] | None = None,
    ) -> Iterator[Samples]:  # fmt: skip
        """Draw codes that are near to both of two sounds, as `LoadedFamily.morph` says."""
        _refuse_moves(moves)
        new_sounds.check_seconds(seconds)
        ends = [self.waveform(sound) for sound in (first, second)]
        for sound in new_sounds.morph(self, ends[0], ends[1], shares_of(steps), seed):
            yield sound if seconds is None else new_sounds.finished(self, sound, seconds)

    def graphs(self) -> "list[Graph]":
        """Its encoder and decoder, and one step of its prior, if it has one."""
        from distill.models.graphs import codec_graphs

        return codec_graphs(self.model)

    @property
    def codebook(self) -> Codebook:
        """What there is to know of its codes."""
        vectors = self.model.quantizer.codebooks.cpu().numpy()
        return Codebook(vectors, self.column_seconds, self.column_seconds * (1 + self.model.grid.overlap))

    @torch.no_grad()
    def encode(self, sound: Path | str | Samples, sample_rate: int | None = None) -> Codes:
        """The codes of a sound, as `LoadedFamily.encode` says."""
        waveform = self.waveform(sound, sample_rate)
        mel = self.spectrogram.waveform_to_mel(mark_end(torch.from_numpy(waveform).to(self.device))[None, None])
        codes = self.model.encode_to_codes(mel)[0]
        grid = codes.T.reshape(codes.shape[-1], self.model.grid.rows, -1).cpu().numpy()
        return Codes(grid, self.metadata.model_id, len(waveform) / self.sample_rate)

    @torch.no_grad()
    def decode(self, codes: Codes) -> Samples:
        """The sound of codes, as `LoadedFamily.decode` says."""
        mel = self.model.decode_columns(self.columns_of(codes).unsqueeze(0))
        samples = max(1, round(codes.seconds * self.sample_rate))
        frames = self.spectrogram.frames(samples)
        sound: Samples = self.spectrogram.mel_to_waveform(mel[..., :frames], samples)[0, 0].cpu().numpy()
        return sound

    def columns_of(self, codes: Codes) -> Tensor:
        """The codes int64 `[W, H, q]`, column by column; raises `CodesError` unless they are this model's."""
        if codes.model != self.metadata.model_id:
            raise CodesError(
                f"these are codes of the model {codes.model!r}, not of {self.metadata.model_id!r}",
                "codes mean something to the model alone that made them",
            )
        quantizer, rows = self.model.quantizer, self.model.grid.rows
        levels, found, columns = codes.grid.shape
        if levels > quantizer.levels or found != rows or codes.grid.max() >= quantizer.size:
            raise CodesError(
                f"there are {levels} levels of {found} rows, with codes up to {codes.grid.max()}",
                f"this model has {quantizer.levels} levels of {rows} rows, with codes up to {quantizer.size - 1}",
            )
        longest = self.model.grid.frames(columns) * self.spectrogram.config.hop_length / self.sample_rate
        if self.spectrogram.frames(round(codes.seconds * self.sample_rate)) > self.model.grid.frames(columns):
            raise CodesError(f"the codes last {codes.seconds:g} s", f"so many columns last {longest:g} s at most")
        return torch.from_numpy(codes.grid.T.copy()).to(self.device)

    def codes_of_columns(self, columns: Tensor) -> Codes:
        """The inverse of `columns_of`: codes int64 `[W, H, q]` as a value, which lasts as long as its columns do."""
        samples = max(1, (self.model.grid.frames(len(columns)) - 1) * self.spectrogram.config.hop_length)
        return Codes(columns.permute(2, 1, 0).cpu().numpy(), self.metadata.model_id, samples / self.sample_rate)

    @property
    def column_samples(self) -> int:
        """The number of samples from one column of the grid to the next."""
        return self.model.grid.hop * self.spectrogram.config.hop_length

    @property
    def column_seconds(self) -> float:
        """The time in seconds from one column of the grid to the next."""
        return self.column_samples / self.sample_rate

    def _mel_to_mel(self, mel: Tensor, levels: int | None) -> Tensor:
        if levels is not None and not 1 <= levels <= self.model.quantizer.levels:
            raise ConfigError(f"levels is {levels}", f"this model has 1 to {self.model.quantizer.levels}")
        return self.model.reconstruct(mel, levels)


def _usual(temperature: float | None) -> float:
    return USUAL_TEMPERATURE if temperature is None else temperature


def _refuse_moves(moves: Mapping[str, float] | None) -> None:
    if moves:
        raise ConfigError(f"{next(iter(moves))!r} is not a direction of this model", "a model of codes has none")
