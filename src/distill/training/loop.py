"""Training an RVQ-VAE: the forward pass and its loss, the events, and the model file at the end.

`VQVAEObjective` has everything that is particular to the family, `execution.py` the course of a run, which all families
share. `vae_loop.py` is the same for the continuous VAE.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from distill.audio.limits import AudioLimits
from distill.audio.spectrogram import AudioSpectrogram, SpectrogramConfig
from distill.data.batches import Loader
from distill.data.collection import Sound
from distill.models.losses import vqvae_loss
from distill.models.persistence import save_model_v2
from distill.models.quantizer import NO_CODE
from distill.models.vqvae import ConvVQVAE
from distill.training.conclusion import metadata, save_and_draw, training_config, validation_example
from distill.training.config import VQVAEConfig
from distill.training.engine import Totals, train_steps, validate
from distill.training.execution import run_training
from distill.training.health import low_levels
from distill.training.metrics import (
    CodebookHealth,
    History,
    MetricsCallback,
    VQEpochMetrics,
    VQMetricsHistory,
    VQStepMetrics,
)
from distill.training.objective import Batch, Context, EpochResult, Evaluation, Objective, StepResult
from distill.training.picture import draw_vqvae_run
from distill.training.preview import generate_vqvae_reconstruction_preview
from distill.training.prior_request import prior_request
from distill.training.request import TrainingRequest
from distill.training.run import Run
from distill.training.step import TrainStep
from distill.training.vae_loop import train, train_epoch, validate_epoch

# The functions of both families can be imported from here.
__all__ = [
    "VQVAEObjective",
    "train",
    "train_epoch",
    "train_vqvae",
    "train_vqvae_epoch",
    "validate_epoch",
    "validate_vqvae_epoch",
]

logger = logging.getLogger(__name__)

_HEALTH_INTERVAL = 10  # steps
_CODEC_SHARE = 2 / 3  # of a budget of minutes, where a prior is trained after the codec
_START_VECTORS = 150_000  # that the start of a model is based on: more find no better components


class VQVAEObjective(Objective):
    """The objective of the RVQ-VAE: reconstruction plus weighted commitment; codebook health is observed beside it."""

    terms: ClassVar[tuple[str, ...]] = ("recon_loss", "commit_loss")
    result_keys: ClassVar[tuple[str, ...]] = ("final_codebook_health",)

    def __init__(self, config: VQVAEConfig) -> None:
        self.config, self.commitment_weight = config, config.commitment_weight
        if config.with_prior:
            self.budget_share = _CODEC_SHARE

    def build_model(self, request: TrainingRequest) -> ConvVQVAE:
        """A `ConvVQVAE` for the bands of the request's mel."""
        return ConvVQVAE(**self.config.model_settings(), n_mels=request.spectrogram_config.rows)

    def ready(self, model: nn.Module) -> bool:
        """True once the codebooks are initialized."""
        return not isinstance(model, ConvVQVAE) or model.quantizer.ready

    def prepare(self, model: nn.Module, mels: Iterable[Tensor], check_cancelled: Callable[[], None]) -> None:
        """Initialize linear maps and codebooks from as many batches as k-means has use for (`ConvVQVAE.start_from`)."""
        assert isinstance(model, ConvVQVAE)
        seen: list[Tensor] = []
        vectors = 0
        for mel in mels:
            check_cancelled()
            seen.append(mel)
            # A vector for each grid row of each column that sounds: silent columns are not coded.
            vectors += int(model.grid.sounding(mel).sum()) * model.grid.rows
            if vectors >= _START_VECTORS:
                break
        model.start_from(seen, check_cancelled)

    def evaluate(self, model: nn.Module, batch: Batch, progress: Tensor) -> Evaluation:
        """One forward pass and its loss; the codes int64 `[B, H·W, Q]` are observed for codebook health."""
        del progress  # the commitment weight is constant
        mel = batch.mel
        recon, indices, commit_loss = model(mel)
        total, recon_loss, weighted_commit = vqvae_loss(recon, mel, commit_loss, self.commitment_weight, batch.power)
        terms = {"recon_loss": recon_loss.detach(), "commit_loss": weighted_commit.detach()}
        return Evaluation((total,), terms, indices)

    def step_event(self, model: nn.Module, step: StepResult, observed: Tensor) -> VQStepMetrics:
        """The step's losses, and every tenth step the health of its batch."""
        fresh = step.epoch == 0 and step.step == 0  # k-means has only just run: the figures would mislead
        due = step.step % _HEALTH_INTERVAL == 0 and not fresh
        return VQStepMetrics(
            **step.fields(),
            commitment_weight=self.commitment_weight,
            codebook_health=_health(model, [observed]) if due else None,
        )

    def epoch_event(self, model: nn.Module, epoch: EpochResult, observed: list[Tensor]) -> VQEpochMetrics:
        """The epoch's losses and the health of the whole validation set, with warnings from the second epoch on."""
        health = _health(model, observed)
        low = low_levels(health, cast(ConvVQVAE, model).quantizer.size, _coded(observed)) if epoch.epoch >= 1 else []
        for notice in low:
            logger.warning(notice)
        return VQEpochMetrics(**epoch.fields(), codebook_health=health, utilization_warnings=list(map(str, low)))

    def run_info(self, observed: list[Tensor]) -> dict[str, Any]:
        """The number of coded vectors, over which health figures are counted."""
        return {"validation_vectors": _coded(observed)}

    def code_counts(self, model: nn.Module, observed: list[Tensor]) -> Tensor:
        """The number of uses of each code over the validation set: int64 `[Q, K]`."""
        return cast(ConvVQVAE, model).quantizer.code_counts(_joined(observed))

    def checkpoint_fields(self, history: History[Any, Any]) -> dict[str, Any]:
        """The commitment weight and the latest health."""
        health = history.epoch_metrics[-1].codebook_health if history.epoch_metrics else None
        return {"commitment_weight": self.commitment_weight, "codebook_health": health}

    def preview(
        self, model: nn.Module, spectrogram: AudioSpectrogram, waveforms: Tensor, folder: Path, epoch: int
    ) -> list[Path]:
        """Pairs of original and reconstruction; without a prior, an RVQ-VAE cannot make new sounds."""
        rate = spectrogram.config.sample_rate
        return generate_vqvae_reconstruction_preview(
            cast(ConvVQVAE, model), spectrogram, waveforms, folder, epoch, waveforms.device, rate
        )

    def conclude(self, run: Run, finished: bool) -> dict[str, Any]:
        """Record the health of the best epoch; save the model and draw the use of its codes."""
        model, history = cast(ConvVQVAE, run.best_model()), cast(VQMetricsHistory, run.state.history)
        best = run.state.best_epoch  # -1 where no epoch was finished
        health = history.epoch_metrics[best].codebook_health if best >= 0 else None
        run.update_info(final_codebook_health=health)

        def save(models_dir: Path) -> Path:
            return save_model_v2(
                model, run.context.spectrogram.config, self.config, training_config(run), metadata(run),
                models_dir, codebook_health=health, loss_curve_history=history.get_loss_curves(),
            )  # fmt: skip

        def draw(path: Path) -> None:
            draw_vqvae_run(path, history, _collection_counts(run, model), *validation_example(run, model.reconstruct))

        if finished:
            save_and_draw(run, save, draw)
        return {"final_codebook_health": health}

    def part_request(self, request: TrainingRequest, run: Run) -> TrainingRequest | None:
        """The request for the prior, unless it is trained already, or is not wanted."""
        return prior_request(request, run) if self.config.with_prior else None


def _joined(observed: Sequence[Tensor]) -> Tensor:
    """Codes int64 `[N, Q]` of batches `[B, H·W, Q]`."""
    return torch.cat([codes.flatten(0, 1) for codes in observed])


def _health(model: nn.Module, observed: Sequence[Tensor]) -> CodebookHealth:
    """The health of the codebooks over codes `[B, H·W, Q]`, batch by batch."""
    return cast(ConvVQVAE, model).quantizer.get_codebook_utilization(_joined(observed))


def _coded(observed: Sequence[Tensor]) -> int:
    """The number of vectors that have a code."""
    return int(sum((codes[..., 0] != NO_CODE).sum() for codes in observed))


def _collection_counts(run: Run, model: ConvVQVAE) -> Tensor:
    """The number of uses of each code over the whole collection: int64 `[Q, K]`."""
    codes = [model.encode_to_codes(mel) for loader in run.loaders for mel in run.context.mels(loader)]
    return model.quantizer.code_counts(_joined(codes))


# The family as plain functions: one epoch, one validation, a whole run


def _context(
    model: nn.Module, spectrogram: AudioSpectrogram, device: torch.device | str, commitment_weight: float
) -> Context:
    objective = VQVAEObjective(VQVAEConfig(commitment_weight=commitment_weight))
    return Context(objective, model, spectrogram, torch.device(device))


def train_vqvae_epoch(
    model: nn.Module,
    train_loader: Loader,
    optimizer: Optimizer,
    spectrogram: AudioSpectrogram,
    device: torch.device | str,
    gradient_clip_norm: float,
    commitment_weight: float = 0.25,
    epoch: int = 0,
    callback: MetricsCallback | None = None,
    cancel_event: threading.Event | None = None,
) -> dict[str, float]:
    """Train for one epoch over waveforms `[B, 1, S]`, or mels `[B, 1, M, T]`.

    Returns the means per example of `train_loss`, `recon_loss` and `commit_loss`. A step whose loss is not finite is
    skipped; `cancel_event` ends the epoch between two steps.
    """
    context, totals = _context(model, spectrogram, device, commitment_weight), Totals()
    train_step = TrainStep(context, [optimizer], gradient_clip_norm)
    train_steps(train_step, train_loader, epoch, totals, callback=callback, cancel_event=cancel_event)
    return {name: totals.mean(name) for name in ("train_loss", "recon_loss", "commit_loss")}


def validate_vqvae_epoch(
    model: nn.Module,
    val_loader: Loader,
    spectrogram: AudioSpectrogram,
    device: torch.device | str,
    commitment_weight: float = 0.25,
) -> dict[str, Any]:
    """`val_loss`, `val_recon_loss`, `val_commit_loss` (means per example) and `codebook_health` over the whole set."""
    means, observed = validate(_context(model, spectrogram, device, commitment_weight), val_loader)
    return {**means, "codebook_health": _health(model, observed)}


def train_vqvae(
    config: VQVAEConfig,
    file_paths: Sequence[Path | str],
    output_dir: Path | str,
    device: torch.device | str = "auto",
    callback: MetricsCallback | None = None,
    cancel_event: threading.Event | None = None,
    models_dir: Path | str | None = None,
    dataset_name: str = "",
    model_name: str = "",
    resume_from: Path | str | None = None,
    spectrogram_config: SpectrogramConfig | None = None,
    audio_limits: AudioLimits | None = None,
    sounds: Sequence[Sound] | None = None,
) -> dict[str, Any]:
    """Train an RVQ-VAE on sound files, in the run folder `output_dir`; `run_training` with its arguments one by one.

    Returns `{model, metrics_history, output_dir, best_checkpoint_path, final_codebook_health}`; the model has the
    weights of the best validation epoch. With `models_dir` it is saved there as well. `resume_from` is a checkpoint
    or a run folder. `sounds` is the content of the files at the spectrogram's rate, where they have been opened before.
    A cancellation leaves a checkpoint to resume from, or nothing where the run had not begun yet.
    Raises `CollectionError`, `CheckpointError`, `StorageError`, `TrainingError`.
    """
    request = TrainingRequest.of_arguments(
        "vqvae", config, file_paths, output_dir, device=device, models_dir=models_dir, dataset_name=dataset_name,
        model_name=model_name, resume_from=resume_from, spectrogram_config=spectrogram_config,
        audio_limits=audio_limits, sounds=sounds,
    )  # fmt: skip
    return run_training(request, callback, cancel_event)
