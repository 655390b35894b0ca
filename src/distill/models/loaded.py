"""Loaded models of any family, ready for use: sounds in, sounds out."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from distill.audio.limiter import fade_in, limit_peaks
from distill.audio.recording import Recording, Samples
from distill.audio.spectrogram import AudioSpectrogram
from distill.errors import AudioError, ConfigError, GeneratingFamily
from distill.families import Family, all_families, get_family
from distill.library.header import ModelMetadata
from distill.models.codes import Codebook, Codes
from distill.models.format import TrainingRecord, model_content, write_content
from distill.models.reconstruct import CONTEXT, reconstruct_mel, reconstruct_waveform
from distill.models.stereo import joined

if TYPE_CHECKING:
    from distill.models.format import CheckedFile
    from distill.models.graphs import Graph

_MAX_CHANNELS = 8  # of an array, as of a file: more are samples, in an array that has its axes the other way round


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

    @property
    def codebook(self) -> Codebook | None:
        """What there is to know of its codes; None where the family has none."""
        return None

    def encode(self, sound: Path | str | Samples, sample_rate: int | None = None) -> Codes:
        """The codes of a sound, given as to `reconstruct`; stereo is mixed. Raises `AudioError`, `ConfigError`."""
        del sound, sample_rate
        raise self._no_codes()

    def decode(self, codes: Codes) -> Samples:
        """The sound float32 `[S]` of codes of this very model, changed or not; raises `CodesError`, `ConfigError`.

        Without its last levels of codes it is the coarser sound of the others.
        """
        del codes
        raise self._no_codes()

    def graphs(self) -> "list[Graph]":
        """Its networks as graphs for other programs; raises `ConfigError` where the family has none."""
        raise ConfigError(f"{self.metadata.name!r} is a {self.family_name} model, which has no graphs to export")

    def directions(self) -> dict[str, list[float]]:
        """The directions in which new sounds can be moved, each with its safe range in standard deviations."""
        return {}

    @property
    def generates(self) -> bool:
        """True if it makes new sounds."""
        return False

    @property
    def makes_loops(self) -> bool:
        """True if `generate` makes sounds whose end meets their beginning."""
        return False

    def generate(
        self, count: int, seconds: float | None = None, seed: int = 0, moves: Mapping[str, float] | None = None,
        *, temperature: float | None = None, loop: bool = False,
    ) -> Iterator[Samples]:  # fmt: skip
        """Generate new sounds, float32 `[S]` each: the n-th, from 0, is the one that `seed` + n gives alone.

        Without `seconds`, they last as long as those of the collection. `moves` says how far to move them along named
        directions, in standard deviations; with a `temperature` below 1, what is usual is made more often; the end of a
        `loop` meets its beginning. Raises `ConfigError` where the model cannot do it.
        """
        del count, seconds, seed, moves, temperature, loop
        raise self._no_new_sounds()

    def vary(self, sound: Path | str | Samples, strength: float, count: int = 1, seed: int = 0) -> Iterator[Samples]:
        """Sounds float32 `[S]` that differ from one as far as `strength`, 0 (as reconstructed) to 1 (a new sound).

        The n-th, from 0, is the one that `seed` + n gives alone. The sound is given as to `reconstruct`. Raises
        `ConfigError` where the model cannot do it, or for other numbers.
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

    def morph(
        self, first: Path | str | Samples, second: Path | str | Samples, steps: int | Sequence[float] = 5,
        seconds: float | None = None, seed: int = 0, moves: Mapping[str, float] | None = None,
    ) -> Iterator[Samples]:  # fmt: skip
        """Sounds float32 `[S]` on the way from one sound to another, each one of its own; raises as `generate` does.

        There are `steps` of them, both ends included, or one for each of the shares (0 to 1) that are given. Sounds are
        given as to `reconstruct`. Without `seconds`, their lengths lie between those of the two.
        """
        del first, second, steps, seconds, seed, moves
        raise self._no_new_sounds()

    def save(self, path: Path | str) -> Path:
        """Write the model to a file, in place of one that is there, outside any library; raises `StorageError`."""
        content = model_content(self.family, self.model, self.spectrogram.config, self.metadata, self.training_record)
        return write_content(Path(path), content)

    @property
    def training_record(self) -> TrainingRecord:
        """What is known of how it was trained."""
        record = getattr(self.model, "training_record", None)
        return record if isinstance(record, TrainingRecord) else TrainingRecord()

    def _no_codes(self) -> ConfigError:
        return ConfigError(f"{self.metadata.name!r} is a {self.family_name} model, which has no codes")

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
        else:
            samples = _checked(np.asarray(sound, np.float32))
            recording = Recording(
                samples.reshape(len(samples), -1), sample_rate or self.sample_rate, "array", len(samples)
            )
        return recording.mono(self.sample_rate) if mono else recording.mono_or_stereo(self.sample_rate)


def shares_of(steps: int | Sequence[float]) -> Sequence[float]:
    """The shares of the way for so many steps, both ends included, or those that are given; raises `ConfigError`."""
    shares = np.linspace(0, 1, steps).tolist() if isinstance(steps, int) and steps >= 2 else steps
    if isinstance(shares, int) or not all(0 <= share <= 1 for share in shares):
        raise ConfigError(f"steps is {steps}", "it must be 2 or more, or shares of the way from 0 to 1")
    return shares


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
