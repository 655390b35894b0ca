"""Sounds of any length through a model, with no seam between the blocks."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from distill.audio import vocoder
from distill.audio.spectrogram import AudioSpectrogram, SpectrogramConfig, mark_end
from distill.errors import AudioError
from distill.models import loaded, reconstruct
from distill.models.blocks import STRIDE
from distill.models.loaded_vqvae import LoadedVQModel
from distill.models.persistence import load_model_v2
from distill.models.reconstruct import reconstruct_waveform
from distill.models.vqvae import ConvVQVAE
from support.models import save_rvq_vae, small_rvq_vae
from support.sounds import RATE, tone

TINY = AudioSpectrogram(SpectrogramConfig(sample_rate=8000, n_fft=256, hop_length=64, n_mels=32))


class Recorder:
    """A vocoder that keeps the mel it was asked to make audible, and answers with silence."""

    def __call__(self, mel: Tensor, length: int | None) -> Tensor:
        self.mel = mel
        return torch.zeros(1, 1, length)


def unchanged(mel: Tensor) -> Tensor:
    return mel


def model() -> ConvVQVAE:
    torch.manual_seed(0)
    made = ConvVQVAE(codebook_dim=8, codebook_size=16, dropout=0.0, n_mels=32).train()
    made(torch.rand(8, 1, 32, 64) * 1.5 - 0.9)  # k-means
    return made.eval()


def sound(samples: int, seed: int = 0) -> Tensor:
    """A chirp with a silent stretch in it: no two places are alike."""
    time = torch.arange(samples) / 8000
    noise = torch.randn(samples, generator=torch.Generator().manual_seed(seed)) * 0.05
    wave = 0.4 * torch.sin(2 * torch.pi * (200 + 150 * time) * time) + noise
    wave[samples // 3 : samples // 2] = 0
    return wave


@settings(max_examples=30)
@given(st.integers(1, 4000))
def test_what_comes_back_is_as_long_as_what_went_in(samples):
    made = reconstruct_waveform(unchanged, TINY, sound(samples))
    assert made.shape == (samples,)
    assert torch.isfinite(made).all()


@pytest.mark.parametrize("samples", [1, 2, 511, 512, 513, 2047, 5000])
def test_the_default_spectrogram_takes_any_length_too(samples):
    made = reconstruct_waveform(unchanged, AudioSpectrogram(), torch.from_numpy(tone(440, samples / RATE)))
    assert made.shape == (samples,)
    assert torch.isfinite(made).all()


@pytest.mark.parametrize("samples", [1, 64, 64 * STRIDE * 6, 64 * STRIDE * 6 + 1, 25_001])
@pytest.mark.parametrize("columns", [1, 2, 5])
def test_blocks_give_the_mel_that_one_block_gives(monkeypatch, samples, columns):
    wave, net, recorder = sound(samples), model(), Recorder()
    spectrogram = AudioSpectrogram(TINY.config, recorder)
    reconstruct_waveform(net.reconstruct, spectrogram, wave)
    whole = recorder.mel
    monkeypatch.setattr(reconstruct, "_BLOCK", columns * STRIDE)
    reconstruct_waveform(net.reconstruct, spectrogram, wave)
    torch.testing.assert_close(recorder.mel, whole, rtol=0, atol=1e-4)


def test_the_blocks_see_the_mel_of_the_whole_sound(monkeypatch):
    block, context = 2 * STRIDE, reconstruct.CONTEXT
    wave, blocks = sound(30_000), []
    monkeypatch.setattr(reconstruct, "_BLOCK", block)

    def overheard(mel: Tensor) -> Tensor:
        blocks.append(mel)
        return mel

    reconstruct_waveform(overheard, AudioSpectrogram(TINY.config, Recorder()), wave)
    whole = TINY.waveform_to_mel(mark_end(wave)[None, None])
    for number, mel in enumerate(blocks):
        first, stop = max(0, number * block - context), (number + 1) * block + context
        torch.testing.assert_close(mel, whole[..., first:stop], rtol=0, atol=1e-4)


def test_no_block_is_longer_than_a_block_and_its_context(monkeypatch):
    lengths = []
    monkeypatch.setattr(reconstruct, "_BLOCK", 2 * STRIDE)

    def measured(mel: Tensor) -> Tensor:
        lengths.append(mel.shape[-1])
        return mel

    reconstruct_waveform(measured, AudioSpectrogram(TINY.config, Recorder()), sound(64 * 800))
    assert len(lengths) == -(-801 // (2 * STRIDE))
    assert max(lengths) == 2 * STRIDE + 2 * reconstruct.CONTEXT


def test_a_silent_sound_comes_back_silent():
    made = reconstruct_waveform(model().reconstruct, TINY, torch.zeros(3000))
    assert made.abs().max() < 1e-4


def test_silence_after_a_sound_is_part_of_it():
    wave = torch.cat([sound(2000), torch.zeros(6000)])
    made = reconstruct_waveform(unchanged, TINY, wave)
    assert made.shape == wave.shape
    assert made[3000:].abs().max() < 1e-3
    assert made[:600].abs().max() > 0.1


def local_levels(wave: np.ndarray, window: int) -> np.ndarray:
    """RMS in dB of consecutive windows."""
    return 10 * np.log10(np.square(wave[: len(wave) // window * window].reshape(-1, window)).mean(axis=1) + 1e-12)


def test_a_steady_tone_has_no_click_and_no_jump_in_level_at_a_block_boundary(monkeypatch):
    monkeypatch.setattr(reconstruct, "_BLOCK", 4 * STRIDE)
    monkeypatch.setattr(vocoder, "_BLOCK_FRAMES", 192)
    seconds = 4
    wave = 0.4 * np.sin(2 * np.pi * 440 * np.arange(seconds * RATE) / RATE).astype(np.float32)
    made = reconstruct_waveform(unchanged, AudioSpectrogram(), torch.from_numpy(wave)).numpy().astype(np.float64)
    inside = made[RATE // 4 : -RATE // 4]
    levels = local_levels(inside, RATE // 50)
    assert np.ptp(levels) < 1.5
    # The fourth difference of so low a tone is next to nothing; that of a step of height h is 3 h.
    assert np.abs(np.diff(inside, n=4)).max() < 1e-3


# Stereo


class Lossless(LoadedVQModel):
    """A model at 16,000 Hz with codes, which gives back the mels that it gets: only the phases are lost."""

    def _mel_to_mel(self, mel: Tensor, levels: int | None) -> Tensor:
        return mel


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> LoadedVQModel:
    """A loaded model; tests only read it."""
    return Lossless(**vars(load_model_v2(save_rvq_vae(small_rvq_vae(), tmp_path_factory.mktemp("models")))))


def sides(rate: int = 16_000) -> np.ndarray:
    """A different tone on either side: float32 `[S, 2]`."""
    return np.stack([tone(330, 0.4, rate=rate), tone(880, 0.4, decay=3, rate=rate, seed=1)], axis=1)


def test_a_stereo_sound_comes_back_stereo_its_mix_as_if_alone(small):
    sound = sides()
    made = small.reconstruct(sound, 16_000)
    assert (made.shape, made.dtype) == (sound.shape, np.float32)
    alone = small.reconstruct(sound.mean(axis=1), 16_000)
    mix = made.mean(axis=1)
    assert np.corrcoef(mix, alone)[0, 1] > 0.9
    assert 0.7 < np.square(mix).mean() / np.square(alone).mean() < 1.4
    assert np.abs(made[:, 0] - made[:, 1]).max() > 0.01


def test_a_stereo_file_comes_back_stereo_and_mono_on_request(small, write_sound):
    path = write_sound("a.wav", sides(RATE), subtype="FLOAT")
    assert small.reconstruct(path).shape == small.reconstruct(str(path), levels=1).shape == (6400, 2)
    assert small.reconstruct(path, mono=True).shape == (6400,)
    np.testing.assert_allclose(small.heard(path, mono=True), small.waveform(sides(RATE).mean(axis=1), RATE), atol=1e-6)


def test_sides_that_are_alike_are_reconstructed_once_and_stay_alike(small, monkeypatch):
    calls = []
    monkeypatch.setattr(
        loaded, "reconstruct_waveform", lambda *given: (calls.append(1), reconstruct_waveform(*given))[1]
    )
    made = small.reconstruct(np.repeat(sides()[:, :1], 2, axis=1))
    assert len(calls) == 1
    np.testing.assert_array_equal(made[:, 0], made[:, 1])


def test_a_side_that_is_silent_stays_silent(small):
    made = small.reconstruct(sides() * np.array([1, 0], np.float32))
    assert np.abs(made[:, 0]).max() > 0.01
    assert np.abs(made[:, 1]).max() < 1e-4


@pytest.mark.parametrize("channels", [1, 3, 8])
def test_other_numbers_of_channels_are_mixed(small, channels):
    many = np.repeat(tone(330, 0.2, rate=16_000)[:, None], channels, axis=1)
    assert small.reconstruct(many).shape == (3200,)
    np.testing.assert_allclose(small.heard(many), many[:, 0], atol=1e-6)


@pytest.mark.parametrize("right", [-1.0, -0.985])
def test_of_an_array_whose_channels_cancel_out_the_difference_is_heard_as_of_a_file(small, write_sound, right):
    left = tone(330, 0.2, rate=16_000)
    both = np.stack([left, right * left], axis=1)
    path = write_sound("a.wav", both, 16_000, subtype="FLOAT")
    np.testing.assert_allclose(small.heard(both, mono=True), left * (1 - right) / 2, atol=1e-6)
    np.testing.assert_allclose(small.heard(both, mono=True), small.heard(path, mono=True), atol=1e-6)


def test_an_offset_is_taken_off_an_array_as_off_a_file(small):
    sound = tone(330, 0.2, rate=16_000)
    np.testing.assert_allclose(small.heard(sound + np.float32(0.2)), sound, atol=2e-3)


def test_the_codes_of_a_stereo_sound_are_those_of_its_mix(small):
    assert small.encode(sides()) == small.encode(sides().mean(axis=1))


@pytest.mark.parametrize("shape", [(0,), (0, 2), (2, 400), (400, 0), (4, 4, 4), ()])
def test_an_array_that_is_no_sound_is_refused(small, shape):
    with pytest.raises(AudioError, match="expected samples"):
        small.reconstruct(np.zeros(shape, np.float32))
