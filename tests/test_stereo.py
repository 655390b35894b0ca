"""Stereo: what is panned stays where it is, what is in the middle stays there, and each side is as loud as it was."""

import numpy as np
import pytest
import torch

from distill.audio.spectrogram import AudioSpectrogram, SpectrogramConfig
from distill.models.stereo import joined
from support.sounds import RATE, tone

SPECTROGRAM = AudioSpectrogram(SpectrogramConfig(power=0.15, detail_mels=64))
NOISE = 0.1 * np.random.default_rng(0).normal(size=(RATE, 2))


def through(sides: np.ndarray) -> np.ndarray:
    """Stereo `[S, 2]` from its true bands, and the true middle and difference."""
    left, right = torch.from_numpy(sides.T.astype(np.float32))
    scale = SPECTROGRAM.mel_scale
    mels = [SPECTROGRAM.waveform_to_mel(sound[None, None]) for sound in (left, right, (left + right) / 2)]
    bands = [scale.magnitudes(mel[0, 0, :128].mT) for mel in mels]
    mid_side = torch.stack([left + right, left - right]) / 2
    made = joined(mid_side, torch.stack(bands[:2]), bands[2], scale, SPECTROGRAM.window)
    return made.T.numpy()


def decibels(sound: np.ndarray) -> float:
    return 10 * float(np.log10(np.square(sound).mean() + 1e-12))


@pytest.mark.parametrize(
    ("left", "right"), [(1.0, 1.0), (1.0, 0.5), (0.2, 1.0), (1.0, 0.0), (1.0, -0.3), (-0.7, 1.0), (1.0, -1.0)]
)
def test_a_panned_tone_stays_where_it_is(left, right):
    sound = tone(440, 1.0)[:, None] * [left, right]
    made = through(sound)
    assert made.shape == sound.shape
    for side, share in enumerate((left, right)):
        if share:
            assert decibels(made[:, side]) == pytest.approx(decibels(sound[:, side]), abs=1)
            assert np.corrcoef(made[:, side], sound[:, side])[0, 1] > 0.95
        else:
            assert decibels(made[:, side]) < decibels(sound[:, 0]) - 60


@pytest.mark.parametrize(
    "sound", [NOISE, NOISE * [1, 0.3], NOISE + tone(330, 1.0)[:, None]], ids=["wide", "left", "both"]
)
def test_sides_of_their_own_are_as_loud_and_as_unlike_as_they_were(sound):
    made = through(sound)
    for side in (0, 1):
        assert decibels(made[:, side]) == pytest.approx(decibels(sound[:, side]), abs=1)
    assert decibels(made.mean(axis=1)) == pytest.approx(decibels(sound.mean(axis=1)), abs=2.5)
    alike, was = (np.corrcoef(both.T)[0, 1] for both in (made, sound))
    assert alike == pytest.approx(was, abs=0.35)
