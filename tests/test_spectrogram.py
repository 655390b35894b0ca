"""Waveform to mel agrees with librosa, and padding is told from silence."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import distill.audio.spectrogram as module
from distill.audio.mel import mel_filters
from distill.audio.spectrogram import (
    PADDING,
    SILENCE,
    AudioSpectrogram,
    SpectrogramConfig,
    mark_end,
    real_frames,
)
from distill.errors import ConfigError
from support.sounds import RATE, tone
from support.spectrograms import SMALL, batch, librosa_filters, noise, scipy_stft, steady, third_party

# Waveform to mel


@third_party
@pytest.mark.parametrize(("rate", "n_fft", "n_mels"), [(48_000, 2048, 128), (44_100, 1024, 64), (16_000, 256, 32)])
def test_the_filters_are_librosas(rate: int, n_fft: int, n_mels: int) -> None:
    theirs = librosa_filters(rate, n_fft, n_mels)
    np.testing.assert_allclose(mel_filters(rate, n_fft, n_mels).numpy(), theirs, atol=1e-7, rtol=1e-4)


@third_party
@pytest.mark.parametrize(
    ("sound", "tolerance"),
    [(noise(24_001), 2e-4), (tone(440, 0.5), 2e-4), (steady(30_000), 1e-3)],  # a pure tone's faint bands are rounding
    ids=["noise", "decay", "tone"],
)
def test_the_mel_is_that_of_scipy_and_librosa_on_the_documented_scale(sound: np.ndarray, tolerance: float) -> None:
    frames = 1 + len(sound) // 512
    theirs = librosa_filters(RATE, 2048, 128) @ np.abs(scipy_stft().stft(sound, p0=0, p1=frames))
    floor, ceiling = SpectrogramConfig().magnitude_floor, SpectrogramConfig().magnitude_ceiling
    level = 2 * np.log(np.maximum(theirs, floor) / floor) / math.log(ceiling / floor) - 1

    ours = AudioSpectrogram().waveform_to_mel(batch(sound))[0, 0].numpy()

    np.testing.assert_allclose(ours, np.maximum(level, SILENCE), rtol=0, atol=tolerance)


@given(st.integers(1, 3), st.integers(1, 3000))
def test_a_mel_has_one_frame_per_hop_and_one_more(sounds: int, samples: int) -> None:
    spectrogram = AudioSpectrogram(SMALL)
    mel = spectrogram.waveform_to_mel(torch.full((sounds, 1, samples), 0.1))
    assert mel.shape == (sounds, 1, 32, 1 + samples // 64)
    assert spectrogram.frames(samples) == mel.shape[-1]


@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-12, 1e-6, 1e-3, 0.3, 1.0]), st.integers(1, 1500))
def test_no_mel_value_lies_below_padding_and_all_are_numbers(seed: int, scale: float, samples: int) -> None:
    mel = AudioSpectrogram(SMALL).waveform_to_mel(batch(noise(samples, scale, seed)))
    assert torch.isfinite(mel).all()
    assert mel.min() >= PADDING
    assert mel.max() < 1.5


def test_a_second_of_sound_is_a_mel_of_128_by_94() -> None:
    assert AudioSpectrogram().waveform_to_mel(torch.full((2, 1, RATE), 0.1)).shape == (2, 1, 128, 94)


def test_a_mel_is_the_same_twice_and_the_same_alone_as_in_a_batch() -> None:
    spectrogram = AudioSpectrogram(SMALL)
    sounds = torch.cat([batch(noise(2000, seed=n)) for n in range(3)])
    mels = spectrogram.waveform_to_mel(sounds)
    assert torch.equal(mels, spectrogram.waveform_to_mel(sounds))
    torch.testing.assert_close(mels[1:2], spectrogram.waveform_to_mel(sounds[1:2]))


def test_a_batch_is_made_mel_as_each_of_its_sounds_is() -> None:
    sounds = torch.randn(9, 1, RATE) * 0.1  # more than are looked at at once
    spectrogram = AudioSpectrogram()
    one_by_one = torch.cat([spectrogram.waveform_to_mel(sound[None]) for sound in sounds])
    torch.testing.assert_close(spectrogram.waveform_to_mel(sounds), one_by_one)


@pytest.mark.parametrize(
    ("field", "value"), [("hop_length", 0), ("n_mels", 100), ("magnitude_floor", 0.0), ("magnitude_ceiling", math.nan)]
)
def test_a_mel_that_makes_no_sense_cannot_be_configured(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=field):
        SpectrogramConfig(**{field: value})


# Padding and silence


@given(st.integers(0, 3000), st.integers(0, 2000))
def test_padding_fills_the_frames_after_the_end_and_no_others(sounding: int, after: int) -> None:
    samples = max(1, sounding + after)
    sound = torch.zeros(1, 1, samples)
    sound[..., :sounding] = batch(noise(sounding)) + 2.0  # never zero
    mel = AudioSpectrogram(SMALL).waveform_to_mel(sound * 0.1)

    after_end = torch.arange(mel.shape[-1]) * 64 > sounding if sounding else torch.ones(mel.shape[-1], dtype=torch.bool)

    assert torch.equal((mel == PADDING).all(dim=2).flatten(), after_end)
    assert torch.equal((mel == PADDING).any(dim=2).flatten(), after_end)
    assert torch.equal(real_frames(mel).flatten(), ~after_end)


def test_a_waveform_of_zeros_is_padding_throughout() -> None:
    assert (AudioSpectrogram().waveform_to_mel(torch.zeros(2, 1, 9000)) == PADDING).all()


def test_a_silent_tail_with_a_marked_end_is_silence_and_not_padding() -> None:
    sound = torch.cat([batch(noise(2000)), torch.zeros(1, 1, 6000)], dim=-1)
    spectrogram = AudioSpectrogram(SMALL)
    marked = spectrogram.waveform_to_mel(mark_end(sound))
    tail = slice((2000 + 256) // 64 + 1, None)
    assert (spectrogram.waveform_to_mel(sound)[..., tail] == PADDING).all()
    assert (marked[..., tail] == SILENCE).all()
    assert real_frames(marked).all()


@given(st.lists(st.sampled_from([0.0, 0.25, -1.0]), min_size=1, max_size=20))
def test_marking_the_end_changes_only_a_last_zero_and_that_by_nothing_audible(values: list[float]) -> None:
    sound = torch.tensor(values)
    marked = mark_end(sound)
    assert marked[-1] != 0
    assert torch.equal(marked[:-1], sound[:-1])
    assert abs(float(marked[-1] - sound[-1])) < 1e-8


def test_each_sound_of_a_batch_ends_where_it_ends() -> None:
    sounds = torch.zeros(2, 1, 4096)
    sounds[0, 0, :1000], sounds[1, 0, :3000] = 0.1, 0.1
    assert real_frames(AudioSpectrogram(SMALL).waveform_to_mel(sounds)).sum(dim=-1).flatten().tolist() == [16, 47]


@given(st.integers(1, 9000), st.integers(64, 3000))
def test_the_mel_of_a_long_sound_is_made_in_blocks_that_leave_no_seam(samples: int, at_once: int) -> None:
    spectrogram = AudioSpectrogram(SMALL)
    sound = mark_end(batch(noise(samples)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CACHED_SAMPLES", at_once)
        mel = spectrogram.whole_mel(sound[0, 0])
    torch.testing.assert_close(mel, spectrogram.waveform_to_mel(sound), atol=1e-4, rtol=0)


@given(st.floats(0.05, 20.0), st.integers(0, 5))
def test_a_louder_mel_is_that_of_the_louder_sound_where_that_was_above_the_floor(gain: float, seed: int) -> None:
    spectrogram = AudioSpectrogram(SMALL)
    sound = batch(noise(4000, 0.02, seed))
    sound[..., 2000:] = 0  # padding after it
    mel = spectrogram.waveform_to_mel(sound)
    louder = spectrogram.louder(mel, torch.tensor(gain))
    wanted = spectrogram.waveform_to_mel(sound * gain)
    above = mel > SILENCE
    torch.testing.assert_close(louder[above], wanted[above], atol=1e-4, rtol=0)
    assert torch.equal(louder[~above], mel[~above])
