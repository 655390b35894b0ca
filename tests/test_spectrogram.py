"""Waveform to mel agrees with librosa, padding is told from silence, and the way back sounds the same."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import distill.audio.spectrogram as module
from distill.audio.spectrogram import (
    PADDING,
    SILENCE,
    AudioSpectrogram,
    SpectrogramConfig,
    mark_end,
    mel_filters,
    real_frames,
)
from distill.errors import ConfigError
from support.sounds import RATE, tone

SMALL = SpectrogramConfig(sample_rate=16_000, n_fft=256, hop_length=64, n_mels=32)
third_party = pytest.mark.filterwarnings("ignore:::librosa", "ignore:::numba", "ignore::DeprecationWarning")


def batch(sound: np.ndarray) -> Tensor:
    return torch.from_numpy(sound.astype(np.float32))[None, None]


def noise(samples: int, scale: float = 0.2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=scale, size=samples).clip(-1, 1).astype(np.float32)


def steady(samples: int, frequency: float = 440.0) -> np.ndarray:
    return 0.4 * np.sin(2 * np.pi * frequency * np.arange(samples) / RATE)


# Waveform to mel


@third_party
@pytest.mark.parametrize(("rate", "n_fft", "n_mels"), [(48_000, 2048, 128), (44_100, 1024, 64), (16_000, 256, 32)])
def test_the_filters_are_librosas(rate: int, n_fft: int, n_mels: int) -> None:
    librosa = pytest.importorskip("librosa")
    theirs = librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=n_mels, htk=False, norm="slaney")
    np.testing.assert_allclose(mel_filters(rate, n_fft, n_mels).numpy(), theirs, atol=1e-7, rtol=1e-4)


@third_party
@pytest.mark.parametrize(
    ("sound", "tolerance"),
    [(noise(24_001), 2e-4), (tone(440, 0.5), 2e-4), (steady(30_000), 1e-3)],  # a pure tone's faint bands are rounding
    ids=["noise", "decay", "tone"],
)
def test_the_mel_is_librosas_on_the_documented_scale(sound: np.ndarray, tolerance: float) -> None:
    librosa = pytest.importorskip("librosa")
    theirs = librosa.feature.melspectrogram(
        y=np.asarray(sound, np.float32), sr=RATE, n_fft=2048, hop_length=512, n_mels=128, power=1, pad_mode="constant"
    )
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


@pytest.mark.parametrize(
    ("field", "value"), [("hop_length", 0), ("n_mels", 100), ("magnitude_floor", 0.0), ("magnitude_ceiling", math.nan)]
)
def test_a_mel_that_makes_no_sense_cannot_be_configured(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=field):
        SpectrogramConfig(**{field: value})


@pytest.mark.parametrize("hop", [16, 48, 64, 4096])
def test_a_configuration_that_is_accepted_can_be_inverted(hop: int) -> None:
    try:
        spectrogram = AudioSpectrogram(SpectrogramConfig(n_fft=64, hop_length=hop, n_mels=16))
    except ConfigError:
        return
    sound = batch(noise(10_000))
    assert spectrogram.mel_to_waveform(spectrogram.waveform_to_mel(sound), 10_000).shape == sound.shape


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


def test_a_waveform_of_zeros_is_padding_throughout_and_comes_back_as_zeros() -> None:
    spectrogram = AudioSpectrogram()
    mel = spectrogram.waveform_to_mel(torch.zeros(2, 1, 9000))
    assert (mel == PADDING).all()
    assert (spectrogram.mel_to_waveform(mel, 9000) == 0).all()


def test_a_silent_tail_with_a_marked_end_is_silence_and_not_padding() -> None:
    sound = torch.cat([batch(noise(2000)), torch.zeros(1, 1, 6000)], dim=-1)
    spectrogram = AudioSpectrogram(SMALL)
    marked = spectrogram.waveform_to_mel(mark_end(sound))
    tail = slice((2000 + 256) // 64 + 1, None)
    assert (spectrogram.waveform_to_mel(sound)[..., tail] == PADDING).all()
    assert (marked[..., tail] == SILENCE).all()
    assert real_frames(marked).all()


def test_silence_comes_back_as_silence() -> None:
    sound = AudioSpectrogram().mel_to_waveform(torch.full((1, 1, 128, 20), SILENCE))
    assert (sound == 0).all()


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


# Mel to waveform


@given(st.integers(1, 3000))
def test_the_way_back_has_exactly_the_length_asked_for(samples: int) -> None:
    spectrogram = AudioSpectrogram(SMALL)
    sound = spectrogram.mel_to_waveform(spectrogram.waveform_to_mel(batch(noise(samples))), samples)
    assert sound.shape == (1, 1, samples)
    assert torch.isfinite(sound).all()


@pytest.mark.parametrize("samples", [1, 2, 511, 513, 2047, 5001])
def test_short_and_odd_lengths_keep_their_length_and_about_their_level(samples: int) -> None:
    sound = batch(noise(samples) + 0.1)
    spectrogram = AudioSpectrogram()
    back = spectrogram.mel_to_waveform(spectrogram.waveform_to_mel(sound), samples)
    assert back.shape == sound.shape
    assert torch.isfinite(back).all()
    if samples > 500:
        assert 0.5 < float(back.square().mean() / sound.square().mean()) < 2


@pytest.mark.parametrize("frames", [2, 3, 4, 5, 40])
def test_without_a_length_the_sound_spans_the_frames(frames: int) -> None:
    assert AudioSpectrogram(SMALL).mel_to_waveform(torch.full((2, 1, 32, frames), -0.2)).shape == (
        2, 1, (frames - 1) * 64,
    )  # fmt: skip


# Mean error of the mel of the inverse; the scale is 2 for 120 dB, so 0.01 is 0.6 dB. Measured: tone 0.0397, noise
# 0.0107, decay 0.0162. librosa over four random starts: 0.0145 to 0.0257, 0.0087 to 0.0090, 0.0141 to 0.0147.
# So it is better at a steady tone; hence the factor of 3 below, and its random start is seeded. What the second, short
# window costs here is little beside what it wins on mels that come from codes (docs/quality.md).
SOUNDS = {"tone": steady(24_000), "noise": noise(24_000), "decay": tone(440, 0.5, 12)}


@third_party
@pytest.mark.parametrize(("kind", "tolerance"), [("tone", 0.045), ("noise", 0.015), ("decay", 0.018)])
def test_the_mel_of_the_inverse_is_close_to_the_mel_and_not_three_times_as_far_as_librosas(
    kind: str, tolerance: float
) -> None:
    librosa = pytest.importorskip("librosa")
    spectrogram = AudioSpectrogram()
    mel = spectrogram.waveform_to_mel(batch(SOUNDS[kind]))

    def error(sound: Tensor) -> float:
        return float((spectrogram.waveform_to_mel(sound) - mel).abs().mean())

    ours = error(spectrogram.mel_to_waveform(mel, 24_000))
    magnitude = np.exp((mel[0, 0].numpy() + 1) / 2 * math.log(1e6)) * 1e-5
    linear = librosa.feature.inverse.mel_to_stft(magnitude, sr=RATE, n_fft=2048, power=1)
    theirs = error(
        batch(librosa.griffinlim(linear, hop_length=512, length=24_000, pad_mode="constant", random_state=0))
    )
    assert ours < tolerance
    assert ours < 3 * theirs


def test_the_inverse_is_the_same_every_time_and_moves_no_random_state() -> None:
    spectrogram = AudioSpectrogram(SMALL)
    mel = spectrogram.waveform_to_mel(batch(noise(5000)))
    before = torch.get_rng_state()
    assert torch.equal(spectrogram.mel_to_waveform(mel, 5000), spectrogram.mel_to_waveform(mel, 5000))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_inverse_of_a_batch_is_that_of_its_members() -> None:
    spectrogram = AudioSpectrogram(SMALL)
    mel = spectrogram.waveform_to_mel(torch.cat([batch(noise(4000, seed=n)) for n in range(2)]))
    together = spectrogram.mel_to_waveform(mel, 4000)
    torch.testing.assert_close(together[1:], spectrogram.mel_to_waveform(mel[1:], 4000), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("kind", ["tone", "noise"])
def test_a_long_sound_has_no_seams_where_its_blocks_meet(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = steady(400 * 512) if kind == "tone" else noise(400 * 512)
    spectrogram = AudioSpectrogram()
    mel = spectrogram.waveform_to_mel(batch(sound))

    def levels(block_frames: int) -> np.ndarray:
        monkeypatch.setattr(module, "_BLOCK_FRAMES", block_frames)
        back = spectrogram.mel_to_waveform(mel, len(sound))[0, 0].numpy().reshape(-1, 2048)
        return np.sqrt((back**2).mean(axis=1))[1:-1] / np.sqrt((sound**2).mean())

    whole, blocks = levels(100_000), levels(128)

    assert blocks.min() > 0.9 * whole.min()
    assert blocks.max() < 1.1 * whole.max()


def test_a_sound_of_many_blocks_has_the_length_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK_FRAMES", 24)
    monkeypatch.setattr(module, "_OVERLAP_FRAMES", 8)
    spectrogram = AudioSpectrogram(SMALL)
    for samples in range(64 * 22, 64 * 60, 157):
        mel = spectrogram.waveform_to_mel(batch(noise(samples)))
        sound = spectrogram.mel_to_waveform(mel, samples)
        assert sound.shape == (1, 1, samples)
        assert torch.isfinite(sound).all()


@settings(deadline=None)
@given(st.sampled_from([(512, 128), (512, 120), (64, 16), (100, 30)]), st.integers(8, 20), st.integers(1, 2))
def test_spectra_are_made_sound_as_torch_makes_them(shape: tuple[int, int], frames: int, batch: int) -> None:
    length, hop = shape
    window = torch.hann_window(length)
    sound = torch.randn(batch, hop * frames, generator=torch.Generator().manual_seed(0))
    spectrum = torch.stft(sound, length, hop, window=window, return_complex=True) * 1.3
    torch.testing.assert_close(module._istft(spectrum, window, hop), torch.istft(spectrum, length, hop, window=window))


def test_a_batch_is_made_mel_as_each_of_its_sounds_is() -> None:
    sounds = torch.randn(9, 1, RATE) * 0.1  # more than are looked at at once
    spectrogram = AudioSpectrogram()
    one_by_one = torch.cat([spectrogram.waveform_to_mel(sound[None]) for sound in sounds])
    torch.testing.assert_close(spectrogram.waveform_to_mel(sounds), one_by_one)
