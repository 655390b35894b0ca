"""Where the two families meet the engine: forward passes, losses, events and model files.

Read `train_vqvae` for the whole course of a run; what both families share is in `engine.py`.
"""

import logging
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from distill.audio.spectrogram import AudioSpectrogram, SpectrogramConfig
from distill.models.blocks import STRIDE
from distill.models.grid import sounding_columns
from distill.models.losses import vqvae_loss
from distill.models.persistence import save_model_v2
from distill.models.quantizer import NO_CODE
from distill.models.vqvae import ConvVQVAE
from distill.training.checkpoint import best_checkpoint
from distill.training.config import VQVAEConfig
from distill.training.dataset import Loader
from distill.training.engine import (
    Epoch,
    Evaluation,
    Family,
    Step,
    Totals,
    Workbench,
    train_steps,
    validate,
)
from distill.training.health import utilization_warnings
from distill.training.metrics import (
    CodebookHealth,
    MetricsCallback,
    MetricsHistory,
    VQEpochMetrics,
    VQMetricsHistory,
    VQStepMetrics,
)
from distill.training.picture import draw_vqvae_run
from distill.training.preview import generate_vqvae_reconstruction_preview
from distill.training.run import RunRequest, set_up
from distill.training.trainer import Trainer

logger = logging.getLogger(__name__)

_HEALTH_INTERVAL = 10  # steps
_KMEANS_VECTORS_PER_CODE = 64


class VQFamily(Family):
    """The RVQ-VAE: reconstruction plus weighted commitment, codebook health beside it."""

    name: ClassVar[str] = "vqvae"

    def __init__(self, commitment_weight: float) -> None:
        self.commitment_weight = commitment_weight

    def prepare(self, model: nn.Module, mels: Iterable[Tensor]) -> None:
        """Place the codebooks by k-means over many batches, if no step has done so yet."""
        if not isinstance(model, ConvVQVAE) or model.quantizer.ready:
            return
        wanted, vectors = _KMEANS_VECTORS_PER_CODE * model.quantizer.size, []
        model.eval()
        with torch.no_grad():
            for mel in mels:
                encoded = model.encode(mel).movedim(1, -1)  # [B, H, W, D]
                coded = sounding_columns(mel)[:, None].expand(encoded.shape[:3])
                vectors.append(encoded[coded])
                if sum(map(len, vectors)) >= wanted:
                    break
            model.quantizer.initialize(torch.cat(vectors), batches=len(vectors))
        model.train()

    def evaluate(self, model: nn.Module, mel: Tensor) -> Evaluation:
        """One forward pass and its loss; the codes are what health is read from."""
        recon, indices, commit_loss = model(mel)
        total, recon_loss, weighted_commit = vqvae_loss(recon, mel, commit_loss, self.commitment_weight)
        terms = {"recon_loss": recon_loss.detach(), "commit_loss": weighted_commit.detach()}
        return Evaluation(total, terms, indices)

    def step_event(self, model: nn.Module, step: Step, observed: Tensor) -> VQStepMetrics:
        """The step's losses, and every tenth step the health of its batch."""
        fresh = step.epoch == 0 and step.step == 0  # k-means has only just run: its figure would mislead
        due = step.step % _HEALTH_INTERVAL == 0 and not fresh
        return VQStepMetrics(
            epoch=step.epoch,
            step=step.step,
            total_steps=step.total_steps,
            **step.losses,
            commitment_weight=self.commitment_weight,
            learning_rate=step.learning_rate,
            step_time_s=step.step_time_s,
            codebook_health=_health(model, observed) if due else None,
        )

    def epoch_event(self, model: nn.Module, epoch: Epoch, observed: list[Tensor]) -> VQEpochMetrics:
        """The epoch's losses and the health of the whole validation set, with warnings from the second epoch on."""
        indices = torch.cat([codes.flatten(0, 1) for codes in observed])
        health = _health(model, indices)
        warnings: list[str] = []
        if epoch.epoch >= 1:
            vectors = int((indices[:, 0] != NO_CODE).sum())
            warnings = utilization_warnings(health, cast(ConvVQVAE, model).quantizer.size, vectors)
        for warning in warnings:
            logger.warning(warning)
        return VQEpochMetrics(
            epoch=epoch.epoch,
            total_epochs=epoch.total_epochs,
            train_loss=epoch.train_loss,
            **epoch.validation,
            overfitting_gap=epoch.overfitting_gap,
            learning_rate=epoch.learning_rate,
            eta_seconds=epoch.eta_seconds,
            elapsed_seconds=epoch.elapsed_seconds,
            codebook_health=health,
            utilization_warnings=warnings,
        )

    def checkpoint_fields(self, history: VQMetricsHistory | MetricsHistory) -> dict[str, Any]:
        """The commitment weight and the last health."""
        last = history.epoch_metrics[-1] if history.epoch_metrics else None
        health = last.codebook_health if isinstance(last, VQEpochMetrics) else None
        return {"commitment_weight": self.commitment_weight, "codebook_health": health}

    def preview(
        self, model: nn.Module, spectrogram: AudioSpectrogram, waveforms: Tensor, folder: Path, epoch: int
    ) -> list[Path]:
        """Original and reconstruction pairs; an RVQ-VAE without a prior has nothing else to play."""
        return generate_vqvae_reconstruction_preview(
            cast(ConvVQVAE, model), spectrogram, waveforms, folder, epoch, waveforms.device,
            spectrogram.config.sample_rate,
        )  # fmt: skip


def _health(model: nn.Module, indices: Tensor) -> CodebookHealth:
    return cast(ConvVQVAE, model).quantizer.get_codebook_utilization(indices)


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
    """One epoch over waveforms `[B, 1, S]`: means per example of `train_loss`, `recon_loss` and `commit_loss`.

    A loss that is not finite skips its update; `cancel_event` ends the epoch between two steps.
    """
    family = VQFamily(commitment_weight)
    bench, totals = Workbench(family, model, spectrogram, torch.device(device)), Totals()
    train_steps(
        bench, train_loader, optimizer, gradient_clip_norm, epoch, totals,
        callback=callback, cancel_event=cancel_event,
    )  # fmt: skip
    return {name: totals.mean(name) for name in ("train_loss", "recon_loss", "commit_loss")}


def validate_vqvae_epoch(
    model: nn.Module,
    val_loader: Loader,
    spectrogram: AudioSpectrogram,
    device: torch.device | str,
    commitment_weight: float = 0.25,
) -> dict[str, Any]:
    """`val_loss`, `val_recon_loss`, `val_commit_loss` (means per example) and `codebook_health` over the whole set."""
    bench = Workbench(VQFamily(commitment_weight), model, spectrogram, torch.device(device))
    means, observed = validate(bench, val_loader)
    return {
        **means,
        "codebook_health": _health(model, torch.cat([codes.flatten(0, 1) for codes in observed])),
    }


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
) -> dict[str, Any]:
    """Train an RVQ-VAE on sound files, in the run folder `output_dir`.

    Returns `{model, metrics_history, output_dir, best_checkpoint_path, final_codebook_health}`; the model has the
    weights of the best validation epoch. With `models_dir` it is saved there as well. `resume_from` is a checkpoint
    or a run folder. Raises `CollectionError`, `CheckpointError`, `StorageError`, `TrainingError`.
    """
    trainer = set_up(
        VQFamily(config.commitment_weight),
        lambda: ConvVQVAE(**config.model_settings()),
        VQMetricsHistory(),
        RunRequest(
            config, file_paths, Path(output_dir), str(device), dataset_name, model_name,
            spectrogram_config or SpectrogramConfig(), None if models_dir is None else Path(models_dir), resume_from,
        ),
        callback,
        cancel_event,
    )  # fmt: skip
    trainer.note(validation_vectors=_count_vectors(trainer))
    finished = trainer.fit()
    model, history = cast(ConvVQVAE, trainer.best_model()), cast(VQMetricsHistory, trainer.state.history)
    health = _validation_health(trainer)
    if finished:
        if models_dir is not None and "model_path" not in trainer.facts:
            path = save_model_v2(
                model, trainer.bench.spectrogram.config, config, trainer.training_config(), trainer.metadata(),
                models_dir, codebook_health=health, loss_curve_history=history.get_loss_curves(),
            )  # fmt: skip
            trainer.note(model_path=str(path))
        trainer.note(final_codebook_health=health)
        draw_vqvae_run(trainer.folder.picture_path, history, _code_counts(trainer), *_example_mels(trainer))
    trainer.complete()
    return {
        "model": model,
        "metrics_history": history,
        "output_dir": trainer.folder.path,
        "best_checkpoint_path": best_checkpoint(trainer.folder.checkpoints),
        "final_codebook_health": health,
    }


def _count_vectors(trainer: Trainer) -> int:
    """How many vectors the validation set is coded with: what its health figures are counted over."""
    bench, rows = trainer.bench, -(-trainer.bench.spectrogram.config.n_mels // STRIDE)
    return sum(int(sounding_columns(mel).sum()) * rows for mel in bench.mels(trainer.loaders[1]))


def _codes(trainer: Trainer, loader: Loader) -> Tensor:
    """The codes int64 `[N, Q]` of all sounds of a loader."""
    model = cast(ConvVQVAE, trainer.bench.model)
    return torch.cat([model.encode_to_codes(mel).flatten(0, 1) for mel in trainer.bench.mels(loader)])


def _validation_health(trainer: Trainer) -> CodebookHealth:
    return _health(trainer.bench.model, _codes(trainer, trainer.loaders[1]))


def _code_counts(trainer: Trainer) -> Tensor:
    """How often each code is used over the whole collection: int64 `[Q, K]`."""
    codes = torch.cat([_codes(trainer, loader) for loader in trainer.loaders])
    return cast(ConvVQVAE, trainer.bench.model).quantizer.code_counts(codes)


def _example_mels(trainer: Trainer) -> tuple[Tensor, Tensor]:
    """One validation mel `[M, T]` and its reconstruction."""
    mel = next(trainer.bench.mels(trainer.loaders[1]))[:1]
    return mel[0, 0], cast(ConvVQVAE, trainer.bench.model).reconstruct(mel)[0, 0]
