"""The RVQ-VAE: mel to codes and back."""

import inspect

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin

from distill.audio.spectrogram import PADDING, SILENCE, AudioSpectrogram
from distill.models.blocks import decoder, encoder
from distill.models.grid import Grid
from distill.models.lapped import HOP, SPAN, cosine_series
from distill.models.losses import vqvae_loss
from distill.models.quantizer import NO_CODE
from distill.models.vqvae import ConvVQVAE

LEVELS = 3


def small(**options) -> ConvVQVAE:
    torch.manual_seed(0)
    return ConvVQVAE(**{"codebook_dim": 8, "codebook_size": 16, "dropout": 0.0, "n_mels": 32, **options})


def mels(batch: int = 2, bands: int = 32, frames: int = 64, seed: int = 0) -> Tensor:
    return torch.rand(batch, 1, bands, frames, generator=torch.Generator().manual_seed(seed)) * 1.5 - 0.9


SMALL = small(kmeans_init=False).eval()


# --- the contract ----------------------------------------------------------------------------------------------


def test_the_defaults_are_those_of_the_contract():
    defaults = {name: value.default for name, value in inspect.signature(ConvVQVAE).parameters.items()}
    assert defaults == {
        "codebook_dim": 16,
        "codebook_size": 256,
        "num_quantizers": 3,
        "decay": 0.95,
        "commitment_weight": 0.25,
        "threshold_ema_dead_code": 2,
        "kmeans_init": True,
        "kmeans_iters": 10,
        "dropout": 0.2,
        "transform": "lapped",
        "n_mels": 128,
    }


def test_one_second_at_48_khz_becomes_13_columns_of_8_vectors():
    model = ConvVQVAE(kmeans_init=False).eval()
    mel = AudioSpectrogram().waveform_to_mel(torch.randn(1, 1, 48_000) * 0.1)
    assert mel.shape == (1, 1, 128, 94)
    recon, indices, commit_loss = model(mel)
    assert recon.shape == mel.shape
    assert indices.shape == (1, 8 * 13, 3)
    assert commit_loss.shape == ()
    assert model.encode(mel).shape == (1, 16, 8, 13)


@settings(max_examples=25)
@given(st.integers(1, 3), st.integers(1, 32), st.integers(1, 130), st.booleans())
def test_a_mel_of_any_length_comes_back_as_long_as_it_was(batch, bands, frames, training):
    mel = mels(batch, bands, frames)
    recon, indices, commit_loss = SMALL(mel) if not training else small(kmeans_init=False).train()(mel)
    assert recon.shape == mel.shape
    assert indices.shape == (batch, 2 * (-(-frames // HOP) + 1), LEVELS)
    assert torch.isfinite(recon).all()
    assert torch.isfinite(commit_loss)


@settings(max_examples=10)
@given(st.integers(1, 70), st.integers(1, LEVELS))
def test_any_prefix_of_the_codes_decodes_to_a_mel_of_the_same_shape(frames, levels):
    mel = mels(1, 32, frames)
    assert SMALL.reconstruct(mel, levels).shape == mel.shape


@pytest.mark.parametrize("levels", [2, 3, 4])
def test_it_has_as_many_levels_as_asked(levels):
    _, indices, _ = small(num_quantizers=levels, kmeans_init=False)(mels())
    assert indices.shape[-1] == levels


def test_no_layer_is_built_lazily():
    model = small()
    before = {name: value.shape for name, value in model.state_dict().items()}
    model.train()(mels())
    assert {name: value.shape for name, value in model.state_dict().items()} == before
    assert not any(isinstance(module, LazyModuleMixin) for module in model.modules())


def test_the_settings_build_the_same_model_again():
    model = small(decay=0.7, threshold_ema_dead_code=1.5, kmeans_iters=3)
    again = ConvVQVAE(**model.settings)
    again.load_state_dict(model.state_dict())
    assert again.settings == model.settings
    assert torch.equal(again.eval()(mels())[0], model.eval()(mels())[0])


# --- codes -----------------------------------------------------------------------------------------------------


def test_codes_alone_give_the_reconstruction_back():
    mel = mels(frames=50)
    recon, indices, _ = SMALL(mel)
    torch.testing.assert_close(SMALL.reconstruct(mel), recon)
    assert torch.equal(SMALL.encode_to_codes(mel), indices)
    torch.testing.assert_close(SMALL.decode_codes(indices, height=2)[..., :50], recon)
    first_level = SMALL.decode_codes(indices[..., :1], height=2)[..., :50]
    torch.testing.assert_close(SMALL.reconstruct(mel, levels=1), first_level)
    assert not torch.allclose(first_level, recon)


def test_embeddings_of_codes_are_the_quantized_vectors():
    vectors = SMALL.encode(mels())
    quantized, indices, _ = SMALL.quantize(vectors)
    assert quantized.shape == vectors.shape
    torch.testing.assert_close(SMALL.codes_to_embeddings(indices, height=2), quantized)


def test_the_grid_is_read_row_by_row_with_time_along_the_rows():
    indices = torch.arange(2 * 4).remainder(16).reshape(1, 8, 1)
    grid = SMALL.codes_to_embeddings(indices, height=2)
    assert grid.shape == (1, 8, 2, 4)
    torch.testing.assert_close(grid[0, :, 1, 2], SMALL.quantizer.codebooks[0, 1 * 4 + 2])


def test_each_level_brings_the_codes_nearer_to_what_the_encoder_said():
    model = small()
    model.train()(mels(batch=16))
    model.eval()
    vectors = model.encode(mels(batch=16))
    _, indices, _ = model.quantize(vectors)
    errors = [
        (model.codes_to_embeddings(indices[..., :levels], height=2) - vectors).square().mean().item()
        for levels in range(1, LEVELS + 1)
    ]
    assert errors[0] > errors[1] > errors[2] > 0
    assert errors[0] < vectors.square().mean()


# --- silence and padding ---------------------------------------------------------------------------------------


def test_a_silent_column_has_no_code_and_decodes_to_silence():
    mel = mels(1, 32, 64)
    mel[..., 16:40] = SILENCE
    recon, indices, _ = SMALL(mel)
    grid = indices.reshape(1, 2, 9, LEVELS)
    assert (grid[:, :, [3, 4]] == NO_CODE).all()  # of frames 16 to 32, and 24 to 40
    assert (grid[:, :, [0, 1, 2, 5, 6, 7, 8]] >= 0).all()
    for made in (recon, SMALL.reconstruct(mel), SMALL.reconstruct(mel, 1)):
        assert (made[..., 24:32] == SILENCE).all()  # in no column that has a code
        assert (made[..., 40:] != SILENCE).any(dim=2).all()


@settings(max_examples=20)
@given(st.lists(st.booleans(), min_size=1, max_size=6), st.sampled_from([SILENCE, PADDING]))
def test_codes_are_missing_exactly_where_nothing_sounds(sounding, quiet):
    mel = torch.full((1, 1, 32, 8 * len(sounding)), quiet)
    for place, sounds in enumerate(sounding):
        if sounds:
            mel[0, 0, 5, 8 * place + 7] = -0.5  # one cell is enough, for both columns that it lies in
    _, indices, _ = SMALL(mel)
    coded = [before or after for before, after in zip([False, *sounding], [*sounding, False])]
    assert torch.equal((indices >= 0).reshape(2, -1, LEVELS), torch.tensor(coded)[None, :, None].expand(2, -1, LEVELS))


@pytest.mark.parametrize("training", [False, True])
def test_silence_alone_is_no_accident(training):
    model = small(kmeans_init=True).train(training)
    mel = torch.full((2, 1, 32, 40), SILENCE)
    recon, indices, commit_loss = model(mel)
    total, _, _ = vqvae_loss(recon, mel, commit_loss)
    assert (indices == NO_CODE).all()
    assert (recon == SILENCE).all()
    assert total.item() == 0
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())


def padded(mel: Tensor, frames: int) -> Tensor:
    return torch.nn.functional.pad(mel, (0, frames), value=PADDING)


def test_more_padding_changes_neither_codebooks_nor_commitment_nor_loss_nor_health():
    # Trap 7: a drum hit is 0.2 s in a chunk of 1 s.
    mel = mels(2, 32, 44)
    outcomes = []
    for padding in (84, 212):
        model = small(kmeans_init=False, threshold_ema_dead_code=0).train()
        for _ in range(3):
            recon, indices, commit_loss = model(padded(mel, padding))
            total, recon_loss, _ = vqvae_loss(recon, padded(mel, padding), commit_loss)
        total.backward()
        gradients = torch.cat([weight.grad.flatten() for weight in model.parameters()])
        health = model.quantizer.get_codebook_utilization(indices)
        outcomes.append((dict(model.quantizer.named_buffers()), commit_loss, recon_loss, gradients, health))
    for less, more in zip(*outcomes, strict=True):
        torch.testing.assert_close(less, more, rtol=1e-4, atol=1e-6)


def test_a_short_sound_is_coded_only_where_it_sounds():
    _, indices, _ = SMALL(padded(mels(1, 32, 20), 76))
    assert (indices >= 0).reshape(2, 13, LEVELS).all(dim=(0, 2)).tolist() == 4 * [True] + 9 * [False]


@pytest.mark.parametrize(("transform", "frames"), [("lapped", 40), ("blocks", 48)])
def test_a_mel_is_extended_to_all_bands_with_padding_and_to_whole_columns_with_its_last_frame(transform, frames):
    mel, grid = mels(1, 20, 33), Grid.of(transform, 32)
    whole = grid.pad(mel)
    assert whole.shape == (1, 1, 32, frames)
    assert torch.equal(whole[..., :20, :33], mel)
    assert (whole[..., 20:, :] == PADDING).all()
    assert torch.equal(whole[..., 33:], whole[..., 32:33].expand(-1, -1, -1, frames - 33))
    assert torch.equal(grid.pad(whole), whole)
    with pytest.raises(ValueError, match="32 bands; this model takes up to 16"):
        Grid.of(transform, 16).pad(whole)


def test_frames_in_no_coded_column_are_set_to_silence_and_others_left_alone():
    mel = mels(2, 16, 32)
    blocks, lapped = Grid.of("blocks", 16), Grid.of("lapped", 16)
    quiet = blocks.silence(mel, torch.tensor([[True, False], [False, True]]))
    assert torch.equal(quiet[0, ..., :16], mel[0, ..., :16])
    assert torch.equal(quiet[1, ..., 16:], mel[1, ..., 16:])
    assert (quiet[0, ..., 16:] == SILENCE).all()
    assert blocks.sounding(quiet).tolist() == [[True, False], [False, True]]
    quiet = lapped.silence(mel, torch.tensor([[False, True, False, False, False]] * 2))
    assert torch.equal(quiet[..., :16], mel[..., :16])
    assert (quiet[..., 16:] == SILENCE).all()
    assert lapped.sounding(quiet).tolist() == [[True, True, True, False, False]] * 2


# --- learning --------------------------------------------------------------------------------------------------


def test_every_weight_feels_the_loss():
    model = small(kmeans_init=False).train()
    torch.nn.init.normal_(model.refiner.widen.weight, std=0.01)  # it starts at zero, through which nothing is felt
    mel = mels()
    recon, _, commit_loss = model(mel)
    vqvae_loss(recon, mel, commit_loss)[0].backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().max() > 0, name


def test_the_commitment_weight_counts_once_through_the_whole_model():
    # Trap 1, from the constructor to the encoder's output; the gradient by hand: 2 · w · (sum of residuals) / count.
    weight = 0.25
    model = small(kmeans_init=False, commitment_weight=weight).eval()
    mel = mels()
    vectors = model.encode(mel).detach().requires_grad_()
    _, indices, commit_loss = model.quantize(vectors)
    vqvae_loss(mel, mel, commit_loss, weight)[0].backward()
    embedded = [model.codes_to_embeddings(indices[..., :levels], height=2) for levels in range(1, LEVELS + 1)]
    residuals = sum(vectors.detach() - quantized for quantized in embedded)
    torch.testing.assert_close(vectors.grad, 2 * weight * residuals / vectors.numel())


def test_the_constructor_does_not_weigh_the_commitment_it_returns():
    light, heavy = (small(kmeans_init=False, commitment_weight=w).eval()(mels())[2] for w in (0.01, 50.0))
    assert light.item() == heavy.item() > 0


def test_a_few_steps_lower_the_loss():
    model, mel = small().train(), torch.full((4, 1, 32, 32), -0.8)
    mel[:, :, 4:9] = 0.3
    mel[2:, :, 20:] = 0.1
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-2)
    losses = []
    for _ in range(60):
        recon, _, commit_loss = model(mel)
        total, recon_loss, _ = vqvae_loss(recon, mel, commit_loss)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        losses.append(recon_loss.item())
    assert losses[-1] < 0.3 * losses[0]


def test_an_eval_forward_changes_nothing_and_reports_a_commitment():
    model = small().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    _, _, commit_loss = model(mels())
    assert commit_loss.item() > 0
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_same_seed_gives_the_same_model():
    def trained() -> dict[str, Tensor]:
        model = small(dropout=0.3).train()
        for seed in range(3):
            model(mels(seed=seed))
        return model.state_dict()

    once, again = trained(), trained()
    assert all(torch.equal(once[name], again[name]) for name in once)


# --- the start -------------------------------------------------------------------------------------------------


def ringing(count: int = 40, frames: int = 48, seed: int = 0) -> Tensor:
    """Mels `[count, 1, 32, frames]` that are sums of three fixed shapes, of different strengths."""
    generator = torch.Generator().manual_seed(seed)
    shapes = torch.rand(3, 32, frames, generator=torch.Generator().manual_seed(9))
    return (torch.rand(count, 3, generator=generator) @ shapes.flatten(1)).reshape(count, 1, 32, frames) / 2 - 0.9


def test_before_the_first_step_it_is_a_transform_codec_that_works():
    model = small(codebook_size=64)
    model.start_from([ringing(400)])
    recon = model.eval().reconstruct(ringing(seed=1))
    error = (recon - ringing(seed=1)).abs().mean()
    spread = (ringing(seed=1) - ringing().mean(dim=0)).abs().mean()
    assert error < 0.5 * spread


def test_the_start_is_the_principal_components_of_the_bands():
    # numpy's decomposition is the oracle. They are not centred: silence has to stay 0.
    mel = ringing(400, 16)
    model = small()
    model.start_from([mel])
    frames = (mel - PADDING).squeeze(1).mT.flatten(0, 1)
    theirs = np.linalg.svd(frames.double().numpy(), full_matrices=False)[2][:3]
    ours = (model.encoder.spectral.weight * model.encoder.spectral.scale).detach().numpy()[:3]
    assert np.abs((theirs * ours).sum(axis=1)) == pytest.approx([1, 1, 1], abs=0.01)


def test_all_rows_of_the_grid_have_about_as_much_to_say():
    model = ConvVQVAE(codebook_dim=4, codebook_size=4, n_mels=64)
    falling = torch.linspace(1, 0.05, 64)[:, None]
    mel = torch.randn(200, 1, 64, 16, generator=torch.Generator().manual_seed(0)) * falling * 0.1 - 0.3
    model.start_from([mel])
    energy = model.encode(mel)[:, 1:].square().mean(dim=(0, 1, 3))  # the first of all is the mean level, a row's alone
    assert energy.max() < 2 * energy.min()


def test_a_start_needs_no_whole_column_and_is_not_hurt_by_one_bad_sample():
    model = small()
    model.start_from([mels(4, 32, 9)])
    assert model.quantizer.ready
    damaged = mels(4, 32, 40)
    damaged[0, 0, 3, 3] = torch.nan
    model = small()
    model.start_from([damaged])
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())


def test_silence_alone_starts_nothing():
    model = small()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.start_from([torch.full((2, 1, 32, 40), SILENCE)])
    assert not model.quantizer.ready
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# --- encoder and decoder ---------------------------------------------------------------------------------------


def test_the_cosine_series_of_columns_that_overlap_make_the_frames_again():
    series, frames = cosine_series(), torch.randn(5 * HOP)
    padded = torch.nn.functional.pad(frames, (HOP, HOP))
    columns = (padded.unfold(0, SPAN, HOP) @ series) @ series.T
    torch.testing.assert_close((columns[:-1, HOP:] + columns[1:, :HOP]).flatten(), frames)


def test_encoder_and_decoder_undo_each_others_shape():
    vectors = encoder(5)(mels(2, 48, 80))
    assert vectors.shape == (2, 5, 3, 5)
    assert decoder(5, dropout=0.0)(vectors).shape == (2, 1, 48, 80)


def test_what_a_stretch_of_sound_becomes_depends_only_on_its_surroundings():
    left, middle = mels(1, 32, 160, seed=1), mels(1, 32, 160, seed=2)
    alone = SMALL(torch.cat([left, middle], dim=-1))[0]
    other = SMALL(torch.cat([left, middle, mels(1, 32, 320, seed=3)], dim=-1))[0]
    torch.testing.assert_close(alone[..., :160], other[..., :160], rtol=1e-4, atol=1e-5)


def test_nothing_is_normalised_over_time_or_over_the_batch():
    assert not any(isinstance(module, nn.modules.batchnorm._NormBase | nn.GroupNorm) for module in SMALL.modules())


def test_a_mel_of_fewer_bands_is_rebuilt_in_as_many() -> None:
    model, mel = small().eval(), mels(bands=16)
    with torch.no_grad():
        assert model.reconstruct(mel).shape == mel.shape
