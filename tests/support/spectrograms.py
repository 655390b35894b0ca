"""Sounds as batches, and the small mel that properties of spectrograms are tested on."""

import numpy as np
import pytest
import torch
from torch import Tensor

from distill.audio.spectrogram import SpectrogramConfig
from support.sounds import RATE

SMALL = SpectrogramConfig(sample_rate=16_000, n_fft=256, hop_length=64, n_mels=32)

third_party = pytest.mark.filterwarnings("ignore:::librosa", "ignore:::numba", "ignore::DeprecationWarning")


def batch(sound: np.ndarray) -> Tensor:
    return torch.from_numpy(sound.astype(np.float32))[None, None]


def noise(samples: int, scale: float = 0.2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=scale, size=samples).clip(-1, 1).astype(np.float32)


def steady(samples: int, frequency: float = 440.0) -> np.ndarray:
    return 0.4 * np.sin(2 * np.pi * frequency * np.arange(samples) / RATE)
