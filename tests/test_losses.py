"""What training minimises, and what it leaves alone."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from distill.audio.spectrogram import PADDING, SILENCE
from distill.models.losses import spectral_loss, vqvae_loss
from distill.models.quantizer import ResidualQuantizer


def mels(batch: int = 2, bands: int = 16, frames: int = 24, seed: int = 0) -> Tensor:
    return torch.rand(batch, 1, bands, frames, generator=torch.Generator().manual_seed(seed)) - 0.5


def pooled(mel: np.ndarray, scale: int) -> np.ndarray:
    bands, frames = (size // scale * scale for size in mel.shape[-2:])
    cut = mel[..., :bands, :frames]
    return cut.reshape(*cut.shape[:-2], bands // scale, scale, frames // scale, scale).mean(axis=(-3, -1))


@pytest.mark.parametrize("weight", [0.0, 0.25, 3.0])
def test_the_loss_is_reconstruction_plus_weighted_commitment(weight):
    recon, target = mels(seed=1), mels(seed=2)
    total, recon_loss, weighted = vqvae_loss(recon, target, torch.tensor(0.8), weight)
    assert weighted.item() == pytest.approx(0.8 * weight)
    assert recon_loss.item() == pytest.approx(spectral_loss(recon, target, exponent=2).item())
    assert total.item() == pytest.approx(recon_loss.item() + weighted.item())


def test_the_weight_is_a_quarter_unless_told():
    _, _, weighted = vqvae_loss(mels(), mels(), torch.tensor(2.0))
    assert weighted.item() == 0.5


@pytest.mark.parametrize("weight", [0.25, 0.5, 2.0])
def test_the_commitment_weight_counts_once(weight):
    # Trap 1: a quantizer that had weighted its commitment already would make this w squared.
    torch.manual_seed(0)
    quantizer = ResidualQuantizer(6, 16, 3, kmeans_init=False)
    x = torch.randn(2, 10, 6).requires_grad_()
    commitment = quantizer.eval()(x).commitment.sum()
    (raw,) = torch.autograd.grad(commitment, x, retain_graph=True)
    (felt,) = torch.autograd.grad(vqvae_loss(mels(), mels(), commitment, weight)[0], x)
    torch.testing.assert_close(felt, weight * raw)
    assert raw.norm() > 0


def test_the_spectral_loss_is_the_mean_of_three_scales_as_numpy_has_them():
    recon, target = mels(frames=27, seed=1), mels(frames=27, seed=2)
    difference = (recon - target).numpy().astype(np.float64)
    by_scale = [np.abs(pooled(difference, scale)) for scale in (1, 2, 4)]
    assert spectral_loss(recon, target).item() == pytest.approx(np.mean([one.mean() for one in by_scale]), rel=1e-5)
    roots = [np.sqrt(np.square(pooled(difference, scale)).mean(axis=(1, 2, 3))).mean() for scale in (1, 2, 4)]
    assert spectral_loss(recon, target, exponent=2).item() == pytest.approx(np.mean(roots), rel=1e-4)


@settings(max_examples=30)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(-2, 2), st.integers(0, 20), st.sampled_from([1, 2]))
def test_an_even_offset_costs_its_size_at_any_length_and_padding(bands, frames, offset, padding, exponent):
    target = mels(1, bands, frames)
    recon = target + offset
    target, recon = (torch.nn.functional.pad(mel, (0, padding), value=PADDING) for mel in (target, recon))
    assert spectral_loss(recon, target, exponent).item() == pytest.approx(abs(offset), rel=1e-4, abs=2e-6)


@settings(max_examples=20)
@given(st.integers(1, 24), st.sampled_from([0.0, 5.0, math.inf, math.nan]), st.sampled_from([1, 2]))
def test_what_is_decoded_into_padding_costs_nothing_and_pulls_on_nothing(padded, value, exponent):
    target, recon = mels(), mels(seed=1)
    target[..., -padded:] = PADDING
    loss = spectral_loss(recon, target, exponent)
    recon[..., -padded:] = value
    recon.requires_grad_()
    changed = spectral_loss(recon, target, exponent)
    assert changed.item() == loss.item()
    changed.backward()
    assert (recon.grad[..., -padded:] == 0).all()


def test_silence_counts_where_padding_does_not():
    target, recon = mels(), mels()
    target[..., 8:16] = recon[..., 8:16] = SILENCE
    recon[..., 10] = 0.0
    assert spectral_loss(recon, target).item() > 0.01


def test_a_frame_with_one_band_above_padding_is_a_real_frame():
    target = torch.full((1, 1, 16, 8), PADDING)
    target[..., 3, :] = 0.2
    assert spectral_loss(target + 0.5, target).item() == pytest.approx(0.5)


@pytest.mark.parametrize("exponent", [1, 2])
def test_a_batch_of_nothing_but_padding_costs_nothing(exponent):
    target = torch.full((2, 1, 16, 24), PADDING)
    recon = mels().requires_grad_()
    loss = spectral_loss(recon, target, exponent)
    loss.backward()
    assert loss.item() == 0
    assert (recon.grad == 0).all()


@pytest.mark.parametrize("exponent", [1, 2])
def test_a_perfect_reconstruction_costs_nothing(exponent):
    assert spectral_loss(mels(), mels(), exponent).item() == 0


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_reconstruction_that_is_no_number_is_not_hidden(value):
    recon = mels()
    recon[0, 0, 3, 3] = value
    total, recon_loss, _ = vqvae_loss(recon, mels(), torch.tensor(0.1))
    assert not torch.isfinite(total)
    assert not torch.isfinite(recon_loss)


def test_a_target_that_is_no_number_is_not_hidden():
    target = mels()
    target[0, 0, :, 3] = math.nan
    assert vqvae_loss(mels(), target, torch.tensor(0.1))[0].isnan()


def test_a_commitment_that_is_no_number_is_not_hidden():
    total, recon_loss, weighted = vqvae_loss(mels(), mels(seed=1), torch.tensor(math.nan))
    assert total.isnan()
    assert weighted.isnan()
    assert torch.isfinite(recon_loss)


@pytest.mark.parametrize("exponent", [1, 2])
def test_the_loss_does_not_depend_on_how_batches_are_made_up(exponent):
    generator = torch.Generator().manual_seed(0)
    target, recon = (torch.rand(4, 1, 128, 94, generator=generator) for _ in range(2))
    target[2:, :, :, 20:] = PADDING  # two of the four are short
    together = spectral_loss(recon, target, exponent)
    apart = torch.stack([spectral_loss(recon[i : i + 1], target[i : i + 1], exponent) for i in range(4)]).mean()
    assert together.item() == pytest.approx(apart.item(), rel=1e-5)
