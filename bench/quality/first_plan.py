"""The baseline: the architecture as first planned, with a plain training loop.

Four stride-2 convolutions up to 256 channels with batch norm, ReLU and dropout, a 1×1 convolution to 128-dimensional
vectors, three levels of `vector_quantize_pytorch.ResidualVQ`, a mirrored decoder; log1p of the power mel; the mean
of three MSEs at scales 1, 2 and 4 plus 0.25 × commitment; AdamW with a cosine over the time budget; sizes and rates
from the table of the first plan. It trains on all files of the folder, in 1 s chunks, 32 to a batch.

The plan's last layer was a softplus, which is never zero and turned silence into hiss. Here the last layer is linear,
and values below zero are silence.

Mels are inverted with the clamped pseudo-inverse of the filters, then with our own `AudioSpectrogram`, so that both
models have the same phase reconstruction.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from vector_quantize_pytorch import ResidualVQ

from distill.audio.spectrogram import SILENCE, AudioSpectrogram, SpectrogramConfig
from distill.data.collection import find_audio_files
from distill.data.opening import open_collection

_MEL = SpectrogramConfig(sample_rate=48_000, n_fft=2048, hop_length=512, n_mels=128)
_WIDTHS = (1, 32, 64, 128, 256)
_STRIDE = 16
_DIM = 128
_BATCH = 32
_COMMITMENT = 0.25


@dataclass(frozen=True)
class Preset:
    """Settings that depend on the number of files."""

    codebook_size: int
    decay: float
    dropout: float
    learning_rate: float

    @classmethod
    def for_files(cls, count: int) -> Self:
        """The preset from the table of the first plan."""
        few, some, many = cls(64, 0.8, 0.4, 5e-4), cls(128, 0.9, 0.2, 1e-3), cls(256, 0.95, 0.1, 1e-3)
        return few if count <= 20 else some if count <= 100 else many


def _block(convolution: nn.Module, channels: int, dropout: float) -> nn.Module:
    return nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.ReLU(inplace=True), nn.Dropout2d(dropout))


class FirstPlan(nn.Module):
    """An RVQ-VAE with three levels, for log1p power mels `[B, 1, M, T]`."""

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        steps, dropout = list(pairwise(_WIDTHS)), preset.dropout
        down = [_block(nn.Conv2d(a, b, 3, 2, 1), b, dropout) for a, b in steps]
        up = [_block(nn.ConvTranspose2d(b, a, 3, 2, 1, 1), a, dropout) for a, b in reversed(steps[1:])]
        self.encoder = nn.Sequential(*down, nn.Conv2d(_WIDTHS[-1], _DIM, 1))
        last = nn.ConvTranspose2d(_WIDTHS[1], 1, 3, 2, 1, 1)
        self.decoder = nn.Sequential(nn.Conv2d(_DIM, _WIDTHS[-1], 1), *up, last)
        self.quantizer = ResidualVQ(
            dim=_DIM, codebook_size=preset.codebook_size, num_quantizers=3, decay=preset.decay,
            commitment_weight=1.0, threshold_ema_dead_code=2, kmeans_init=True, kmeans_iters=10,
        )  # fmt: skip
        self.spectrogram = AudioSpectrogram(_MEL)

    def forward(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """The reconstructed mel, and the unweighted commitment loss."""
        height, width = mel.shape[-2:]
        grid = self.encoder(F.pad(mel, (0, -width % _STRIDE, 0, -height % _STRIDE)))
        quantized, _, commitment = self.quantizer(grid.flatten(2).transpose(1, 2))
        decoded = self.decoder(quantized.transpose(1, 2).reshape(grid.shape))
        return decoded[..., :height, :width], commitment.sum()

    def mel(self, waveforms: Tensor) -> Tensor:
        """log1p of the power mel `[B, 1, M, T]` of `[B, S]`."""
        spectrum = torch.stft(
            waveforms, _MEL.n_fft, _MEL.hop_length, window=self.spectrogram.window,
            pad_mode="constant", return_complex=True,
        )  # fmt: skip
        return torch.log1p(self.spectrogram.mel_scale.filters @ spectrum.abs().square()).unsqueeze(1)

    def sound(self, mel: Tensor, length: int) -> Tensor:
        """Sound `[length]` of a mel `[1, 1, M, T]`."""
        filters = self.spectrogram.mel_scale.filters
        magnitude = (torch.linalg.pinv(filters) @ mel.clamp(min=0).expm1()).clamp(min=0).sqrt()
        floor, ceiling = math.log(_MEL.magnitude_floor), math.log(_MEL.magnitude_ceiling)
        level = ((filters @ magnitude).clamp(min=_MEL.magnitude_floor).log() - floor) / (ceiling - floor)
        return self.spectrogram.mel_to_waveform((2 * level - 1).clamp(min=SILENCE), length)[0, 0]

    @torch.no_grad()
    def reconstruct(self, waveform: Tensor) -> Tensor:
        """Reconstruct `[S]` at 48 kHz at the same length."""
        return self.sound(self(self.mel(waveform[None]))[0], len(waveform))


@dataclass(frozen=True)
class Trained:
    """A model in eval mode, and the length of its training."""

    model: FirstPlan
    steps: int
    epochs: float
    elapsed: float  # s

    @property
    def kbits(self) -> float:
        """Bit rate of its codes in kbit/s, at log2 K bits each."""
        levels, size, _ = self.model.quantizer.codebooks.shape
        vectors = _MEL.n_mels * _MEL.sample_rate / _MEL.hop_length / _STRIDE**2  # per second
        return float(vectors * levels * math.log2(size) / 1000)


def train_first_plan(
    folder: Path, minutes: float, seed: int, clock: Callable[[], float] = time.perf_counter
) -> Trained:
    """Train on the sounds in `folder` for that many minutes, not counting the time to decode them."""
    torch.manual_seed(seed)
    sounds = open_collection(find_audio_files(folder), _MEL.sample_rate).sounds or ()
    preset = Preset.for_files(len(sounds))
    model, base = FirstPlan(preset).train(), preset.learning_rate
    chunks = _chunks([torch.from_numpy(sound.waveform) for sound in sounds], _MEL.sample_rate)
    optimizer = torch.optim.AdamW(model.parameters(), lr=base)
    began, budget, steps, order = clock(), 60 * minutes, 0, torch.randperm(len(chunks))
    while (elapsed := clock() - began) < budget:
        optimizer.param_groups[0]["lr"] = base * 0.5 * (1 + math.cos(math.pi * elapsed / budget))
        if len(order) == 0:
            order = torch.randperm(len(chunks))
        batch, order = order[:_BATCH], order[_BATCH:]
        _step(model, optimizer, model.mel(chunks[batch]))
        steps += 1
    return Trained(model.eval(), steps, steps / math.ceil(len(chunks) / _BATCH), elapsed)


def _step(model: FirstPlan, optimizer: torch.optim.Optimizer, target: Tensor) -> None:
    reconstruction, commitment = model(target)
    distance = sum(F.mse_loss(F.avg_pool2d(reconstruction, s), F.avg_pool2d(target, s)) for s in (1, 2, 4)) / 3
    optimizer.zero_grad()
    (distance + _COMMITMENT * commitment).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def _chunks(waveforms: list[Tensor], samples: int) -> Tensor:
    """Cut waveforms `[S]` into chunks `[N, samples]`, the last of each padded."""
    return torch.cat([F.pad(sound, (0, -len(sound) % samples)).view(-1, samples) for sound in waveforms])
