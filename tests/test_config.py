"""Presets that follow from the number of files, and settings that are checked before anything is done with them."""

import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.audio.settings import SpectrogramConfig
from distill.errors import ConfigError
from distill.families import get_family
from distill.training.config import (
    LEVEL_NAMES,
    TrainingConfig,
    VQVAEConfig,
    get_adaptive_config,
    get_adaptive_vqvae_config,
)

SHARED = """
    batch_size max_epochs learning_rate weight_decay gradient_clip_norm chunk_duration_s val_fraction
    checkpoint_interval preview_interval max_checkpoints device num_workers seed
""".split()  # noqa: SIM905

FEW, SOME, MANY = (128, 0.99, 100, 1e-3, 8), (1024, 0.99, 100, 1e-3, 8), (1024, 0.98, 300, 2e-3, 1)


@pytest.mark.parametrize(
    ("files", "seconds", "row"),
    [
        (0, None, FEW), (7, None, FEW), (8, None, SOME), (100, None, SOME), (101, None, MANY),
        (2, 3600.0, MANY), (10_000, 60.0, SOME), (50, 7.2, FEW), (50, 7.3, SOME), (50, 101.0, MANY),
    ],
)  # fmt: skip
def test_the_rvq_preset_follows_the_sound_there_is_or_the_number_of_files(files, seconds, row):
    config = get_adaptive_vqvae_config(files, seconds)
    course = (config.decay, config.max_epochs, config.learning_rate, config.augmentation_copies)
    assert (config.codebook_size, *course) == row
    assert (config.codebook_dim, config.num_quantizers, config.commitment_weight) == (18, 4, 0.25)
    assert (config.dropout, config.transform) == (0.0, "lapped")
    assert (config.kmeans_init, config.kmeans_iters) == (True, 10)


@pytest.mark.parametrize("files", [5, 1000])
def test_the_codes_of_a_preset_take_at_most_12_kbit_a_second(files):
    config = get_adaptive_vqvae_config(files)
    mel = get_family("vqvae").spectrogram
    vectors_per_second = mel.rows / 16 * mel.sample_rate / mel.hop_length / 8
    bits = vectors_per_second * config.num_quantizers * math.log2(config.codebook_size)
    assert config.kilobits(mel.frame_rate) == pytest.approx(bits / 1000)
    assert bits <= 12_000


@pytest.mark.parametrize(
    ("rate", "n_fft", "hop_length"),
    [(16_000, 1024, 256), (22_050, 1024, 256), (24_000, 1024, 256), (32_000, 2048, 512), (44_100, 2048, 512)],
)
@pytest.mark.parametrize("family", ["vqvae", "vae"])
def test_windows_halve_at_low_rates_so_that_frames_last_about_as_long(family, rate, n_fft, hop_length):
    usual = get_family(family).spectrogram or SpectrogramConfig()
    mel = usual.at_rate(rate)
    assert (mel.sample_rate, mel.n_fft, mel.hop_length, mel.rows) == (rate, n_fft, hop_length, usual.rows)
    assert usual.frame_rate / 2 < mel.frame_rate <= usual.frame_rate


@given(st.integers(16_000, 48_000))
def test_at_no_rate_the_codes_take_more_than_at_the_usual_one(rate):
    config, usual = get_adaptive_vqvae_config(1000), get_family("vqvae").spectrogram
    assert config.kilobits(usual.at_rate(rate).frame_rate) <= config.kilobits(usual.frame_rate)
    assert usual.at_rate(usual.sample_rate) == usual


@pytest.mark.parametrize("rate", [15_999, 48_001])
def test_a_rate_that_no_model_has_is_refused(rate):
    with pytest.raises(ConfigError, match=f"sample_rate is {rate}; it must be from 16000 to 48000"):
        SpectrogramConfig().at_rate(rate)


CONSERVATIVE = (0.4, 0.05, 5e-4, 100, 0.5, 0.5, 15)
BALANCED = (0.2, 0.01, 1e-3, 200, 0.3, 1.0, 10)
AGGRESSIVE = (0.1, 0.001, 2e-3, 500, 0.2, 5.0, 5)


@pytest.mark.parametrize(
    ("files", "row"),
    [(1, CONSERVATIVE), (49, CONSERVATIVE), (50, BALANCED), (199, BALANCED), (200, AGGRESSIVE), (9999, AGGRESSIVE)],
)
def test_the_vae_preset_follows_the_number_of_files(files, row):
    config = get_adaptive_config(files)
    rate, warmup = config.learning_rate, config.kl_warmup_fraction
    shape = (config.dropout, config.weight_decay, rate, config.max_epochs, warmup)
    assert (*shape, config.gradient_clip_norm, config.augmentation_copies) == row


@pytest.mark.parametrize("preset", [get_adaptive_vqvae_config, get_adaptive_config])
@pytest.mark.parametrize(("files", "share"), [(1, 0.25), (9, 0.25), (10, 0.1), (5000, 0.1)])
def test_fewer_files_keep_a_larger_share_for_validation(preset, files, share):
    assert preset(files).val_fraction == share


@pytest.mark.parametrize("kind", [VQVAEConfig, TrainingConfig])
def test_both_families_carry_the_engines_settings(kind):
    config = kind()
    assert all(hasattr(config, name) for name in SHARED)
    assert (config.chunk_duration_s, config.device) == (1.0, "auto")


def test_overrides_replace_fields_of_the_preset_and_nothing_else():
    changed = get_adaptive_vqvae_config(5, codebook_size=32, val_fraction=0.5, seed=7)
    assert (changed.codebook_size, changed.val_fraction, changed.seed) == (32, 0.5, 7)
    changed.codebook_size, changed.val_fraction, changed.seed = 128, 0.25, 0
    assert changed == get_adaptive_vqvae_config(5)
    assert get_adaptive_config(5, dropout=0.3).dropout == 0.3


@given(st.integers(0, 10**6))
def test_every_number_of_files_has_a_preset_of_both_families(files):
    assert get_adaptive_vqvae_config(files).num_quantizers in (3, 4)
    assert get_adaptive_config(files).max_epochs >= 100


@pytest.mark.parametrize("make", [VQVAEConfig, TrainingConfig, lambda **s: get_adaptive_vqvae_config(5, **s)])
def test_an_unknown_setting_is_refused_with_a_list_of_the_known_ones(make):
    with pytest.raises(ConfigError, match="epochs is not a setting") as caught:
        make(epochs=3)
    assert all(name in str(caught.value) for name in SHARED)


BAD = [
    ("batch_size", 0),
    ("batch_size", 2.5),
    ("max_epochs", 0),
    ("max_epochs", "many"),
    ("learning_rate", 0),
    ("learning_rate", math.nan),
    ("learning_rate", math.inf),
    ("weight_decay", -0.1),
    ("gradient_clip_norm", math.nan),
    ("gradient_clip_norm", 0),
    ("chunk_duration_s", 0),
    ("chunk_duration_s", math.nan),
    ("val_fraction", 0),
    ("val_fraction", 1),
    ("val_fraction", None),
    ("checkpoint_interval", 0),
    ("preview_interval", -1),
    ("max_checkpoints", 0),
    ("device", "quantum"),
    ("num_workers", -1),
    ("seed", -1),
    ("seed", 2**32),
    ("minutes", 0),
    ("minutes", math.nan),
    ("codebook_size", 1),
    ("codebook_size", 10**9),
    ("codebook_dim", 0),
    ("num_quantizers", 1),
    ("num_quantizers", 5),
    ("decay", 1.0),
    ("decay", math.nan),
    ("commitment_weight", math.nan),
    ("commitment_weight", -1),
    ("threshold_ema_dead_code", math.inf),
    ("kmeans_init", "perhaps"),
    ("kmeans_iters", 0),
    ("dropout", 1.0),
    ("dropout", math.nan),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_senseless_value_is_refused_by_name_at_creation_and_at_assignment(name, value):
    with pytest.raises(ConfigError, match=f"^{name} is "):
        VQVAEConfig(**{name: value})
    config = VQVAEConfig()
    with pytest.raises(ConfigError, match=f"^{name} is "):
        setattr(config, name, value)
    assert config == VQVAEConfig()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("latent_dim", 0),
        ("kl_weight_max", math.nan),
        ("kl_warmup_fraction", 1.5),
        ("kl_warmup_fraction", math.nan),
        ("free_bits", -1),
        ("free_bits", math.inf),
    ],
)
def test_a_senseless_vae_value_is_refused(name, value):
    with pytest.raises(ConfigError, match=f"^{name} is "):
        TrainingConfig(**{name: value})


def test_two_to_four_levels_are_allowed_and_each_has_a_name():
    assert [VQVAEConfig(num_quantizers=n).num_quantizers for n in (2, 3, 4)] == [2, 3, 4]
    assert LEVEL_NAMES == ("Structure", "Timbre", "Detail", "Fine")


def test_the_model_settings_are_the_arguments_of_the_model():
    from distill.models.vqvae import ConvVQVAE

    settings = VQVAEConfig(codebook_dim=8, codebook_size=16).model_settings()
    assert ConvVQVAE(**settings).settings == settings | {"n_mels": 128}


def test_the_configuration_is_read_without_torch():
    script = "import sys, distill.training.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
