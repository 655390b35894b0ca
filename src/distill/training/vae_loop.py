"""Training a continuous VAE: the forward pass and its loss, the events, and the model file at the end."""

import dataclasses
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
from distill.data.chunks import AS_IT_IS, ChunkDataset
from distill.data.collection import Sound
from distill.models.analysis import analyse_latent_space
from distill.models.blocks import STRIDE
from distill.models.losses import kl_per_dimension, vae_loss
from distill.models.persistence import save_model
from distill.models.settings import VAESettings
from distill.models.vae import ConvVAE
from distill.notices import LatentsActive, LatentsCollapsed
from distill.training.conclusion import metadata, save_and_draw, training_config, validation_example
from distill.training.config import TrainingConfig
from distill.training.engine import Totals, train_steps, validate
from distill.training.execution import run_training
from distill.training.metrics import EpochMetrics, History, MetricsCallback, MetricsHistory, StepMetrics
from distill.training.objective import Batch, Context, EpochResult, Evaluation, Objective, StepResult
from distill.training.picture import draw_vae_run
from distill.training.preview import generate_preview, generate_reconstruction_preview
from distill.training.request import TrainingRequest
from distill.training.run import Run
from distill.training.step import TrainStep

logger = logging.getLogger(__name__)

_EXAMPLES = 64  # chunks that new sounds are drawn around
_START_CHUNKS = 1000  # that the start of a model is based on
_ACTIVE_SHARE = 0.1  # of the latent dimensions; fewer active ones are a collapse


class VAEObjective(Objective):
    """The objective of the VAE: reconstruction plus KL divergence with a warm-up; latent dimensions are observed."""

    terms: ClassVar[tuple[str, ...]] = ("recon_loss", "kl_loss")
    result_keys: ClassVar[tuple[str, ...]] = ("analysis",)

    def __init__(self, config: TrainingConfig) -> None:
        self.config = config
        self.kl_weight_max, self.free_bits = config.kl_weight_max, config.free_bits
        self.warmup_fraction = config.kl_warmup_fraction

    def build_model(self, request: TrainingRequest) -> ConvVAE:
        """A `ConvVAE` for the mel of the request's chunks, in whole grid cells."""
        mel = request.spectrogram_config
        frames = 1 + round(self.config.chunk_duration_s * mel.sample_rate) // mel.hop_length
        shape = {"n_mels": mel.rows, "frames": -(-frames // STRIDE) * STRIDE}
        return ConvVAE(**dataclasses.asdict(VAESettings(**self.config.model_settings(), **shape)))

    def ready(self, model: nn.Module) -> bool:
        """True once the linear maps are set."""
        return not isinstance(model, ConvVAE) or model.ready

    def prepare(self, model: nn.Module, mels: Iterable[Tensor], check_cancelled: Callable[[], None]) -> None:
        """Set the linear maps from some batches (`ConvVAE.start_from`)."""
        assert isinstance(model, ConvVAE)
        seen: list[Tensor] = []
        for mel in mels:
            check_cancelled()
            seen.append(mel)
            if sum(map(len, seen)) >= _START_CHUNKS:
                break
        model.start_from(seen, check_cancelled)

    def kl_weight(self, progress: Tensor) -> Tensor:
        """The KL weight at `progress`, 0 to 1, of a run: rises linearly to its full value, then stays constant."""
        # With tensors, since a recorded CUDA graph reads the progress of each step from one.
        warm = progress / self.warmup_fraction if self.warmup_fraction else torch.ones_like(progress)
        return self.kl_weight_max * warm.clamp(max=1.0)

    def evaluate(self, model: nn.Module, batch: Batch, progress: Tensor) -> Evaluation:
        """One forward pass and its loss; means and log variances `[B, 2·L]` are observed, to detect a collapse."""
        mel = batch.mel
        recon, mu, logvar = model(mel)
        weight = self.kl_weight(progress)
        total, recon_loss, kl_loss = vae_loss(recon, mel, mu, logvar, weight, self.free_bits, batch.power)
        terms = {"recon_loss": recon_loss.detach(), "kl_loss": kl_loss.detach()}
        return Evaluation((total,), terms, torch.cat([mu, logvar], dim=1).detach())

    def step_event(self, model: nn.Module, step: StepResult, observed: Tensor) -> StepMetrics:
        """The step's losses and its KL weight."""
        del model, observed
        weight = float(self.kl_weight(torch.tensor(step.progress)))
        return StepMetrics(**step.fields(), kl_weight=round(weight, 9))  # without the noise of single precision

    def epoch_event(self, model: nn.Module, epoch: EpochResult, observed: list[Tensor]) -> EpochMetrics:
        """The epoch's losses; logs how many latent dimensions are active, and warns when hardly any is."""
        del model
        divergence = _divergence(observed)
        nats, dimensions = float(divergence.sum()), len(divergence)
        # A collapsed dimension hovers around its free bits, which cost nothing; an active one is clearly above them.
        active = int((divergence > 1.1 * self.free_bits + 0.01).sum())
        logger.info(LatentsActive(active, dimensions, nats))
        done = epoch.epoch + 1
        # No warning before the KL weight is at its full value, unless the run ends before that.
        warm = done > self.warmup_fraction * epoch.total_epochs or done == epoch.total_epochs
        if warm and active < _ACTIVE_SHARE * dimensions:
            logger.warning(LatentsCollapsed(active, dimensions))
        return EpochMetrics(**epoch.fields(), kl_divergence=nats)

    def checkpoint_fields(self, history: History[Any, Any]) -> dict[str, Any]:
        """The full KL weight."""
        del history  # the current weight needs no saving: it follows from the progress of the run
        return {"kl_weight": self.kl_weight_max}

    def preview(
        self, model: nn.Module, spectrogram: AudioSpectrogram, waveforms: Tensor, folder: Path, epoch: int
    ) -> list[Path]:
        """Sounds decoded from random latents, and pairs of original and reconstruction."""
        vae, device, rate = cast(ConvVAE, model), waveforms.device, spectrogram.config.sample_rate
        pairs = generate_reconstruction_preview(vae, spectrogram, waveforms, folder, epoch, device, rate)
        return generate_preview(vae, spectrogram, folder, epoch, device, rate) + pairs

    def conclude(self, run: Run, finished: bool) -> dict[str, Any]:
        """Analyse the latent space; save the model with the analysis, and draw it."""
        model, history = cast(ConvVAE, run.best_model()), cast(MetricsHistory, run.state.history)
        analysis = _analysis(run, model) if finished else None

        def save(models_dir: Path) -> Path:
            return save_model(
                model, run.context.spectrogram.config, training_config(run), metadata(run),
                models_dir, analysis=analysis, loss_curve_history=history.get_loss_curves(),
            )  # fmt: skip

        def draw(path: Path) -> None:
            draw_vae_run(path, history, analysis or {}, *validation_example(run, model.reconstruct))

        if finished:
            save_and_draw(run, save, draw)
        return {"analysis": analysis}


def _divergence(observed: Sequence[Tensor]) -> Tensor:
    """KL divergence `[L]` in nats over means and log variances `[B, 2·L]`, batch by batch."""
    return kl_per_dimension(*torch.cat(list(observed)).chunk(2, dim=1))


@torch.no_grad()
def _analysis(run: Run, model: ConvVAE) -> dict[str, Any]:
    """The analysis of the latent means of the training chunks, and those of some chunks as they are, `examples`."""
    latents = torch.cat([model.encode(mel)[0] for mel in run.context.mels(run.loaders[0])])
    decibels = run.context.spectrogram.decibels
    analysis = analyse_latent_space(lambda chosen: decibels(model.decode(chosen)), latents)
    dataset = cast(ChunkDataset, run.loaders[0].dataset)
    chunks = torch.stack([dataset[AS_IT_IS, 0, index] for index in _examples(dataset)])
    return analysis | {"examples": model.encode(run.context.batch(chunks).mel)[0].tolist()}


def _examples(dataset: ChunkDataset) -> list[int]:
    """The indices of some chunks that sounds begin with; where there are few, of any."""
    first = [index for index, chunk in enumerate(dataset.chunks) if chunk.start == 0]
    chosen = first if len(first) >= _EXAMPLES else range(len(dataset))
    count = min(_EXAMPLES, len(chosen))
    return [chosen[len(chosen) * number // count] for number in range(count)]


# The family as plain functions: one epoch, one validation, a whole run


def _context(
    model: nn.Module, spectrogram: AudioSpectrogram, device: torch.device | str, kl_weight: float, free_bits: float
) -> Context:
    config = TrainingConfig(kl_weight_max=kl_weight, free_bits=free_bits, kl_warmup_fraction=0.0)
    return Context(VAEObjective(config), model, spectrogram, torch.device(device))


def train_epoch(
    model: nn.Module,
    train_loader: Loader,
    optimizer: Optimizer,
    spectrogram: AudioSpectrogram,
    device: torch.device | str,
    gradient_clip_norm: float,
    kl_weight: float = 1e-4,
    free_bits: float = 0.1,
    epoch: int = 0,
    callback: MetricsCallback | None = None,
    cancel_event: threading.Event | None = None,
) -> dict[str, float]:
    """`train_vqvae_epoch` for a VAE: means per example of `train_loss`, `recon_loss` and `kl_loss` (unweighted)."""
    context, totals = _context(model, spectrogram, device, kl_weight, free_bits), Totals()
    train_step = TrainStep(context, [optimizer], gradient_clip_norm)
    train_steps(train_step, train_loader, epoch, totals, callback=callback, cancel_event=cancel_event)
    return {name: totals.mean(name) for name in ("train_loss", "recon_loss", "kl_loss")}


def validate_epoch(
    model: nn.Module,
    val_loader: Loader,
    spectrogram: AudioSpectrogram,
    device: torch.device | str,
    kl_weight: float = 1e-4,
    free_bits: float = 0.1,
) -> dict[str, float]:
    """`val_loss`, `val_recon_loss`, `val_kl_loss` (means per example) and `kl_divergence` (nats) over the whole set."""
    means, observed = validate(_context(model, spectrogram, device, kl_weight, free_bits), val_loader)
    return means | {"kl_divergence": float(_divergence(observed).sum())}


def train(
    config: TrainingConfig,
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
    """`train_vqvae` for a VAE, ending in the analysis of its latent space.

    Returns `{model, metrics_history, output_dir, best_checkpoint_path, analysis}`; raises what `train_vqvae` does.
    """
    request = TrainingRequest.of_arguments(
        "vae", config, file_paths, output_dir, device=device, models_dir=models_dir, dataset_name=dataset_name,
        model_name=model_name, resume_from=resume_from, spectrogram_config=spectrogram_config,
        audio_limits=audio_limits, sounds=sounds,
    )  # fmt: skip
    return run_training(request, callback, cancel_event)
