"""Previews: held-out sounds with their reconstructions, and sounds decoded from random latents, as WAV files."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from distill.audio.io import write_wav
from distill.audio.spectrogram import AudioSpectrogram
from distill.models.vae import ConvVAE
from distill.models.vqvae import ConvVQVAE
from distill.training.preview_files import PreviewFile, preview_files

PAIRS = 4


def list_previews(output_dir: Path | str) -> list[Path]:
    """The paths of `preview_files`."""
    return [file.path for file in preview_files(output_dir)]


def generate_vqvae_reconstruction_preview(
    model: ConvVQVAE,
    spectrogram: AudioSpectrogram,
    sample_batch: Tensor,
    output_dir: Path | str,
    epoch: int,
    device: torch.device | str,
    sample_rate: int = 48_000,
) -> list[Path]:
    """Write original and reconstruction of the first waveforms of `[B, 1, S]` as WAV pairs; returns their paths.

    Raises `StorageError`.
    """
    return _write_pairs(model, model.reconstruct, spectrogram, sample_batch, output_dir, epoch, device, sample_rate)


def generate_reconstruction_preview(
    model: ConvVAE,
    spectrogram: AudioSpectrogram,
    sample_batch: Tensor,
    output_dir: Path | str,
    epoch: int,
    device: torch.device | str,
    sample_rate: int = 48_000,
) -> list[Path]:
    """`generate_vqvae_reconstruction_preview` for a VAE."""

    def mel_to_mel(mel: Tensor) -> Tensor:  # one by one: the VAE cuts a mel into a batch of windows
        return torch.cat([model.reconstruct(one.unsqueeze(0)) for one in mel])

    return _write_pairs(model, mel_to_mel, spectrogram, sample_batch, output_dir, epoch, device, sample_rate)


@torch.no_grad()
def generate_preview(
    model: ConvVAE,
    spectrogram: AudioSpectrogram,
    output_dir: Path | str,
    epoch: int,
    device: torch.device | str,
    sample_rate: int = 48_000,
    num_samples: int = PAIRS,
) -> list[Path]:
    """Write sounds decoded from random latents, the same latents every time; returns their paths."""
    was_training = model.training
    model.eval()
    # A seed of its own keeps epochs comparable; forked, it leaves the random numbers of the training alone.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        latents = torch.randn(num_samples, model.latent_dim)
    sounds = spectrogram.mel_to_waveform(model.decode(latents.to(device)))
    model.train(was_training)
    return [
        write_wav(PreviewFile.place(output_dir, epoch, number, "random").path, sound[0].cpu().numpy(), sample_rate)
        for number, sound in enumerate(sounds, start=1)
    ]


@torch.no_grad()
def _write_pairs(
    model: torch.nn.Module,
    mel_to_mel: Callable[[Tensor], Tensor],
    spectrogram: AudioSpectrogram,
    sample_batch: Tensor,
    output_dir: Path | str,
    epoch: int,
    device: torch.device | str,
    sample_rate: int,
) -> list[Path]:
    was_training = model.training
    model.eval()
    waveforms = sample_batch[:PAIRS].to(device)
    made = spectrogram.mel_to_waveform(mel_to_mel(spectrogram.waveform_to_mel(waveforms)), waveforms.shape[-1])
    model.train(was_training)
    paths = []
    for number, pair in enumerate(zip(waveforms, made), start=1):
        for sound, role in zip(pair, ("original", "reconstruction")):
            file = PreviewFile.place(output_dir, epoch, number, role)
            # Without the padding of the chunk; of padding alone one sample, since a file cannot be empty.
            length = int(pair[0].nonzero()[:, 1].max()) + 1 if pair[0].any() else 1
            paths.append(write_wav(file.path, sound[0, :length].cpu().numpy(), sample_rate))
    return paths
