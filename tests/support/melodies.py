"""A model that has learnt melodies without any training: from their components, clusters and frequencies alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from distill.audio.spectrogram import AudioSpectrogram
from distill.library.header import ModelMetadata
from distill.models.loaded_vqvae import LoadedVQModel
from distill.models.persistence import save_model_v2
from distill.models.prior import CodePrior
from distill.models.settings import PriorSettings
from distill.models.vqvae import ConvVQVAE
from support.models import MEL

RATE = MEL.sample_rate
_PRIOR = PriorSettings(width=16, hidden=16, layers=1, anchor_columns=256)


def melody(seconds: float, lowest: float = 220.0) -> np.ndarray:
    """Notes of a quarter of a second, each fading away: float32 `[S]` at `RATE`."""
    time = np.arange(round(seconds * RATE)) / RATE
    pitch = lowest * 2 ** (np.floor(time * 4) * 5 % 12 / 12)
    return (0.5 * np.sin(2 * np.pi * np.cumsum(pitch) / RATE) * np.exp(-6 * (time % 0.25))).astype(np.float32)


def melody_model(detail: bool = True) -> LoadedVQModel:
    """A model whose sounds have pitches and attacks, and whose prior knows eight melodies of a second each."""
    torch.manual_seed(0)
    spectrogram = AudioSpectrogram(replace(MEL, power=0.15, detail_mels=16) if detail else MEL)
    model = ConvVQVAE(codebook_dim=32, codebook_size=64, num_quantizers=2, n_mels=spectrogram.config.rows)
    sounds = np.stack([np.pad(melody(1.0, 150.0 * 1.1**number), (0, RATE // 4)) for number in range(8)])
    mel = spectrogram.waveform_to_mel(torch.from_numpy(sounds).unsqueeze(1))
    model.start_from([mel])
    prior = CodePrior.for_codec(model, _PRIOR)
    prior.start_from(model.columns(model.eval().encode_to_codes(mel)), model.quantizer.codebooks)
    model.add_module("prior", prior.eval())
    model.settings["prior"] = prior.settings
    about = ModelMetadata(name="melodies", model_id="melodies")
    return LoadedVQModel(model, spectrogram, about, torch.device("cpu"), None, model.settings)


def save_melody_model(folder: Path) -> Path:
    """The file of a `melody_model` in a library."""
    made = melody_model()
    return save_model_v2(made.model, made.spectrogram.config, made.model.settings, {}, made.metadata, folder)
