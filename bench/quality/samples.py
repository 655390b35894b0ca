"""Distances of the sounds sampled from a VAE to its training sounds, and to each other."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from distill.audio.io import read_waveform
from distill.audio.spectrogram import PADDING, mark_end
from distill.models.generate import sample_latents
from distill.models.loaded_vae import LoadedModel


@dataclass(frozen=True)
class SampleDistances:
    """Medians of the distance to the nearest neighbour, in mean absolute mel units."""

    sample_to_train: float
    sample_to_sample: float
    train_to_train: float
    samples_finite: bool
    quietest_sample: float  # the loudest cell of the quietest sample, in mel units


@torch.no_grad()
def sample_distances(loaded: LoadedModel, folder: Path, count: int = 32) -> SampleDistances:
    """Distances of `count` samples to the sounds in `folder`."""
    samples = loaded.model.decode(sample_latents(loaded, count, seed=0))[:, 0]
    train = torch.stack([_first_mel(loaded, path) for path in sorted(folder.rglob("*")) if path.is_file()])
    return SampleDistances(
        sample_to_train=nearest(samples, train),
        sample_to_sample=nearest(samples, samples),
        train_to_train=nearest(train, train),
        samples_finite=bool(torch.isfinite(samples).all()),
        quietest_sample=float(samples.amax(dim=(1, 2)).min()),
    )


def _first_mel(loaded: LoadedModel, path: Path) -> Tensor:
    """The mel `[M, frames]` of a file's first chunk."""
    waveform = torch.from_numpy(read_waveform(path, loaded.sample_rate))
    mel = loaded.spectrogram.waveform_to_mel(mark_end(waveform)[None, None])[0, 0, :, : loaded.model.frames]
    return torch.nn.functional.pad(mel, (0, loaded.model.frames - mel.shape[-1]), value=PADDING)


def nearest(mels: Tensor, others: Tensor) -> float:
    """Median over `mels` `[N, M, T]` of the mean absolute distance to the nearest of `others` but itself."""
    distance = torch.stack([(mel - others).abs().mean(dim=(1, 2)) for mel in mels])
    if mels is others:
        distance.fill_diagonal_(torch.inf)
    return float(distance.min(dim=1).values.median())
