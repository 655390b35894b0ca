"""What each model family adds to the engine: its forward pass and loss, its events, its previews."""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from distill.audio.spectrogram import AudioSpectrogram
from distill.models.blocks import STRIDE
from distill.models.grid import sounding_columns
from distill.models.losses import kl_per_dimension, vae_loss, vqvae_loss
from distill.models.quantizer import NO_CODE
from distill.models.vae import ConvVAE
from distill.models.vqvae import ConvVQVAE
from distill.training.health import utilization_warnings
from distill.training.metrics import (
    CodebookHealth,
    EpochMetrics,
    MetricsHistory,
    StepMetrics,
    VQEpochMetrics,
    VQMetricsHistory,
    VQStepMetrics,
)
from distill.training.objective import Epoch, Evaluation, Family, Step
from distill.training.preview import (
    generate_preview,
    generate_reconstruction_preview,
    generate_vqvae_reconstruction_preview,
)

logger = logging.getLogger(__name__)

_HEALTH_INTERVAL = 10  # steps
_ACTIVE_SHARE = 0.1  # of the latent dimensions; fewer active ones are a collapse


class VQFamily(Family):
    """The RVQ-VAE: reconstruction plus weighted commitment, codebook health beside it."""

    name: ClassVar[str] = "vqvae"
    terms: ClassVar[tuple[str, ...]] = ("recon_loss", "commit_loss")

    def __init__(self, commitment_weight: float) -> None:
        self.commitment_weight = commitment_weight

    def facts(self, observed: list[Tensor]) -> dict[str, Any]:
        """How many vectors were coded: what health figures are counted over."""
        return {"validation_vectors": int(sum((codes[..., 0] != NO_CODE).sum() for codes in observed))}

    def ready(self, model: nn.Module) -> bool:
        """Whether its codebooks were placed."""
        return not isinstance(model, ConvVQVAE) or model.quantizer.ready

    def prepare(self, model: nn.Module, mels: Iterable[Tensor], check_cancelled: Callable[[], None]) -> None:
        """Let the model begin with what many batches have in common."""
        assert isinstance(model, ConvVQVAE)
        seen: list[Tensor] = []
        vectors = 0
        for mel in mels:
            check_cancelled()
            seen.append(mel)
            vectors += int(sounding_columns(mel).sum()) * -(-mel.shape[-2] // STRIDE)
            if vectors >= model.quantizer.kmeans_vectors:
                break
        model.start_from(seen, check_cancelled)

    def evaluate(self, model: nn.Module, mel: Tensor, progress: Tensor) -> Evaluation:
        """One forward pass and its loss; the codes are what health is read from."""
        del progress  # the commitment weight stays as it is
        recon, indices, commit_loss = model(mel)
        total, recon_loss, weighted_commit = vqvae_loss(recon, mel, commit_loss, self.commitment_weight)
        terms = {"recon_loss": recon_loss.detach(), "commit_loss": weighted_commit.detach()}
        return Evaluation(total, terms, indices)

    def step_event(self, model: nn.Module, step: Step, observed: Tensor) -> VQStepMetrics:
        """The step's losses, and every tenth step the health of its batch."""
        fresh = step.epoch == 0 and step.step == 0  # k-means has only just run: its figure would mislead
        due = step.step % _HEALTH_INTERVAL == 0 and not fresh
        return VQStepMetrics(
            **step.fields(),
            commitment_weight=self.commitment_weight,
            codebook_health=codebook_health(model, observed) if due else None,
        )

    def epoch_event(self, model: nn.Module, epoch: Epoch, observed: list[Tensor]) -> VQEpochMetrics:
        """The epoch's losses and the health of the whole validation set, with warnings from the second epoch on."""
        indices = torch.cat([codes.flatten(0, 1) for codes in observed])
        health = codebook_health(model, indices)
        warnings: list[str] = []
        if epoch.epoch >= 1:
            vectors = int((indices[:, 0] != NO_CODE).sum())
            warnings = utilization_warnings(health, cast(ConvVQVAE, model).quantizer.size, vectors)
        for warning in warnings:
            logger.warning(warning)
        return VQEpochMetrics(**epoch.fields(), codebook_health=health, utilization_warnings=warnings)

    def code_counts(self, model: nn.Module, observed: list[Tensor]) -> Tensor:
        """Counts int64 `[Q, K]` over the validation set."""
        indices = torch.cat([codes.flatten(0, 1) for codes in observed])
        return cast(ConvVQVAE, model).quantizer.code_counts(indices)

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


def codebook_health(model: nn.Module, indices: Tensor) -> CodebookHealth:
    """The health of the codebooks of `model` over all of int64 `indices` `[..., Q]`."""
    return cast(ConvVQVAE, model).quantizer.get_codebook_utilization(indices)


class VAEFamily(Family):
    """The continuous VAE: reconstruction plus KL divergence, its weight warmed up, collapsed dimensions watched."""

    name: ClassVar[str] = "vae"
    terms: ClassVar[tuple[str, ...]] = ("recon_loss", "kl_loss")

    def __init__(self, kl_weight_max: float, free_bits: float, warmup_fraction: float = 0.0) -> None:
        self.kl_weight_max, self.free_bits, self.warmup_fraction = kl_weight_max, free_bits, warmup_fraction

    def kl_weight(self, progress: Tensor) -> Tensor:
        """The weight at a share of the run, 0 to 1: rising in a line to its full value, then constant."""
        warm = progress / self.warmup_fraction if self.warmup_fraction else torch.ones_like(progress)
        return self.kl_weight_max * warm.clamp(max=1.0)

    def facts(self, observed: list[Tensor]) -> dict[str, Any]:
        """A VAE has nothing to say of it."""
        del observed
        return {}

    def ready(self, model: nn.Module) -> bool:
        """A VAE is ready as it is."""
        del model
        return True

    def prepare(self, model: nn.Module, mels: Iterable[Tensor], check_cancelled: Callable[[], None]) -> None:
        """There is nothing to do."""

    def evaluate(self, model: nn.Module, mel: Tensor, progress: Tensor) -> Evaluation:
        """One forward pass and its loss; the latents are what collapse is read from."""
        recon, mu, logvar = model(mel)
        weight = self.kl_weight(progress)
        total, recon_loss, kl_loss = vae_loss(recon, mel, mu, logvar, weight, self.free_bits)
        terms = {"recon_loss": recon_loss.detach(), "kl_loss": kl_loss.detach()}
        return Evaluation(total, terms, torch.cat([mu, logvar], dim=1).detach())

    def step_event(self, model: nn.Module, step: Step, observed: Tensor) -> StepMetrics:
        """The step's losses and the KL weight it had."""
        del model, observed
        weight = float(self.kl_weight(torch.tensor(step.progress)))
        return StepMetrics(**step.fields(), kl_weight=round(weight, 9))  # of which single precision knows seven digits

    def epoch_event(self, model: nn.Module, epoch: Epoch, observed: list[Tensor]) -> EpochMetrics:
        """The epoch's losses; logs how many latent dimensions are active, and warns when hardly any is."""
        del model
        divergence = kl_per_dimension(*torch.cat(observed).chunk(2, dim=1))
        # A collapsed dimension hovers about the free bits, which it may have for nothing: active is clearly above.
        active = int((divergence > 1.1 * self.free_bits + 0.01).sum())
        logger.info("latent space: %d of %d dimensions active, KL %.1f nats", active, len(divergence), divergence.sum())
        done = epoch.epoch + 1
        warm = done > self.warmup_fraction * epoch.total_epochs or done == epoch.total_epochs
        if warm and active < _ACTIVE_SHARE * len(divergence):
            logger.warning(
                "only %d of %d latent dimensions say anything about the sound (posterior collapse); "
                "train longer, or with a lower KL weight (kl_weight_max)", active, len(divergence),
            )  # fmt: skip
        return EpochMetrics(**epoch.fields(), kl_divergence=float(divergence.sum()))

    def checkpoint_fields(self, history: VQMetricsHistory | MetricsHistory) -> dict[str, Any]:
        """The full KL weight."""
        del history
        return {"kl_weight": self.kl_weight_max}

    def preview(
        self, model: nn.Module, spectrogram: AudioSpectrogram, waveforms: Tensor, folder: Path, epoch: int
    ) -> list[Path]:
        """Sounds decoded from random latents, and original and reconstruction pairs."""
        vae, device, rate = cast(ConvVAE, model), waveforms.device, spectrogram.config.sample_rate
        pairs = generate_reconstruction_preview(vae, spectrogram, waveforms, folder, epoch, device, rate)
        return generate_preview(vae, spectrogram, folder, epoch, device, rate) + pairs
