"""Model files: a small real one, and one that is next to nothing but its header."""

from pathlib import Path

import torch

from distill.audio.spectrogram import SpectrogramConfig
from distill.models.persistence import ModelMetadata, save_model_v2
from distill.models.vqvae import ConvVQVAE
from distill.training.config import VQVAEConfig

NARROW = (4, 16, 32)  # a tenth of the real widths of the nets: what is tested with them does not depend on them
SIZES = {"codebook_dim": 8, "codebook_size": 8, "num_quantizers": 2}
BANDS = 32
MEL = SpectrogramConfig(sample_rate=16_000, n_fft=512, hop_length=160, n_mels=BANDS)
HEALTH = {f"level_{n}": {"utilization": 0.5, "perplexity": 3.25, "dead_codes": 4} for n in range(2)}
CURVES = {"train_losses": [2.0, 1.0], "val_losses": [2.5, float("nan")]}


def small_rvq_vae() -> ConvVQVAE:
    torch.manual_seed(0)
    model = ConvVQVAE(**SIZES, n_mels=BANDS)
    model.train()(torch.rand(4, 1, 32, 64) * 2 - 1)  # one step, so that every buffer has moved
    return model


def save_rvq_vae(model: ConvVQVAE, folder: Path, name: str = "Kicks", **about: object) -> Path:
    config = VQVAEConfig(**SIZES)
    return save_model_v2(
        model, MEL, config, {"max_epochs": 2}, ModelMetadata(name=name, **about), folder, HEALTH, CURVES
    )


def write_model(path: Path, name: str = "", **about: object) -> Path:
    """A file that says what a model file says of itself, with next to no weights."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = {
        name: about.pop(name) for name in ("vqvae_config", "codebook_health_snapshot", "model_type") if name in about
    }
    content = {
        "format": "distill_model",
        "version": 2,
        "model_type": "vqvae",
        "model_state_dict": {"weight": torch.zeros(3), "half": torch.zeros(2, dtype=torch.bfloat16)},
        "vqvae_config": {"num_quantizers": 3, "codebook_size": 64},
        "codebook_health_snapshot": {"level_0": {"utilization": 0.5, "perplexity": 2.0, "dead_codes": 1}},
        "metadata": {"name": name or path.stem, "model_id": f"id-{path.stem}", "save_date": "2025-01-01"} | about,
    }
    torch.save(content | parts, path)
    return path
