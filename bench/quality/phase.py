"""Cost of phase reconstruction: sound from one mel with phases reconstructed, and with the original's phases."""

import torch
from torch import Tensor

from distill.audio.spectrogram import AudioSpectrogram
from distill.audio.vocoder import nonnegative_least_squares


@torch.no_grad()
def with_reconstructed_phase(spectrogram: AudioSpectrogram, mel: Tensor, original: Tensor) -> Tensor:
    """Sound `[S]` of a mel `[1, 1, M, T]`, as long as the `original` `[S]`."""
    return spectrogram.mel_to_waveform(mel, length=len(original))[0, 0]


@torch.no_grad()
def with_true_phase(spectrogram: AudioSpectrogram, mel: Tensor, original: Tensor) -> Tensor:
    """Sound `[S]` of a mel `[1, 1, M, T]` with the phases of the `original` `[S]` at the same rate."""
    config, window, mel_scale = spectrogram.config, spectrogram.window, spectrogram.mel_scale
    true = torch.stft(
        original[None], config.n_fft, config.hop_length, window=window,
        center=True, pad_mode="constant", return_complex=True,
    )  # fmt: skip
    bands = mel_scale.magnitudes(mel[:, 0, : config.n_mels].mT)
    magnitude = nonnegative_least_squares(bands, mel_scale).mT
    spectrum = torch.polar(magnitude, true.angle())
    return torch.istft(spectrum, config.n_fft, config.hop_length, window=window, center=True, length=len(original))[0]
