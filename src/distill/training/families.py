"""The entries of the built-in model families in the registry `distill.families`. Imports no torch."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from distill.audio.settings import SpectrogramConfig
from distill.families import Family, FigurePanel, FileLayout, Loss, Part, register
from distill.library.header import LatentAnalysis
from distill.models.settings import PriorSettings, VAESettings, VQVAESettings
from distill.training.config import (
    PriorConfig,
    TrainingConfig,
    VQVAEConfig,
    get_adaptive_config,
    get_adaptive_prior_config,
    get_adaptive_vqvae_config,
)
from distill.training.metrics import MetricsHistory, PriorHistory, VQMetricsHistory

# What is loud counts most, and the detail shows when it happens (docs/quality.md).
_DETAILED = SpectrogramConfig(power=0.15, detail_mels=64)


def _fits_latent_dim(settings: Mapping[str, Any], analysis: Any) -> bool:
    """True if every vector of a latent analysis, where there is one, has the model's number of dimensions."""
    if analysis is None:
        return True
    directions = (component["direction"] for component in analysis["components"])
    vectors = [analysis["mean"], *directions, *analysis.get("examples", [])]
    return all(len(vector) == settings["latent_dim"] for vector in vectors)


def _build_prior(codec: Any, settings: PriorSettings) -> Any:
    from distill.models.prior import CodePrior  # which imports torch

    return CodePrior.for_codec(codec, settings)


def _large_prior_shapes(settings: PriorSettings) -> dict[str, tuple[int, ...]]:
    from distill.models.prior import CodePrior

    return CodePrior.large_shapes(settings)


VQVAE = register(
    Family(
        name="vqvae",
        title="Codes (RVQ-VAE)",
        summary="Learns a small alphabet of sound particles, and how they follow each other. Sounds best.",
        config=VQVAEConfig,
        preset=get_adaptive_vqvae_config,
        history=VQMetricsHistory,
        file=FileLayout(
            version=2,
            settings_key="vqvae_config",
            settings=VQVAESettings,
            record_key="codebook_health_snapshot",
            record_type=dict[str, dict[str, float]] | None,
            foreign="Not a v2 VQ-VAE model. Use load_model() for v1 models.",
            parts={"prior": Part(PriorSettings, _build_prior, _large_prior_shapes)},
            before={"transform": "blocks"},
        ),
        objective="distill.training.loop:VQVAEObjective",
        model="distill.models.vqvae:ConvVQVAE",
        loaded="distill.models.loaded_vqvae:LoadedVQModel",
        spectrogram=_DETAILED,
        losses=(Loss("val_commit_loss", "commit_losses", "Commitment", "How far sounds lie from their codes"),),
        has_codes=True,
        generates=True,
    )
)

VAE = register(
    Family(
        name="vae",
        title="Continuous (VAE)",
        summary="Learns directions such as brightness. New sounds come from sliders.",
        config=TrainingConfig,
        preset=get_adaptive_config,
        history=MetricsHistory,
        file=FileLayout(
            version=1,
            settings_key="vae_config",
            settings=VAESettings,
            record_key="latent_analysis",
            record_type=LatentAnalysis | None,
            foreign="Not a v1 VAE model. Use load_model_v2() for v2 models.",
            record_fits=_fits_latent_dim,
            before={"transform": "convolutions"},
        ),
        objective="distill.training.vae_loop:VAEObjective",
        model="distill.models.vae:ConvVAE",
        loaded="distill.models.loaded_vae:LoadedModel",
        spectrogram=_DETAILED,
        losses=(Loss("val_kl_loss", "kl_losses", "KL", "How far the space is from an even cloud"),),
        panel=FigurePanel(
            "The continuous space",
            "KL says how much about each sound is kept in the space. Near zero, the space says nothing; the "
            "weight is raised slowly during the run.",
            {"kl_divergence": "KL divergence", "val_kl_loss": "KL loss", "kl_weight": "KL weight"},
        ),
        generates=True,
    )
)

PRIOR = register(
    Family(
        name="prior",
        title="New sounds (prior)",
        summary="Learns how the codes of a model follow each other, so that it can make new sounds.",
        config=PriorConfig,
        preset=get_adaptive_prior_config,
        history=PriorHistory,
        file=dataclasses.replace(VQVAE.file, parts={}, before={}),
        objective="distill.training.prior_loop:PriorObjective",
        model="distill.models.prior:CodePrior",
        loaded="distill.models.loaded_vqvae:LoadedVQModel",
        spectrogram=VQVAE.spectrogram,
        losses=(
            Loss("val_code_bits", "recon_losses", "Bits per code", "How surprising a code of the held-out sounds is"),
        ),
        part_of=VQVAE.name,
    )
)
