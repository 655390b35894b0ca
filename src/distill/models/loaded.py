"""Loaded models, ready for use: sounds in, sounds out."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import soxr
import torch
from torch import Tensor, nn

from distill.audio.limiter import fade_in, limit_peaks
from distill.audio.recording import Samples
from distill.audio.spectrogram import AudioSpectrogram, mark_end
from distill.errors import AudioError, ConfigError, GeneratingFamily, ModelFileError
from distill.families import Family, all_families, get_family
from distill.library.header import ModelMetadata
from distill.models.reconstruct import CONTEXT, reconstruct_mel, reconstruct_waveform
from distill.models.settings import USUAL_TEMPERATURE
from distill.models.stereo import joined
from distill.models.vae import ConvVAE
from distill.models.vqvae import ConvVQVAE

if TYPE_CHECKING:
    from distill.models.format import CheckedFile

_MAX_CHANNELS = 8  # of an array, as of a file: more are samples, in an array that has its axes the other way round


@dataclass(frozen=True)
class CodeGrid:
    """The codes of a sound, int64 `[Q, H, W]` with -1 where nothing sounds, and what there is to know of each code."""

    codes: Tensor
    counts: Tensor  # of its uses in the sound, [Q, K]
    codebooks: Tensor  # [Q, K, D]
    column_seconds: float  # from one column to the next
    span_seconds: float  # that a column describes; where columns overlap, the first begins before the sound does


class LoadedFamily(ABC):
    """A loaded model of any family, which reconstructs sounds and, depending on the family, has codes or generates.

    What a family does not support has a default here, so that callers need not ask for the family.
    """

    model: nn.Module
    spectrogram: AudioSpectrogram
    metadata: ModelMetadata
    device: torch.device
    family_name: ClassVar[str]

    @classmethod
    @abstractmethod
    def from_file(cls, file: "CheckedFile") -> Self:
        """The model of a file that was checked."""

    @property
    def family(self) -> Family:
        """The row of its family in the registry."""
        return get_family(self.family_name)

    @property
    def lacks(self) -> list[str]:
        """The parts that models of its family can have and this one lacks."""
        return [name for name in self.family.file.parts if not hasattr(self.model, name)]

    @abstractmethod
    def _mel_to_mel(self, mel: Tensor, levels: int | None) -> Tensor:
        """Reconstruct a mel `[1, 1, M, T]`; raises `ConfigError` for levels that the model does not have."""

    def _context(self) -> int:
        """The number of frames on either side of a block of a long sound that the model has to see with it."""
        return CONTEXT

    def code_grid(self, sound: Path | str | Samples, sample_rate: int | None = None) -> CodeGrid | None:
        """The codes of a sound, given as to `reconstruct`; None where the family has no codes."""
        del sound, sample_rate
        return None

    def directions(self) -> dict[str, list[float]]:
        """The directions in which new sounds can be moved, each with its safe range in standard deviations."""
        return {}

    @property
    def generates(self) -> bool:
        """True if it makes new sounds."""
        return False

    def generate(
        self, count: int, seed: int = 0, seconds: float | None = None, moves: Mapping[str, float] | None = None,
        *, temperature: float | None = None, loop: bool = False,
    ) -> Iterator[Samples]:  # fmt: skip
        """Generate new sounds, float32 `[S]` each; the same seed gives the same sounds.

        Without `seconds`, they last as long as those of the collection. `moves` says how far to move them along named
        directions, in standard deviations; with a `temperature` below 1, what is usual is made more often; the end of a
        `loop` meets its beginning. Raises `ConfigError` where the model cannot do it.
        """
        del count, seed, seconds, moves, temperature, loop
        raise self._no_new_sounds()

    def vary(self, sound: Path | str | Samples, strength: float, count: int = 1, seed: int = 0) -> Iterator[Samples]:
        """Sounds float32 `[S]` that differ from one as far as `strength`, 0 (as reconstructed) to 1 (a new sound).

        The sound is given as to `reconstruct`. Raises `ConfigError` where the model cannot do it, or for other numbers.
        """
        del sound, strength, count, seed
        raise self._no_new_sounds()

    def extend(
        self, sound: Path | str | Samples, seconds: float, seed: int = 0, temperature: float | None = None
    ) -> Samples:
        """A sound, as reconstructed, and `seconds` of how it could go on: float32 `[S]`; raises as `vary` does."""
        del sound, seconds, seed, temperature
        raise self._no_new_sounds()

    def inpaint(self, sound: Path | str | Samples, start: float, end: float, seed: int = 0) -> Samples:
        """A sound, as reconstructed, but what is from `start` to `end` (seconds) is new; raises as `vary` does."""
        del sound, start, end, seed
        raise self._no_new_sounds()

    def interpolate(
        self, first: Path | str | Samples, second: Path | str | Samples, shares: Sequence[float],
        seconds: float | None = None, moves: Mapping[str, float] | None = None,
    ) -> Iterator[Samples]:  # fmt: skip
        """Sounds float32 `[S]` at `shares` (0 to 1) of the way from one sound to another; raises as `generate` does.

        Sounds are given as to `reconstruct`. Without `seconds`, each lasts as long as the longer of the two, but not
        longer than one chunk.
        """
        del first, second, shares, seconds, moves
        raise self._no_new_sounds()

    def _no_new_sounds(self) -> ConfigError:
        others = " or ".join(family.name for family in all_families() if family.generates)
        return ConfigError(
            f"{self.metadata.name!r} is a {self.family_name} model, which makes no new sounds", GeneratingFamily(others)
        )

    @property
    def sample_rate(self) -> int:
        """The rate in Hz of what `reconstruct` returns."""
        return self.spectrogram.config.sample_rate

    def reconstruct(
        self,
        sound: Path | str | Samples,
        sample_rate: int | None = None,
        levels: int | None = None,
        *,
        mono: bool = False,
    ) -> Samples:
        """Reconstruct a sound file, or float `[S]` or `[S, channels]` at `sample_rate`: float32 `[S']` or `[S', 2]`.

        The result is at the model's rate and lasts as long as the sound; `levels` limits it to the first levels of
        codes. It is stereo if the sound is (`distill.models.stereo`). Other numbers of channels are mixed to mono, and
        with `mono` stereo too. Raises `AudioError` for an unreadable file, `ConfigError` for impossible levels.
        """
        heard = self.heard(sound, sample_rate, mono=mono)
        if heard.ndim == 1:
            return self._reconstruct_mono(heard, levels)
        left, right = torch.from_numpy(np.ascontiguousarray(heard.T)).to(self.device)
        if torch.equal(left, right):  # a mono sound is often kept in a stereo file
            return self._reconstruct_mono(heard[:, 0].copy(), levels)[:, None].repeat(2, axis=1)
        return self._reconstruct_stereo(left, right, levels)

    def _reconstruct_mono(self, waveform: Samples, levels: int | None) -> Samples:
        """Reconstruct float32 `[S]` at the model's rate: float32 `[S]`."""
        made = reconstruct_waveform(
            lambda mel: self._mel_to_mel(mel, levels),
            self.spectrogram,
            torch.from_numpy(waveform).to(self.device),
            self._context(),
        )
        samples: Samples = made.cpu().numpy()
        return samples

    def _reconstruct_stereo(self, left: Tensor, right: Tensor, levels: int | None) -> Samples:
        """Reconstruct float32 `[S]` each at the model's rate: float32 `[S, 2]`."""
        spectrogram, sounds = self.spectrogram, (left, right, (left + right) / 2, (left - right) / 2)
        mels = [
            reconstruct_mel(lambda mel: self._mel_to_mel(mel, levels), spectrogram, sound, self._context())
            for sound in sounds
        ]
        mid_side = torch.cat([spectrogram.mel_to_waveform(mel, length=len(left))[0] for mel in mels[2:]])
        scale = spectrogram.mel_scale
        bands = [scale.magnitudes(mel[0, 0, : scale.config.n_mels].mT) for mel in mels[:3]]
        made = joined(mid_side, torch.stack(bands[:2]), bands[2], scale, spectrogram.window)
        samples: Samples = fade_in(limit_peaks(made.unsqueeze(1)))[:, 0].T.contiguous().cpu().numpy()
        return samples

    def waveform(self, sound: Path | str | Samples, sample_rate: int | None = None) -> Samples:
        """A sound, given as to `reconstruct`, as mono float32 `[S]` at the model's rate; raises `AudioError`."""
        return self.heard(sound, sample_rate, mono=True)

    def heard(self, sound: Path | str | Samples, sample_rate: int | None = None, *, mono: bool = False) -> Samples:
        """A sound, given as to `reconstruct`, at the model's rate: float32 `[S, 2]` if stereo, else the mix `[S]`.

        With `mono`, stereo is mixed as well. Raises `AudioError`.
        """
        if isinstance(sound, Path | str):
            from distill.audio.io import read_recording  # imported late: loading a model need not wait for the decoder

            recording = read_recording(Path(sound))
            return recording.mono(self.sample_rate) if mono else recording.mono_or_stereo(self.sample_rate)
        samples = _checked(np.asarray(sound, np.float32))
        if samples.ndim == 2 and (mono or samples.shape[1] != 2):
            samples = samples.mean(axis=1)
        resampled = soxr.resample(samples, sample_rate or self.sample_rate, self.sample_rate)
        return np.asarray(resampled, dtype=np.float32)


def _refuse_moves(moves: Mapping[str, float] | None) -> None:
    if moves:
        raise ConfigError(f"{next(iter(moves))!r} is not a direction of this model", "a model of codes has none")


def _checked(samples: Samples) -> Samples:
    """Return `samples`; raises `AudioError` unless they are finite numbers `[S]` or `[S, channels]`."""
    channels = samples.shape[1] if samples.ndim == 2 else 1
    if samples.ndim not in (1, 2) or not 1 <= channels <= _MAX_CHANNELS or len(samples) == 0:
        raise AudioError(
            f"expected samples [S], or [S, channels] with up to {_MAX_CHANNELS} channels; "
            f"found an array of shape {samples.shape}"
        )
    if not np.isfinite(samples).all():
        raise AudioError("expected finite numbers as samples; found others among them")
    return samples


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

    def generate(
        self, count: int, seed: int = 0, seconds: float | None = None, moves: Mapping[str, float] | None = None,
        *, temperature: float | None = None, loop: bool = False,
    ) -> Iterator[Samples]:  # fmt: skip
        """Draw new sounds from the prior, as `LoadedFamily.generate` says; the n-th has the seed `seed` + n."""
        from distill.models import new_sounds  # imported late: it imports this module

        _refuse_moves(moves)
        asked = new_sounds.NewSounds(range(seed, seed + count), seconds, temperature or USUAL_TEMPERATURE)
        return (new_sounds.loop if loop else new_sounds.generate)(self, asked)

    def vary(self, sound: Path | str | Samples, strength: float, count: int = 1, seed: int = 0) -> Iterator[Samples]:
        """Draw codes from the prior that are near to those of a sound, as `LoadedFamily.vary` says."""
        from distill.models import new_sounds

        return new_sounds.vary(self, self.waveform(sound), strength, range(seed, seed + count))

    def extend(
        self, sound: Path | str | Samples, seconds: float, seed: int = 0, temperature: float | None = None
    ) -> Samples:
        """Draw codes that follow those of a sound, as `LoadedFamily.extend` says."""
        from distill.models import new_sounds

        return new_sounds.extend(self, self.waveform(sound), seconds, seed, temperature or USUAL_TEMPERATURE)

    def inpaint(self, sound: Path | str | Samples, start: float, end: float, seed: int = 0) -> Samples:
        """Draw codes between those of a sound, as `LoadedFamily.inpaint` says."""
        from distill.models import new_sounds

        return new_sounds.inpaint(self, self.waveform(sound), start, end, seed)

    def interpolate(
        self, first: Path | str | Samples, second: Path | str | Samples, shares: Sequence[float],
        seconds: float | None = None, moves: Mapping[str, float] | None = None,
    ) -> Iterator[Samples]:  # fmt: skip
        """Draw codes that are near to both of two sounds, as `LoadedFamily.interpolate` says."""
        from distill.models import new_sounds

        _refuse_moves(moves)
        ends = [self.waveform(sound) for sound in (first, second)]
        for sound in new_sounds.morph(self, ends[0], ends[1], shares, seed=0):
            yield sound if seconds is None else new_sounds.finished(self, sound, seconds)

    @torch.no_grad()
    def codes(self, sound: Path | str | Samples, sample_rate: int | None = None) -> Tensor:
        """The grid of codes int64 `[Q, H, W]` of a sound, given as to `reconstruct`; -1 where nothing sounds."""
        waveform = torch.from_numpy(self.waveform(sound, sample_rate)).to(self.device)
        codes = self.model.encode_to_codes(self.spectrogram.waveform_to_mel(mark_end(waveform)[None, None]))
        return codes[0].T.reshape(codes.shape[-1], self.model.grid.rows, -1).cpu()

    def code_grid(self, sound: Path | str | Samples, sample_rate: int | None = None) -> CodeGrid:
        """The codes of a sound, given as to `reconstruct`, and their use counts."""
        codes = self.codes(sound, sample_rate)
        quantizer, step = self.model.quantizer, self.column_seconds
        counts = quantizer.code_counts(codes.flatten(1).T)
        return CodeGrid(codes, counts, quantizer.codebooks.cpu(), step, step * (1 + self.model.grid.overlap))

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
        self, count: int, seed: int = 0, seconds: float | None = None, moves: Mapping[str, float] | None = None,
        *, temperature: float | None = None, loop: bool = False,
    ) -> Iterator[Samples]:  # fmt: skip
        """Generate new sounds, as `LoadedFamily.generate` says; a long one goes on towards the next and back."""
        from distill.models.generate import move, render, sample_latents  # imported late: it imports this module

        if loop:
            raise ConfigError("a continuous VAE makes no loops")
        latents = move(self, sample_latents(self, count, seed, temperature or 1.0), moves or {})
        for latent, towards in zip(latents, latents.roll(-1, dims=0)):  # a single one is its own next, and stays
            yield render(self, latent, 1.0 if seconds is None else seconds, towards)

    def vary(self, sound: Path | str | Samples, strength: float, count: int = 1, seed: int = 0) -> Iterator[Samples]:
        """Sounds on the way from the latent of a sound to new ones, as `LoadedFamily.vary` says."""
        from distill.models.generate import vary

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

    def interpolate(
        self, first: Path | str | Samples, second: Path | str | Samples, shares: Sequence[float],
        seconds: float | None = None, moves: Mapping[str, float] | None = None,
    ) -> Iterator[Samples]:  # fmt: skip
        """Sounds on a straight line between the latents of two sounds, as `LoadedFamily.interpolate` says."""
        from distill.models.generate import between, move, render

        start, end = self.waveform(first), self.waveform(second)
        longest = self.model.frames * self.spectrogram.config.hop_length
        length = seconds or min(max(len(start), len(end)), longest) / self.sample_rate
        for share in shares:
            yield render(self, move(self, between(self, start, end, share), moves or {}), length)

    def _mel_to_mel(self, mel: Tensor, levels: int | None) -> Tensor:
        if levels is not None:
            raise ConfigError("this model is a continuous VAE: it has no levels of codes")
        return self.model.reconstruct(mel)

    def _context(self) -> int:
        # Enough for every window that a frame is seen through, and a multiple of their hop, so that all blocks of a
        # long sound have their windows at the same places.
        return -(-self.model.frames // CONTEXT) * CONTEXT
