"""What training minimises. Padding (see `distill.audio.spectrogram`) counts in none of it."""

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.audio.spectrogram import real_frames

_SCALES = (1, 2, 4)


def spectral_loss(recon: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of mels `[B, 1, M, T]`, averaged over three scales; a scalar in mel units."""
    real = real_frames(target)
    difference = torch.where(real, recon - target, 0.0)
    share = real.to(target.dtype).expand_as(target)
    return torch.stack([_masked_l1(difference, share, scale) for scale in _SCALES]).mean()


def _masked_l1(difference: Tensor, share: Tensor, scale: int) -> Tensor:
    if min(difference.shape[-2:]) < scale:
        scale = 1
    return F.avg_pool2d(difference, scale).abs().sum() / F.avg_pool2d(share, scale).sum().clamp(min=1e-6)


def vqvae_loss(
    recon: Tensor, target: Tensor, commit_loss: Tensor, commitment_weight: float = 0.25
) -> tuple[Tensor, Tensor, Tensor]:
    """`(total, recon_loss, weighted_commit)` for mels `[B, 1, M, T]` and the model's raw commitment.

    The weight is applied here and nowhere else, so the gradient carries it once.
    """
    recon_loss = spectral_loss(recon, target)
    weighted_commit = commitment_weight * commit_loss
    return recon_loss + weighted_commit, recon_loss, weighted_commit
