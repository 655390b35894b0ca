"""Where the two families meet the engine: forward passes, losses, events and model files.

Read `train_vqvae` for the whole course of a run; what both families share is in `engine.py`.
"""

import dataclasses
import logging
import math
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from distill.audio.limits import AudioLimits
from distill.audio.spectrogram import AudioSpectrogram, SpectrogramConfig
from distill.data.collection import Sound
from distill.errors import Cancelled
from distill.library.catalog import ModelLibrary
from distill.models import ranks
from distill.models.analysis import analyse_latent_space
from distill.models.blocks import STRIDE
from distill.models.grid import sounding_columns
from distill.models.losses import kl_per_dimension, vae_loss, vqvae_loss
from distill.models.persistence import save_model, save_model_v2
from distill.models.quantizer import NO_CODE
from distill.models.settings import VAESettings
from distill.models.vae import ConvVAE
from distill.models.vqvae import ConvVQVAE
from distill.training.checkpoint import best_checkpoint
from distill.training.config import TrainingConfig, VQVAEConfig
from distill.training.dataset import Loader
from distill.training.engine import Epoch, Evaluation, Family, Step, Totals, Workbench, train_steps, validate
from distill.training.follower import follow, followers_sent_home
from distill.training.health import utilization_warnings
from distill.training.metrics import (
    CodebookHealth,
    EpochMetrics,
    MetricsCallback,
    MetricsHistory,
    StepMetrics,
    TrainingCompleteEvent,
    VQEpochMetrics,
    VQMetricsHistory,
    VQStepMetrics,
)
from distill.training.picture import draw_vae_run, draw_vqvae_run
from distill.training.preview import (
    generate_preview,
    generate_reconstruction_preview,
    generate_vqvae_reconstruction_preview,
)
from distill.training.run import RunRequest, equipment, run_device, seeded, set_up
from distill.training.run_folder import RunFolder
from distill.training.trainer import Trainer

logger = logging.getLogger(__name__)

_HEALTH_INTERVAL = 10  # steps
_ACTIVE_SHARE = 0.1  # of the latent dimensions; fewer active ones are a collapse


class VQFamily(Family):
    """The RVQ-VAE: reconstruction plus weighted commitment, codebook health beside it."""

    name: ClassVar[str] = "vqvae"
    terms: ClassVar[tuple[str, ...]] = ("recon_loss", "commit_loss")

    def __init__(self, commitment_weight: float) -> None:
        self.commitment_weight = commitment_weight

    def facts(self, mels: Iterable[Tensor]) -> dict[str, Any]:
        """How many vectors the mels are coded with: what health figures are counted over."""
        return {"validation_vectors": sum(int(sounding_columns(m).sum()) * -(-m.shape[-2] // STRIDE) for m in mels)}

    def prepare(self, model: nn.Module, mels: Iterable[Tensor], go_on: Callable[[], None]) -> None:
        """Let the model begin with many batches, if no step has been taken yet."""
        if not isinstance(model, ConvVQVAE) or model.quantizer.ready:
            return
        seen: list[Tensor] = []
        vectors = 0
        for mel in mels:
            go_on()
            seen.append(mel)
            vectors += int(sounding_columns(mel).sum()) * -(-mel.shape[-2] // STRIDE)
            if vectors >= model.quantizer.kmeans_vectors:
                break
        model.start_from(seen, go_on)

    def evaluate(self, model: nn.Module, mel: Tensor, progress: float) -> Evaluation:
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
    """One epoch over waveforms `[B, 1, S]`, or mels `[B, 1, M, T]`.

    Returns the means per example of `train_loss`, `recon_loss` and `commit_loss`.

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
    audio_limits: AudioLimits | None = None,
    sounds: Sequence[Sound] | None = None,
) -> dict[str, Any]:
    """Train an RVQ-VAE on sound files, in the run folder `output_dir`.

    Returns `{model, metrics_history, output_dir, best_checkpoint_path, final_codebook_health}`; the model has the
    weights of the best validation epoch. With `models_dir` it is saved there as well. `resume_from` is a checkpoint
    or a run folder. `sounds` is what is in the files at the spectrogram's rate, where they were decoded before. A
    cancellation leaves a checkpoint to go on from, or nothing where none was needed yet.
    Raises `CollectionError`, `CheckpointError`, `StorageError`, `TrainingError`.
    """
    request = RunRequest(
        config, file_paths, Path(output_dir), str(device), dataset_name, model_name,
        spectrogram_config or SpectrogramConfig(), models_dir, resume_from, audio_limits or AudioLimits(), sounds,
    )  # fmt: skip

    def conclude(trainer: Trainer, finished: bool) -> dict[str, Any]:
        model, history = cast(ConvVQVAE, trainer.best_model()), cast(VQMetricsHistory, trainer.state.history)
        best = trainer.state.best_epoch
        health = history.epoch_metrics[best].codebook_health if best >= 0 else None
        trainer.note(final_codebook_health=health)

        def save(folder: Path | str) -> Path:
            return save_model_v2(
                model, trainer.bench.spectrogram.config, config, trainer.training_config(), trainer.metadata(),
                folder, codebook_health=health, loss_curve_history=history.get_loss_curves(),
            )  # fmt: skip

        def draw(path: Path) -> None:
            draw_vqvae_run(path, history, _code_counts(trainer), *_example(trainer, model.reconstruct))

        if finished:
            _keep(trainer, models_dir, save, draw)
        return {"final_codebook_health": health}

    family, nothing = VQFamily(config.commitment_weight), {"final_codebook_health": None}
    model = partial(ConvVQVAE, **config.model_settings(), n_mels=request.spectrogram_config.n_mels)
    return _run(family, model, VQMetricsHistory(), request, callback, cancel_event, conclude, nothing)


def _run(
    family: Family,
    make_model: Callable[[], nn.Module],
    history: VQMetricsHistory | MetricsHistory,
    request: RunRequest,
    callback: MetricsCallback | None,
    cancel_event: threading.Event | None,
    conclude: Callable[[Trainer, bool], dict[str, Any]],
    nothing: dict[str, Any],
) -> dict[str, Any]:
    """The course of a run of either family; `conclude` gives what its result has beside the common, or `nothing`."""
    folder = RunFolder(request.output_dir)
    with ranks.connected(run_device(request).type):
        if ranks.rank() > 0:
            bench, loaders, optimizer = equipment(family, make_model, request, None)
            follow(bench, loaders, optimizer, request.config)
            return _result(bench.model, history, folder) | nothing
        with folder.in_use(), folder.keeps_warnings(), followers_sent_home():
            try:
                trainer = set_up(family, make_model, history, request, callback, cancel_event)
            except Cancelled:  # while the sounds were read: there is no run to go on with, and none is needed
                if callback:
                    callback(TrainingCompleteEvent(0, 0.0, math.nan, math.nan, math.inf, -1))
                return _result(seeded(request.config.seed, make_model).eval(), history, folder) | nothing
            own = conclude(trainer, trainer.fit())
            trainer.complete()
            return _result(trainer.bench.model, trainer.state.history, folder) | own


def _keep(
    trainer: Trainer, models_dir: Path | str | None, save: Callable[[Path | str], Path], draw: Callable[[Path], object]
) -> None:
    """Save the model of a finished run, unless an earlier try had got as far, and draw the picture."""
    if models_dir is not None:
        library = ModelLibrary(models_dir)
        saved = [library.path(entry) for entry in library.entries() if entry.model_id == trainer.facts["model_id"]]
        trainer.note(model_path=str((saved[0] if saved else save(models_dir)).absolute()))
    draw(trainer.folder.picture_path)


def _result(model: nn.Module, history: VQMetricsHistory | MetricsHistory, folder: RunFolder) -> dict[str, Any]:
    """What both families return of a run."""
    return {
        "model": model,
        "metrics_history": history,
        "output_dir": folder.path,
        "best_checkpoint_path": best_checkpoint(folder.checkpoints),
    }


def _codes(trainer: Trainer, loader: Loader) -> Tensor:
    """The codes int64 `[N, Q]` of all sounds of a loader."""
    model = cast(ConvVQVAE, trainer.bench.model)
    return torch.cat([model.encode_to_codes(mel).flatten(0, 1) for mel in trainer.bench.mels(loader)])


def _code_counts(trainer: Trainer) -> Tensor:
    """How often each code is used over the whole collection: int64 `[Q, K]`."""
    codes = torch.cat([_codes(trainer, loader) for loader in trainer.loaders])
    return cast(ConvVQVAE, trainer.bench.model).quantizer.code_counts(codes)


def _example(trainer: Trainer, mel_to_mel: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """One validation mel `[M, T]` and its reconstruction."""
    mel = next(trainer.bench.mels(trainer.loaders[1]))[:1]
    return mel[0, 0], mel_to_mel(mel)[0, 0]


class VAEFamily(Family):
    """The continuous VAE: reconstruction plus KL divergence, its weight warmed up, collapsed dimensions watched."""

    name: ClassVar[str] = "vae"
    terms: ClassVar[tuple[str, ...]] = ("recon_loss", "kl_loss")

    def __init__(self, kl_weight_max: float, free_bits: float, warmup_fraction: float = 0.0) -> None:
        self.kl_weight_max, self.free_bits, self.warmup_fraction = kl_weight_max, free_bits, warmup_fraction

    def kl_weight(self, progress: float) -> float:
        """The weight at a share of the run, 0 to 1: rising in a line to its full value, then constant."""
        return self.kl_weight_max * (min(1.0, progress / self.warmup_fraction) if self.warmup_fraction else 1.0)

    def facts(self, mels: Iterable[Tensor]) -> dict[str, Any]:
        """A VAE has nothing to say of them."""
        del mels
        return {}

    def prepare(self, model: nn.Module, mels: Iterable[Tensor], go_on: Callable[[], None]) -> None:
        """A VAE is ready as it is."""

    def evaluate(self, model: nn.Module, mel: Tensor, progress: float) -> Evaluation:
        """One forward pass and its loss; the latents are what collapse is read from."""
        recon, mu, logvar = model(mel)
        weight = self.kl_weight(progress)
        total, recon_loss, kl_loss = vae_loss(recon, mel, mu, logvar, weight, self.free_bits)
        terms = {"recon_loss": recon_loss.detach(), "kl_loss": kl_loss.detach()}
        return Evaluation(total, terms, torch.cat([mu, logvar], dim=1).detach())

    def step_event(self, model: nn.Module, step: Step, observed: Tensor) -> StepMetrics:
        """The step's losses and the KL weight it had."""
        del model, observed
        return StepMetrics(**step.fields(), kl_weight=self.kl_weight(step.progress))

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
    bench, totals = Workbench(VAEFamily(kl_weight, free_bits), model, spectrogram, torch.device(device)), Totals()
    train_steps(
        bench, train_loader, optimizer, gradient_clip_norm, epoch, totals,
        callback=callback, cancel_event=cancel_event,
    )  # fmt: skip
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
    bench = Workbench(VAEFamily(kl_weight, free_bits), model, spectrogram, torch.device(device))
    means, observed = validate(bench, val_loader)
    return means | {"kl_divergence": float(kl_per_dimension(*torch.cat(observed).chunk(2, dim=1)).sum())}


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
    request = RunRequest(
        config, file_paths, Path(output_dir), str(device), dataset_name, model_name,
        spectrogram_config or SpectrogramConfig(), models_dir, resume_from, audio_limits or AudioLimits(), sounds,
    )  # fmt: skip

    def conclude(trainer: Trainer, finished: bool) -> dict[str, Any]:
        model, history = cast(ConvVAE, trainer.best_model()), cast(MetricsHistory, trainer.state.history)
        analysis = analyse_latent_space(model.decode, _latents(trainer)) if finished else None

        def save(folder: Path | str) -> Path:
            return save_model(
                model, trainer.bench.spectrogram.config, trainer.training_config(), trainer.metadata(),
                folder, analysis=analysis, loss_curve_history=history.get_loss_curves(),
            )  # fmt: skip

        def draw(path: Path) -> None:
            draw_vae_run(path, history, analysis or {}, *_example(trainer, model.reconstruct))

        if finished:
            _keep(trainer, models_dir, save, draw)
        return {"analysis": analysis}

    family = VAEFamily(config.kl_weight_max, config.free_bits, config.kl_warmup_fraction)
    settings = dataclasses.asdict(VAESettings(**config.model_settings(), **_chunk_shape(request)))
    model = partial(ConvVAE, **settings)
    return _run(family, model, MetricsHistory(), request, callback, cancel_event, conclude, {"analysis": None})


def _chunk_shape(request: RunRequest) -> dict[str, int]:
    """The mel shape of a chunk, in whole grid cells: what a VAE is built for."""
    mel, seconds = request.spectrogram_config, request.config.chunk_duration_s
    frames = 1 + round(seconds * mel.sample_rate) // mel.hop_length
    return {"n_mels": mel.n_mels, "frames": -(-frames // STRIDE) * STRIDE}


@torch.no_grad()
def _latents(trainer: Trainer) -> Tensor:
    """The latent means float `[N, L]` of the training chunks."""
    model = cast(ConvVAE, trainer.bench.model)
    return torch.cat([model.encode(mel)[0] for mel in trainer.bench.mels(trainer.loaders[0])])
