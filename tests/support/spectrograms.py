"""Sounds as batches, the small mel that properties of spectrograms are tested on, and what others make of a mel."""

import numpy as np
import pytest
import scipy
import torch
from torch import Tensor

from distill.audio.spectrogram import SpectrogramConfig
from support.sounds import RATE

SMALL = SpectrogramConfig(sample_rate=16_000, n_fft=256, hop_length=64, n_mels=32)

third_party = pytest.mark.filterwarnings("ignore:::librosa", "ignore:::numba", "ignore::DeprecationWarning")


def librosa_filters(sample_rate: int, n_fft: int, n_mels: int) -> np.ndarray:
    """`[n_mels, 1 + n_fft // 2]`. Only the filters are librosa's: its transforms are compiled for half a minute."""
    filters = pytest.importorskip("librosa.filters")
    return filters.mel(sr=sample_rate, n_fft=n_fft, n_mels=n_mels, htk=False, norm="slaney")


def scipy_stft(n_fft: int = 2048, hop_length: int = 512) -> scipy.signal.ShortTimeFFT:
    window = scipy.signal.windows.hann(n_fft, sym=False)
    return scipy.signal.ShortTimeFFT(window, hop_length, RATE, scale_to=None)


def griffin_lim(magnitude: np.ndarray, samples: int, rounds: int = 32) -> np.ndarray:
    """A sound `[samples]` whose STFT has about this magnitude (Griffin and Lim, 1984), from a random phase."""
    stft = scipy_stft()
    phase = np.exp(2j * np.pi * np.random.default_rng(0).random(magnitude.shape))
    for _ in range(rounds):
        sound = stft.istft(magnitude * phase, k1=samples)
        phase = np.exp(1j * np.angle(stft.stft(sound, p0=0, p1=magnitude.shape[-1])))
    return stft.istft(magnitude * phase, k1=samples)


def batch(sound: np.ndarray) -> Tensor:
    return torch.from_numpy(sound.astype(np.float32))[None, None]


def noise(samples: int, scale: float = 0.2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=scale, size=samples).clip(-1, 1).astype(np.float32)


def steady(samples: int, frequency: float = 440.0) -> np.ndarray:
    return 0.4 * np.sin(2 * np.pi * frequency * np.arange(samples) / RATE)
