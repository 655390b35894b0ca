"""Sounds of any length through a model, with no seam between the blocks."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from distill.audio import vocoder
from distill.audio.spectrogram import AudioSpectrogram, SpectrogramConfig, mark_end
from distill.models import reconstruct
from distill.models.blocks import STRIDE
from distill.models.reconstruct import reconstruct_waveform
from distill.models.vqvae import ConvVQVAE
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
