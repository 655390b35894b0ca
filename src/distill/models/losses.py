"""Training losses. Padding (see `distill.audio.mel`) counts in none of them except `vae_loss`.

Where several processes train together, each computes its share of a loss, and the loss is the sum of the shares.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.audio.spectrogram import SILENCE, real_frames
from distill.distributed import all_reduce, all_reduce_with_gradient, rank_share

_SCALES = 3  # each at half the resolution of the one before
_AFTER_END_WEIGHT = 0.1


def spectral_loss(recon: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of mels `[B, 1, M, T]`, averaged over three scales; a scalar in mel units.

    It is the mean over the examples of each one's mean, so that it does not depend on how batches are composed.
    """
    real = real_frames(target)
    difference, share = torch.where(real, recon - target, 0.0), real.to(target.dtype)
    means = [_masked_mean(difference, share)]
    for _ in range(_SCALES - 1):
        if min(difference.shape[-2:]) > 1:  # a mel too small to be pooled counts again as it is
            # The share is pooled alike: a coarse cell counts as much as there are real frames in it.
            difference, share = F.avg_pool2d(difference, 2), F.avg_pool2d(share, (1, 2))
        means.append(_masked_mean(difference, share))
    return torch.stack(means).mean()


def _masked_mean(difference: Tensor, share: Tensor) -> Tensor:
    """Mean over the examples of the mean absolute `difference` `[B, 1, M, T]`, frames weighted by `[B, 1, 1, T]`."""
    counts = share.sum(dim=(1, 2, 3)) * difference.shape[-2]
    return _mean_of_examples(difference.abs().sum(dim=(1, 2, 3)), counts)


def _mean_of_examples(sums: Tensor, counts: Tensor) -> Tensor:
    """Mean of sums / counts, `[B]` each, over the examples with a count above 0: this rank's share of it."""
    return (sums / counts.clamp(min=1e-6)).sum() / all_reduce((counts > 0).sum()).clamp(min=1)


def vqvae_loss(
    recon: Tensor, target: Tensor, commit_loss: Tensor, commitment_weight: float = 0.25
) -> tuple[Tensor, Tensor, Tensor]:
    """`(total, recon_loss, weighted_commit)` for mels `[B, 1, M, T]` and the model's raw commitment.

    The weight is applied here and nowhere else, so the gradient carries it once.
    """
    recon_loss = spectral_loss(recon, target)
    weighted_commit = commitment_weight * commit_loss
    return recon_loss + weighted_commit, recon_loss, weighted_commit


def kl_per_dimension(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL divergence to the standard normal of each latent dimension, mean over `[B, L]`: float `[L]`, in nats."""
    examples = all_reduce(mu.new_full((), len(mu)))
    return all_reduce_with_gradient((0.5 * (mu.square() + logvar.exp() - 1 - logvar)).sum(dim=0) / examples)


def vae_loss(
    recon: Tensor, target: Tensor, mu: Tensor, logvar: Tensor, kl_weight: float | Tensor = 1.0, free_bits: float = 0.1
) -> tuple[Tensor, Tensor, Tensor]:
    """`(total, recon_loss, kl_loss)` for mels `[B, 1, M, T]` and latents `[B, L]`; `kl_loss` is not yet weighted.

    Each latent dimension may carry `free_bits` nats at no cost (Kingma et al. 2016, eq. 15), so that none is pushed to
    carry nothing. An RVQ-VAE has no code for what follows the end of a sound, but a VAE has to learn that sounds end:
    the frames after the end count as silence, with a weight of their own that does not grow with their number.
    """
    recon_loss = spectral_loss(recon, target) + _AFTER_END_WEIGHT * _sound_after_end(recon, target)
    # Every rank has the same divergence, a mean over all examples, so each one contributes only its share of it.
    kl_loss = rank_share(kl_per_dimension(mu, logvar).clamp(min=free_bits).sum())
    return recon_loss + kl_weight * kl_loss, recon_loss, kl_loss


def _sound_after_end(recon: Tensor, target: Tensor) -> Tensor:
    """Mean distance from silence, in mel units, of the frames after the end of each sound."""
    after = ~real_frames(target)
    distance = torch.where(after, (recon - SILENCE).abs(), 0.0).sum(dim=(1, 2, 3))
    return _mean_of_examples(distance, after.sum(dim=(1, 2, 3)) * float(target.shape[-2]))
