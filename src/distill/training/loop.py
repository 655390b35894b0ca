"""Trainings from the first sound to the model file, an epoch of them, a validation: for both families.

Read `train_vqvae` for the whole course of a run; what a family adds to the engine is in `families.py`.
"""

import dataclasses
import math
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from distill import distributed
from distill.audio.limits import AudioLimits
from distill.audio.spectrogram import AudioSpectrogram, SpectrogramConfig
from distill.data.collection import Sound
from distill.errors import Cancelled
from distill.library.catalog import ModelLibrary
from distill.models.analysis import analyse_latent_space
from distill.models.blocks import STRIDE
from distill.models.losses import kl_per_dimension
from distill.models.persistence import save_model, save_model_v2
from distill.models.settings import VAESettings
from distill.models.vae import ConvVAE
from distill.models.vqvae import ConvVQVAE
from distill.training.checkpoint import best_checkpoint
from distill.training.config import TrainingConfig, VQVAEConfig
from distill.training.dataset import Loader
from distill.training.device import same_each_time
from distill.training.engine import Totals, train_steps, validate
from distill.training.metrics import (
    MetricsCallback,
    MetricsHistory,
    TrainingCompleteEvent,
    VQMetricsHistory,
)
from distill.training.objective import Context, Family
from distill.training.objectives import VAEFamily, VQFamily, codebook_health
from distill.training.picture import draw_vae_run, draw_vqvae_run
from distill.training.rank_worker import follow, workers_shut_down
from distill.training.run_folder import RunFolder
from distill.training.setup import RunRequest, build_components, run_device, seeded, set_up
from distill.training.step import TrainStep
from distill.training.trainer import Trainer


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
    context, totals = Context(family, model, spectrogram, torch.device(device)), Totals()
    stepper = TrainStep(context, optimizer, gradient_clip_norm)
    train_steps(stepper, train_loader, epoch, totals, callback=callback, cancel_event=cancel_event)
    return {name: totals.mean(name) for name in ("train_loss", "recon_loss", "commit_loss")}


def validate_vqvae_epoch(
    model: nn.Module,
    val_loader: Loader,
    spectrogram: AudioSpectrogram,
    device: torch.device | str,
    commitment_weight: float = 0.25,
) -> dict[str, Any]:
    """`val_loss`, `val_recon_loss`, `val_commit_loss` (means per example) and `codebook_health` over the whole set."""
    context = Context(VQFamily(commitment_weight), model, spectrogram, torch.device(device))
    means, observed = validate(context, val_loader)
    return {
        **means,
        "codebook_health": codebook_health(model, torch.cat([codes.flatten(0, 1) for codes in observed])),
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
                model, trainer.context.spectrogram.config, config, trainer.training_config(), trainer.metadata(),
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
    with distributed.process_group(run_device(request).type), same_each_time():
        if distributed.rank() > 0:
            context, loaders, optimizer = build_components(family, make_model, request, None)
            follow(TrainStep(context, optimizer, request.config.gradient_clip_norm), loaders, request.config.seed)
            return _result(context.model, history, folder) | nothing
        with folder.in_use(), folder.keeps_warnings(), workers_shut_down():
            try:
                trainer = set_up(family, make_model, history, request, callback, cancel_event)
            except Cancelled:  # while the sounds were read: there is no run to go on with, and none is needed
                if callback:
                    callback(TrainingCompleteEvent(0, 0.0, math.nan, math.nan, math.inf, -1))
                return _result(seeded(request.config.seed, make_model).eval(), history, folder) | nothing
            try:
                own = conclude(trainer, trainer.fit())
            except Cancelled:  # while a resumed run that had done its steps waited for its sounds
                own = nothing
            trainer.complete()
            return _result(trainer.context.model, trainer.state.history, folder) | own


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
    model = cast(ConvVQVAE, trainer.context.model)
    return torch.cat([model.encode_to_codes(mel).flatten(0, 1) for mel in trainer.context.mels(loader)])


def _code_counts(trainer: Trainer) -> Tensor:
    """How often each code is used over the whole collection: int64 `[Q, K]`."""
    codes = torch.cat([_codes(trainer, loader) for loader in trainer.loaders])
    return cast(ConvVQVAE, trainer.context.model).quantizer.code_counts(codes)


def _example(trainer: Trainer, mel_to_mel: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """One validation mel `[M, T]` and its reconstruction."""
    mel = next(trainer.context.mels(trainer.loaders[1]))[:1]
    return mel[0, 0], mel_to_mel(mel)[0, 0]


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
    context, totals = Context(VAEFamily(kl_weight, free_bits), model, spectrogram, torch.device(device)), Totals()
    stepper = TrainStep(context, optimizer, gradient_clip_norm)
    train_steps(stepper, train_loader, epoch, totals, callback=callback, cancel_event=cancel_event)
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
    context = Context(VAEFamily(kl_weight, free_bits), model, spectrogram, torch.device(device))
    means, observed = validate(context, val_loader)
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
                model, trainer.context.spectrogram.config, trainer.training_config(), trainer.metadata(),
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
    model = cast(ConvVAE, trainer.context.model)
    return torch.cat([model.encode(mel)[0] for mel in trainer.context.mels(trainer.loaders[0])])
