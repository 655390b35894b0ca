"""The continuous VAE: its shapes, its two ways of taking a latent, what its loss counts, and how windows join."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.nn.parameter import UninitializedTensorMixin

from distill.audio.spectrogram import PADDING, SILENCE
from distill.models.losses import kl_per_dimension, spectral_loss, vae_loss, vqvae_loss
from distill.models.vae import ConvVAE, overlap_add

pytestmark = pytest.mark.usefixtures("narrow_nets")

BANDS, FRAMES, LATENTS = 32, 48, 8


def make(frames: int = FRAMES, **changes: object) -> ConvVAE:
    torch.manual_seed(0)
    return ConvVAE(**({"latent_dim": LATENTS, "dropout": 0.0, "n_mels": BANDS, "frames": frames} | changes))


@pytest.fixture(params=["lapped", "convolutions"])
def model(request: pytest.FixtureRequest) -> ConvVAE:
    return make(transform=request.param).eval()


def mels(batch: int = 2, frames: int = 24, seed: int = 0) -> Tensor:
    return torch.rand(batch, 1, BANDS, frames, generator=torch.Generator().manual_seed(seed)) - 0.5


def latents(batch: int = 16, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(batch, LATENTS, generator=generator) for _ in range(2))  # type: ignore[return-value]


# The model


@pytest.mark.parametrize("frames", [1, 15, 16, 47, 48])
@pytest.mark.parametrize("training", [True, False])
def test_any_mel_up_to_a_chunk_comes_back_in_its_own_shape(frames, training):
    mel = mels(3, frames)
    recon, mu, logvar = make().train(training)(mel)
    assert recon.shape == mel.shape
    assert mu.shape == logvar.shape == (3, LATENTS)


def test_more_than_a_chunk_at_a_time_is_refused_with_the_limit(model):
    with pytest.raises(ValueError, match="49 frames; this model takes up to 48"):
        model(mels(frames=49))


@pytest.mark.parametrize("wrong", [{"n_mels": 30}, {"frames": 47}])
def test_a_chunk_must_be_whole_grid_cells(wrong):
    with pytest.raises(ValueError, match="multiples of 16"):
        ConvVAE(**wrong)


def test_the_defaults_are_those_of_a_one_second_chunk():
    assert make(frames=96).settings["frames"] == ConvVAE(n_mels=BANDS).settings["frames"] == 96
    assert ConvVAE(n_mels=BANDS).latent_dim == 64


def test_nothing_is_built_lazily(model):
    assert not any(isinstance(value, UninitializedTensorMixin) for value in model.parameters())
    before = model.state_dict().keys()
    model(mels())
    assert model.state_dict().keys() == before


def test_the_settings_build_the_same_model_again(model):
    again = ConvVAE(**model.settings)
    again.load_state_dict(model.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(again.eval()(mels()), model(mels())))


def test_in_use_the_same_mel_gives_the_same_sound_from_its_mean(model):
    recon, mu, _ = model(mels())
    assert torch.equal(recon, model(mels())[0])
    assert torch.equal(recon, model.decode(mu)[..., :24])


def test_in_training_the_latent_is_drawn_anew_while_the_gaussian_stays():
    model = make().train()
    one, other = model(mels()), model(mels())
    assert not torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])
    assert torch.equal(one[2], other[2])


def test_what_is_drawn_in_training_has_the_mean_and_spread_it_claims():
    model = make().train()
    with torch.no_grad():
        _, mu, logvar = model(mels(1))
        drawn = []
        model.decode = lambda z: drawn.append(z) or torch.zeros(len(z), 1, BANDS, FRAMES)
        model(mels(1).expand(4000, -1, -1, -1))
    torch.testing.assert_close(drawn[0].mean(dim=0), mu[0], atol=0.1, rtol=0)
    torch.testing.assert_close(drawn[0].std(dim=0), (0.5 * logvar[0]).exp(), rtol=0.1, atol=0)


@pytest.mark.parametrize("transform", ["lapped", "convolutions"])
def test_gradients_reach_every_parameter(transform):
    model = make(transform=transform).train()
    if transform == "lapped":
        torch.nn.init.normal_(model.decoder[1].widen.weight)  # the refiner starts as none
    vae_loss(*_forward(model, mels(4)), kl_weight=0.01, free_bits=0.0)[0].backward()
    assert [name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()] == []


def _forward(model: ConvVAE, mel: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    recon, mu, logvar = model(mel)
    return recon, mel, mu, logvar


@pytest.mark.parametrize("level", [-1.0, -0.999, 0.0, 1e4])
def test_no_mel_makes_a_loss_that_is_not_finite(level):
    model = make().train()
    total, _, _ = vae_loss(*_forward(model, torch.full((2, 1, BANDS, FRAMES), level)))
    assert torch.isfinite(total)


def test_padding_by_hand_changes_no_latent(model):
    mel = mels(frames=20)
    padded = torch.nn.functional.pad(mel, (0, 11), value=PADDING)
    assert torch.equal(model.encode(mel)[0], model.encode(padded)[0])


def test_samples_are_whole_chunks_that_differ_and_follow_torchs_seed(model):
    torch.manual_seed(3)
    made = model.sample(5)
    assert made.shape == (5, 1, BANDS, FRAMES)
    assert len({mel.numpy().tobytes() for mel in made}) == 5
    torch.manual_seed(3)
    assert torch.equal(model.sample(5, "cpu"), made)


# The start


def sounds(count: int = 64, size: int = 64, seed: int = 0) -> Tensor:
    """Mels `[count, 1, size, size]` of a bump each, at a place of its own, over a texture."""
    random = torch.Generator().manual_seed(seed)
    across, along = (4 * torch.linspace(0, 1, size) - 4 * torch.rand(count, 1, generator=random) for _ in range(2))
    bumps = (-across.square()[:, :, None] - along.square()[:, None, :]).exp()
    return (2 * bumps - 0.9 + 0.05 * torch.randn(count, size, size, generator=random)).unsqueeze(1)


def started(mel: Tensor, latent_dim: int = LATENTS) -> ConvVAE:
    model = make(mel.shape[-1], n_mels=mel.shape[-2], latent_dim=latent_dim)
    model.start_from(list(mel.split(16)))
    return model.eval()


def test_latents_have_a_mean_of_0_and_a_variance_of_1_from_the_start():
    mu, logvar = started(sounds()).encode(sounds())
    torch.testing.assert_close(mu.mean(dim=0), torch.zeros(LATENTS), atol=1e-3, rtol=0)
    torch.testing.assert_close(mu.var(dim=0, correction=0), torch.ones(LATENTS), atol=1e-2, rtol=0)
    assert torch.allclose((0.5 * logvar).exp(), torch.tensor(0.2))


def test_more_latents_reconstruct_better_from_the_start():
    mel = sounds()
    errors = [(started(mel, count)(mel)[0] - mel).square().mean().item() for count in (1, 4, 16, 48)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.1 * (mel - mel.mean(dim=0)).square().mean()


def test_of_two_sounds_one_latent_tells_them_apart_and_the_others_are_0():
    mel = sounds(2)
    model = started(mel)
    recon, mu, _ = model(mel)
    torch.testing.assert_close(mu[:, 0].abs(), torch.ones(2), atol=1e-3, rtol=0)
    assert not mu[:, 1:].any()
    assert (recon - mel).square().mean() < 0.2 * (mel - mel.mean(dim=0)).square().mean()


def test_silence_and_what_is_not_finite_start_nothing():
    model = make()
    model.start_from([torch.full((2, 1, BANDS, FRAMES), PADDING), torch.full((1, 1, BANDS, FRAMES), torch.nan)])
    assert not model.ready
    model.start_from([mels(4), torch.full((1, 1, BANDS, FRAMES), torch.nan)])
    assert model.ready
    assert all(value.isfinite().all() for value in model.state_dict().values())


def test_whether_it_has_started_is_part_of_the_state():
    model = make()
    model.start_from([mels(4)])
    again, old = make(), make(transform="convolutions")
    assert (again.ready, old.ready) == (False, True)
    again.load_state_dict(model.state_dict())
    assert again.ready


# No pattern of strides


def energy_at_strides(mel: Tensor, axis: int) -> Tensor:
    """Energy of mels `[N, 1, M, T]` at periods of 4 and of 2 cells along an axis: float `[2]`."""
    cells = mel.movedim(axis, -1)
    size = cells.shape[-1]
    spectrum = torch.fft.rfft(cells * torch.hann_window(size)).abs().square().flatten(0, -2).mean(dim=0)
    return spectrum[[size // 4, size // 2]]


@pytest.mark.parametrize(("transform", "stands_out"), [("lapped", False), ("convolutions", True)])
def test_only_the_convolutions_of_before_leave_a_pattern_of_their_strides(transform, stands_out):
    mel = sounds()
    model = make(64, n_mels=64, transform=transform)
    if transform == "lapped":
        model.start_from([mel])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(25):
        optimizer.zero_grad()
        vae_loss(*_forward(model, mel), kl_weight=1e-5, power=0.15)[0].backward()
        optimizer.step()
    with torch.no_grad():
        decoded = model.eval()(mel)[0]
    for axis in (-2, -1):
        times = float((energy_at_strides(decoded, axis) / energy_at_strides(mel, axis)).max())
        assert (times > 20) == stands_out
        assert times > 20 or times < 5


# Sounds longer than a chunk


@pytest.mark.parametrize("length", [1, 40, 48, 49, 80, 81, 200])
def test_a_mel_of_any_length_is_reconstructed_frame_for_frame(model, length):
    made = model.reconstruct(mels(1, length))
    assert made.shape == (1, 1, BANDS, length)
    assert torch.isfinite(made).all()


@pytest.mark.parametrize("frames", [16, 32, 48, 96])
def test_a_model_of_any_chunk_length_leaves_no_gap_in_a_long_sound(frames):
    assert torch.isfinite(make(frames).eval().reconstruct(mels(1, 200))).all()


def test_what_fits_in_one_window_is_what_the_model_makes_of_it(model):
    mel = mels(1, 30)
    torch.testing.assert_close(model.reconstruct(mel), model(mel)[0])


class Alternating(ConvVAE):
    """Decodes every second window as 1, the others as 0: as different as neighbours can be."""

    def encode(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        turn = torch.arange(len(mel))[:, None] % 2 * torch.ones(1, self.latent_dim)
        return turn, turn

    def decode(self, z: Tensor) -> Tensor:
        return z[:, :1, None, None].expand(-1, 1, BANDS, self.frames)


@pytest.mark.parametrize("frames", [32, 48, 96])
def test_windows_fade_into_each_other_without_a_seam(frames):
    made = Alternating(LATENTS, n_mels=BANDS, frames=frames).reconstruct(mels(1, 400))
    assert made.amax() - made.amin() > 0.2  # the windows do differ
    assert made.diff(dim=-1).abs().max() < 0.3


windows_of = st.tuples(st.integers(1, 6), st.integers(1, 24), st.integers(0, 24))  # count, hop, overlap


@settings(max_examples=60)
@given(windows_of, st.floats(-1, 1, width=32))
def test_constant_windows_join_to_the_same_constant(shape, level):
    count, hop, overlap = shape
    joined = overlap_add(torch.full((count, 1, 2, hop + overlap), level), hop)
    assert joined.shape == (1, 1, 2, (count - 1) * hop + hop + overlap)
    torch.testing.assert_close(joined, torch.full_like(joined, level), atol=1e-5, rtol=1e-5)


@settings(max_examples=60)
@given(windows_of, st.integers(0, 100))
def test_windows_cut_from_one_mel_join_to_that_mel(shape, seed):
    count, hop, overlap = shape
    frames = hop + overlap
    whole = torch.randn(1, 1, 3, (count - 1) * hop + frames, generator=torch.Generator().manual_seed(seed))
    cut = torch.cat([whole[..., n * hop : n * hop + frames] for n in range(count)])
    torch.testing.assert_close(overlap_add(cut, hop), whole, atol=1e-5, rtol=1e-5)


# The loss


def test_the_divergence_is_torchs_own():
    mu, logvar = latents()
    oracle = kl_divergence(Normal(mu, (0.5 * logvar).exp()), Normal(0.0, 1.0)).mean(dim=0)
    torch.testing.assert_close(kl_per_dimension(mu, logvar), oracle)


def test_the_prior_itself_has_no_divergence():
    assert not kl_per_dimension(torch.zeros(4, LATENTS), torch.zeros(4, LATENTS)).any()


@pytest.mark.parametrize("weight", [0.0, 0.001, 1.0, 30.0])
def test_the_loss_is_reconstruction_plus_weighted_divergence(weight):
    recon, target, (mu, logvar) = mels(seed=1), mels(seed=2), latents(2)
    total, recon_loss, kl_loss = vae_loss(recon, target, mu, logvar, weight, free_bits=0.0)
    assert kl_loss.item() == pytest.approx(kl_per_dimension(mu, logvar).sum().item())
    assert recon_loss.item() == pytest.approx(spectral_loss(recon, target).item())
    assert total.item() == pytest.approx(recon_loss.item() + weight * kl_loss.item())


def test_the_loss_of_mels_with_a_power_is_that_of_the_other_family():
    recon, target, (mu, logvar) = mels(seed=1), mels(seed=2), latents(2)
    _, recon_loss, _ = vae_loss(recon, target, mu, logvar, power=0.15)
    assert recon_loss.item() == pytest.approx(vqvae_loss(recon, target, torch.zeros(()), power=0.15)[1].item())


def test_the_weight_counts_once_in_the_gradient():
    mu, logvar = (value.requires_grad_() for value in latents(2))
    losses = [vae_loss(mels(), mels(), mu, logvar, weight, 0.0)[0] for weight in (1.0, 0.25)]
    whole, quarter = (torch.autograd.grad(loss, mu)[0] for loss in losses)
    torch.testing.assert_close(quarter, 0.25 * whole)


@settings(max_examples=30)
@given(st.floats(0.01, 2.0), st.integers(0, 50))
def test_a_dimension_below_its_free_bits_feels_no_divergence(free_bits, seed):
    mu, logvar = (0.5 * value for value in latents(seed=seed))
    mu.requires_grad_()
    divergence = kl_per_dimension(mu, logvar)
    _, _, kl_loss = vae_loss(mels(), mels(), mu, logvar, 1.0, free_bits)
    (gradient,) = torch.autograd.grad(kl_loss, mu)
    assert torch.equal(gradient.abs().sum(dim=0) > 0, divergence > free_bits)
    assert kl_loss.item() == pytest.approx(sum(max(free_bits, float(d)) for d in divergence.detach()), rel=1e-5)


def after_end(recon: Tensor, target: Tensor) -> float:
    """What the loss adds to the plain spectral loss."""
    _, recon_loss, _ = vae_loss(recon, target, *latents(len(target)))
    return (recon_loss - spectral_loss(recon, target)).item()


def ended(target: Tensor, frames: int) -> Tensor:
    """`target` followed by so many frames of padding."""
    return torch.nn.functional.pad(target, (0, frames), value=PADDING)


def test_a_sound_without_padding_has_the_plain_spectral_loss():
    assert after_end(mels(seed=1), mels(seed=2)) == 0


def test_silence_after_the_end_costs_nothing():
    recon = torch.nn.functional.pad(mels(seed=1), (0, 10), value=SILENCE)
    assert after_end(recon, ended(mels(seed=2), 10)) == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("length", [1, 10, 200])
def test_sound_after_the_end_costs_by_its_level_and_not_by_its_length(length):
    recon = torch.nn.functional.pad(mels(seed=1), (0, length), value=SILENCE + 0.5)
    assert after_end(recon, ended(mels(seed=2), length)) == pytest.approx(0.1 * 0.5, rel=1e-4)


def test_nothing_else_of_the_padding_counts():
    target, recon = ended(mels(seed=2), 8), ended(mels(seed=1), 8)
    plain = spectral_loss(mels(seed=1), mels(seed=2)).item()
    for seed in range(5):  # 8 = 2 pooling cells of 4: nothing of the padding shares one with the sound
        recon[..., 24:] = mels(frames=8, seed=seed)
        extra = 0.1 * (recon[..., 24:] - SILENCE).abs().mean().item()
        assert vae_loss(recon, target, *latents(2))[1].item() == pytest.approx(plain + extra, rel=1e-5)


def test_a_batch_of_padding_alone_has_a_finite_loss_and_gradient():
    recon = mels().requires_grad_()
    total, _, _ = vae_loss(recon, torch.full_like(recon, PADDING), *latents(2))
    (gradient,) = torch.autograd.grad(total, recon)
    assert torch.isfinite(total)
    assert torch.isfinite(gradient).all()
