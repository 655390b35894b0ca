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
_TINY = 1e-12  # of a squared difference
_POOLED_BANDS = 8
_FAINT = 0.02  # of a mel with silence at 0: its energy, and the gradient of that, is still a number


def spectral_loss(recon: Tensor, target: Tensor, exponent: int = 1) -> Tensor:
    """Mean absolute difference of mels `[B, 1, M, T]`, averaged over three scales; a scalar in mel units.

    With an `exponent` of 2 it is the root of the mean square. It is the mean over the examples of each one's
    difference, so that it does not depend on how batches are composed.
    """
    real = real_frames(target)
    difference, share = torch.where(real, recon - target, 0.0), real.to(target.dtype)
    means = [_masked_mean(difference, share, exponent)]
    for _ in range(_SCALES - 1):
        if min(difference.shape[-2:]) > 1:  # a mel too small to be pooled counts again as it is
            # The share is pooled alike: a coarse cell counts as much as there are real frames in it.
            difference, share = F.avg_pool2d(difference, 2), F.avg_pool2d(share, (1, 2))
        means.append(_masked_mean(difference, share, exponent))
    return torch.stack(means).mean()


def _masked_mean(difference: Tensor, share: Tensor, exponent: int) -> Tensor:
    """Mean over the examples of the mean `difference` `[B, 1, M, T]`, frames weighted by `[B, 1, 1, T]`."""
    counts = share.sum(dim=(1, 2, 3)) * difference.shape[-2]
    if exponent == 1:
        return _mean_of_examples(difference.abs().sum(dim=(1, 2, 3)) / counts.clamp(min=1e-6), counts)
    # Where a pooled cell is part padding, its difference is the mean over all of it: that of its sound is larger.
    square = (difference.square() / share.clamp(min=1e-6)).sum(dim=(1, 2, 3)) / counts.clamp(min=1e-6)
    # Where nothing differs, the gradient of a root would be infinite.
    return _mean_of_examples((square + _TINY).sqrt() - _TINY**0.5, counts)


def _mean_of_examples(means: Tensor, counts: Tensor) -> Tensor:
    """Mean of `means` `[B]` over the examples with one of `counts` `[B]` above 0: this rank's share of it."""
    return means.sum() / all_reduce((counts > 0).sum()).clamp(min=1)


def energy_loss(recon: Tensor, target: Tensor, power: float) -> Tensor:
    """Root of the mean square difference of the energies of mels `[B, 1, M, T]` with `power`; a scalar in mel units.

    Energies are those of a few neighbouring bands, as a mel would show them. A guess that is right in the mean of a mel
    is wrong in its energy, because energy is far from linear in a mel's values.
    """
    real = real_frames(target)
    difference = _energy(torch.where(real, recon, target), power) - _energy(target, power)
    return _masked_mean(difference, real.to(target.dtype), exponent=2)


def _squared_loss(recon: Tensor, target: Tensor, power: float | None) -> Tensor:
    """The spectral loss in squares; where mels have a `power`, half of it is that of energies."""
    # The best guess of what is left open is the mean, by squares: that by absolute values is too soft.
    recon_loss = spectral_loss(recon, target, exponent=2)
    return recon_loss if power is None else (recon_loss + energy_loss(recon, target, power)) / 2


def _energy(mel: Tensor, power: float) -> Tensor:
    """The mean energy of neighbouring bands of mels `[B, 1, M, T]`, to `power` / 2: `[B, 1, M / 8, T]`."""
    # An exponential of a logarithm, and a plain mean: as a power and a pooling, both ways take twice as long.
    energy = ((mel - SILENCE).clamp(min=_FAINT).log() * (2 / power)).exp()
    pooled: Tensor = energy.reshape(len(energy), 1, -1, _POOLED_BANDS, energy.shape[-1]).mean(dim=3) ** (power / 2)
    return pooled


def vqvae_loss(
    recon: Tensor, target: Tensor, commit_loss: Tensor, commitment_weight: float = 0.25, power: float | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """`(total, recon_loss, weighted_commit)` for mels `[B, 1, M, T]` and the model's raw commitment.

    The weight is applied here and nowhere else, so the gradient carries it once. Where the mel has a `power`, half of
    the reconstruction loss is that of energies.
    """
    recon_loss = _squared_loss(recon, target, power)
    weighted_commit = commitment_weight * commit_loss
    return recon_loss + weighted_commit, recon_loss, weighted_commit


def kl_per_dimension(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL divergence to the standard normal of each latent dimension, mean over `[B, L]`: float `[L]`, in nats."""
    examples = all_reduce(mu.new_full((), len(mu)))
    return all_reduce_with_gradient((0.5 * (mu.square() + logvar.exp() - 1 - logvar)).sum(dim=0) / examples)


def vae_loss(
    recon: Tensor,
    target: Tensor,
    mu: Tensor,
    logvar: Tensor,
    kl_weight: float | Tensor = 1.0,
    free_bits: float = 0.1,
    power: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """`(total, recon_loss, kl_loss)` for mels `[B, 1, M, T]` and latents `[B, L]`; `kl_loss` is not yet weighted.

    Each latent dimension may carry `free_bits` nats at no cost (Kingma et al. 2016, eq. 15), so that none is pushed to
    carry nothing. An RVQ-VAE has no code for what follows the end of a sound, but a VAE has to learn that sounds end:
    the frames after the end count as silence, with a weight of their own that does not grow with their number.
    """
    recon_loss = spectral_loss(recon, target) if power is None else _squared_loss(recon, target, power)
    recon_loss = recon_loss + _AFTER_END_WEIGHT * _sound_after_end(recon, target)
    # Every rank has the same divergence, a mean over all examples, so each one contributes only its share of it.
    kl_loss = rank_share(kl_per_dimension(mu, logvar).clamp(min=free_bits).sum())
    return recon_loss + kl_weight * kl_loss, recon_loss, kl_loss


def _sound_after_end(recon: Tensor, target: Tensor) -> Tensor:
    """Mean distance from silence, in mel units, of the frames after the end of each sound."""
    after = ~real_frames(target)
    distance = torch.where(after, (recon - SILENCE).abs(), 0.0).sum(dim=(1, 2, 3))
    counts = after.sum(dim=(1, 2, 3)) * float(target.shape[-2])
    return _mean_of_examples(distance / counts.clamp(min=1e-6), counts)
