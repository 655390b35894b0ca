"""Training of a prior: the codes of a saved RVQ-VAE, learnt in a run of their own that ends in the same model file."""

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from distill.audio.io import write_wav
from distill.audio.recording import Samples
from distill.audio.spectrogram import AudioSpectrogram, mark_end
from distill.data.chunks import ChunkDataset
from distill.data.waveforms import Waveform
from distill.models.new_sounds import NewSounds, draw_codes, new_sounds
from distill.models.persistence import add_part_to_file, load_model_v2
from distill.models.prior import CodePrior, with_some_left_out
from distill.notices import Copying
from distill.training.config import PriorConfig
from distill.training.copying import Originals
from distill.training.metrics import USUALLY_COPIED, PriorEpochMetrics, PriorHistory, PriorStepMetrics
from distill.training.objective import Batch, EpochResult, Evaluation, Objective, StepResult
from distill.training.picture import draw_prior_run
from distill.training.preview_files import PreviewFile
from distill.training.request import TrainingRequest
from distill.training.run import Run
from distill.training.setup import run_device

logger = logging.getLogger(__name__)

PART = "prior"

_END_WEIGHT = 0.5  # of whether a column sounds, beside the mean of its codes
_START_VECTORS = 100_000
_PREVIEWS = 4
_DRAWN = 8  # sounds in each row of the picture
_DRAWN_S = 3.0  # of each, at most
_LEVELLED = 32  # new sounds that are compared with the collection in loudness, and in the end looked through for copies
_LOOKED_THROUGH = 16  # new sounds that are looked through for copies while the prior is trained
_LOOKED_EVERY = 5  # epochs
_COMPARED = 200  # sounds with which they are compared, at most
_COMPARED_S = 4.0  # of each, at most


def _loudness(sound: Samples) -> float:
    return float(np.sqrt(np.square(sound, dtype=np.float64).mean()))


class PriorObjective(Objective):
    """The objective of a prior: the information in the codes of the sounds, in bits."""

    terms: ClassVar[tuple[str, ...]] = ("code_bits", "end_bits")
    recordable = False  # which columns sound is looked up

    def __init__(self, config: PriorConfig) -> None:
        self.config: PriorConfig = config
        self._sounds: tuple[Sequence[Waveform], Sequence[Waveform]] = ((), ())

    def begin(self, run: Run) -> None:
        """Take the sounds of the run, for comparison with new ones."""
        train, held_out = (cast(ChunkDataset, loader.dataset).waveforms for loader in run.loaders)
        self._sounds = train, held_out

    @cached_property
    def _originals(self) -> Originals | None:
        """Some of the sounds; not made before it is needed, because some are still being decoded until then."""
        spectrogram = self.codec.spectrogram.config
        longest = round(_COMPARED_S * spectrogram.sample_rate)

        def heard(sounds: Sequence[Waveform]) -> list[Tensor]:
            beginnings = (sound[:longest] for sound in sounds[:: max(1, -(-len(sounds) // _COMPARED))])
            return [self._played(sound) for sound in beginnings if len(sound)]

        trained, held_out = self._sounds
        return Originals.of(heard(trained), heard(held_out), spectrogram.frame_rate)

    def build_model(self, request: TrainingRequest) -> CodePrior:
        """A `CodePrior` for the codes of the model; raises `ModelFileError`."""
        self.codec = load_model_v2(self.config.model_file, run_device(request))
        # Each level takes its nearest code, as in training: a search would take longer than the prior's step.
        self.codec.model.quantizer.beam = 1
        return CodePrior.for_codec(self.codec.model, self.config.model_settings())

    def ready(self, model: nn.Module) -> bool:
        """True once the frequencies of codes are known."""
        return bool(cast(CodePrior, model).started)

    def prepare(self, model: nn.Module, mels: Iterable[Tensor], check_cancelled: Callable[[], None]) -> None:
        """Count codes, and collect how long and loud sounds are, over the first batches."""
        seen: list[Tensor] = []
        vectors = 0
        for mel in mels:
            check_cancelled()
            seen.append(self._codes(mel))
            vectors += seen[-1].shape[:3].numel()
            if vectors >= _START_VECTORS:
                break
        if seen:
            cast(CodePrior, model).start_from(torch.cat(seen), self._codebooks)

    def evaluate(self, model: nn.Module, batch: Batch, progress: Tensor) -> Evaluation:
        """The information in the codes of a batch; the codes int64 `[B, W, H, Q]` are observed."""
        del progress
        prior, codes = cast(CodePrior, model), self._codes(batch.mel)
        asked = prior.conditions_of(codes, self._codebooks)
        bits = prior.bits(codes, self._codebooks, with_some_left_out(asked) if model.training else asked)
        code_bits = bits.levels.mean()
        terms = {"code_bits": code_bits.detach(), "end_bits": bits.end.detach()}
        return Evaluation((code_bits + _END_WEIGHT * bits.end,), terms, codes)

    def _picture(self, sound: Samples) -> Tensor:
        """The mel `[M, T]` of a sound float `[S]`, for the eye; of a long sound the beginning."""
        spectrogram = self.codec.spectrogram
        waveform = torch.from_numpy(sound[: round(_DRAWN_S * spectrogram.config.sample_rate)]).to(self.codec.device)
        return spectrogram.decibels(spectrogram.waveform_to_mel(mark_end(waveform)[None, None]))[0, 0]

    @torch.no_grad()
    def _played(self, sound: Samples) -> Tensor:
        """The mel `[M, T]`, linear in decibels, of a sound float `[S]` as the model plays it."""
        spectrogram, waveform = self.codec.spectrogram, torch.from_numpy(sound).to(self.codec.device)
        mel = self.codec.model.reconstruct(spectrogram.waveform_to_mel(mark_end(waveform)[None, None]))
        return spectrogram.decibels(mel)[0, 0]

    @torch.no_grad()
    def _copied(self, prior: CodePrior, count: int) -> float | None:
        """The share of new sounds that are near copies, or None where there is too little sound to tell."""
        if self._originals is None:
            return None
        codec = self.codec
        drawn = draw_codes(codec, prior, NewSounds(range(count)))
        mels = (codec.model.decode_columns(codes[None]) for codes in drawn)
        return self._originals.copied([codec.spectrogram.decibels(mel)[0, 0] for mel in mels])

    def _gain(self, prior: CodePrior, waveforms: Sequence[Waveform]) -> float:
        """The gain with which new sounds are as loud as those of the collection, by their medians."""
        prior.gain.fill_(1.0)
        made = [_loudness(sound) for sound in new_sounds(self.codec, prior, NewSounds(range(_LEVELLED)))]
        real = [_loudness(waveform[:]) for waveform in waveforms]
        return float(np.median(real) / max(float(np.median(made)), 1e-6))

    @torch.no_grad()
    def _codes(self, mel: Tensor) -> Tensor:
        """The codes int64 `[B, W, H, Q]` of mels `[B, 1, M, T]`."""
        codec = self.codec.model
        return codec.columns(codec.encode_to_codes(mel))

    @property
    def _codebooks(self) -> Tensor:
        return self.codec.model.quantizer.codebooks

    def step_event(self, model: nn.Module, step: StepResult, observed: Tensor) -> PriorStepMetrics:
        """The step's losses."""
        del model, observed
        return PriorStepMetrics(**step.fields())

    def epoch_event(self, model: nn.Module, epoch: EpochResult, observed: list[Tensor]) -> PriorEpochMetrics:
        """The epoch's losses beside those of code frequencies alone."""
        prior = cast(CodePrior, model)
        counts = [int((codes[..., 0, 0] >= 0).sum()) for codes in observed]
        unigrams = [float(prior.unigram_bits(codes)) * count for codes, count in zip(observed, counts) if count]
        look = (epoch.epoch + 1) % _LOOKED_EVERY == 0 or epoch.epoch + 1 == epoch.total_epochs
        copied = self._copied(prior, _LOOKED_THROUGH) if look else None
        unigram_bits = sum(unigrams) / max(1, sum(counts))
        return PriorEpochMetrics(**epoch.fields(), unigram_bits=unigram_bits, copied=copied)

    def preview(
        self, model: nn.Module, spectrogram: AudioSpectrogram, waveforms: Tensor, folder: Path, epoch: int
    ) -> list[Path]:
        """New sounds, of the same random numbers every time."""
        del spectrogram, waveforms
        sounds = new_sounds(self.codec, cast(CodePrior, model), NewSounds(range(_PREVIEWS)))
        return [
            write_wav(PreviewFile.place(folder, epoch, number, "new").path, sound, self.codec.sample_rate)
            for number, sound in enumerate(sounds, start=1)
        ]

    def conclude(self, run: Run, finished: bool) -> dict[str, Any]:
        """Add the prior to the model file, and draw a picture of new sounds."""
        if finished:
            prior = cast(CodePrior, run.best_model())
            waveforms = cast(ChunkDataset, run.loaders[0].dataset).waveforms
            prior.gain.fill_(self._gain(prior, waveforms))
            copied = self._copied(prior, _LEVELLED)
            if copied is not None and copied > USUALLY_COPIED:
                logger.warning(Copying(copied))
            run.model_path = add_part_to_file(Path(self.config.model_file), PART, prior)
            heard = [waveform[:] for waveform in waveforms[:: -(-len(waveforms) // _DRAWN)]]
            made = list(new_sounds(self.codec, prior, NewSounds(range(_DRAWN))))
            mels = ([self._picture(sound) for sound in sounds] for sounds in (heard, made))
            draw_prior_run(run.folder.picture_path, cast(PriorHistory, run.state.history), *mels)
        return {}
