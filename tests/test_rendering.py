"""Codes that are edited: only where a change can be heard is the sound another, and there it is what it would be."""

import dataclasses
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.audio.spectrogram import AudioSpectrogram
from distill.errors import CodesError
from distill.models.codes import Codes
from distill.models.loaded_vqvae import LoadedVQModel
from distill.models.rendering import Rendering, rendered, whole_change
from distill.models.vqvae import ConvVQVAE
from support.melodies import RATE, melody, melody_model
from support.models import MEL

COLUMN = 8 * MEL.hop_length
CHANGED_S = 0.5  # that the change of a column may reach on either side


@pytest.fixture(scope="module", params=["two windows", "one window"])
def model(request: pytest.FixtureRequest) -> LoadedVQModel:
    return melody_model(detail=request.param == "two windows")


@pytest.fixture(scope="module")
def before(model: LoadedVQModel) -> tuple[Codes, Rendering]:
    codes = model.encode(melody(4.0))
    return codes, rendered(model, codes)


def with_columns(codes: Codes, columns: np.ndarray) -> Codes:
    seconds = max(1, 8 * len(columns) - 9) * MEL.hop_length / RATE
    return replace(codes, grid=codes.grid[:, :, columns], seconds=seconds)


def mel_error(model: LoadedVQModel, sound: np.ndarray, target: torch.Tensor, frames: slice) -> float:
    """How far the mel of a sound is from the one that its codes say."""
    mel = model.spectrogram.waveform_to_mel(torch.from_numpy(sound)[None, None])[0, 0]
    return float((mel - target)[:, frames].abs().mean())


@settings(max_examples=6)
@given(data=st.data())
def test_outside_a_change_a_sound_stays_and_inside_it_is_that_of_its_codes(model, before, data):
    codes, old = before
    columns = np.arange(codes.grid.shape[2])
    at = data.draw(st.integers(1, len(columns) - 2), "at")
    width = data.draw(st.integers(0, 6), "width of what is put there")
    replaced = data.draw(st.integers(0, 3), "columns that it replaces")
    source = data.draw(st.integers(0, len(columns) - width), "where it comes from")
    edited = with_columns(
        codes, np.concatenate([columns[:at], columns[source : source + width], columns[at + replaced :]])
    )
    new = rendered(model, edited, old)
    whole = rendered(model, edited)
    assert len(new.samples) == len(whole.samples)
    assert torch.equal(new.codes, whole.codes)
    change, reach = whole_change(old.codes, new.codes), round(CHANGED_S * RATE)
    start, end = (change.start - 1) * COLUMN - reach, change.stop * COLUMN + reach
    assert np.array_equal(new.samples[: max(0, start)], old.samples[: max(0, start)])
    if kept := max(0, len(new.samples) - end):
        assert np.array_equal(new.samples[-kept:], old.samples[-kept:])
    target = model.model.decode_columns(new.codes[None])[0, 0].detach()
    for part in (slice(None), slice(max(0, start // MEL.hop_length), end // MEL.hop_length)):
        assert mel_error(model, new.samples, target, part) < 1.1 * mel_error(model, whole.samples, target, part) + 1e-3


def test_no_border_is_heard_where_a_steady_tone_goes_on_through_a_change(model, before):
    """Where the old sound fades into the new, a click would be sharp, and other phases would take the tone away."""
    codes, _ = before
    old = rendered(model, with_columns(codes, np.full(40, 5)))
    new = rendered(model, with_columns(codes, np.r_[np.full(20, 5), 20, np.full(19, 5)]), old)
    changed, fade = np.flatnonzero(new.samples != old.samples), 6 * MEL.hop_length
    for start in (changed[0], changed[-1] + 1 - fade):
        made, usual = (sound.samples[start - 240 : start + fade + 240] for sound in (new, old))
        assert np.abs(np.diff(made, 2)).max() < 1.1 * np.abs(np.diff(usual, 2)).max()
        level = [np.square(sound).reshape(-1, 240).mean(axis=1) for sound in (made, usual)]
        assert np.abs(10 * np.log10(level[0] / level[1])).max() < 1


def test_many_edits_one_after_another_leave_no_trace(model, before):
    codes, now = before
    random, columns = np.random.default_rng(0), np.arange(codes.grid.shape[2])
    for _ in range(12):
        at, source = random.integers(1, len(columns) - 3, size=2)
        columns[at : at + 2] = columns[source : source + 2]
        now = rendered(model, with_columns(codes, columns), now)
    whole = rendered(model, with_columns(codes, columns))
    target = model.model.decode_columns(now.codes[None])[0, 0].detach()
    assert mel_error(model, now.samples, target, slice(None)) < 1.1 * mel_error(
        model, whole.samples, target, slice(None)
    )


def test_a_change_far_away_leaves_what_is_between_alone(model, before):
    codes, old = before
    columns = np.arange(codes.grid.shape[2])
    columns[[4, -4]] = columns[[-4, 4]]
    new = rendered(model, with_columns(codes, columns), old)
    middle = slice(len(old.samples) // 2 - RATE // 2, len(old.samples) // 2 + RATE // 2)
    assert np.array_equal(new.samples[middle], old.samples[middle])
    assert not np.array_equal(new.samples[: 8 * COLUMN], old.samples[: 8 * COLUMN])
    assert not np.array_equal(new.samples[-8 * COLUMN :], old.samples[-8 * COLUMN :])


def test_a_long_change_is_decoded_in_several_parts(model, before):
    codes, old = before
    columns = np.arange(codes.grid.shape[2])
    longer = with_columns(codes, np.concatenate([columns[:12], np.tile(columns[4:20], 5), columns[12:]]))
    new, whole = rendered(model, longer, old), rendered(model, longer)
    assert len(new.samples) == len(whole.samples)
    target = model.model.decode_columns(new.codes[None])[0, 0].detach()
    assert mel_error(model, new.samples, target, slice(None)) < 1.1 * mel_error(
        model, whole.samples, target, slice(None)
    )


def test_what_did_not_change_is_not_decoded(model, before, monkeypatch):
    codes, old = before
    monkeypatch.setattr(ConvVQVAE, "decode_columns", lambda *_: pytest.fail("it was decoded"))
    assert rendered(model, codes, old).samples is old.samples


def test_another_vocoder_decodes_the_whole(model, before):
    codes, old = before
    flat = replace(model, spectrogram=AudioSpectrogram(MEL, lambda mel, length: mel.new_zeros(1, 1, length or 7)))
    edited = with_columns(codes, np.r_[3, 1:20])
    assert rendered(flat, edited, old).samples.tolist() == [0] * 7


def test_codes_of_one_column_or_of_another_model_are_refused(model, before):
    codes, _ = before
    with pytest.raises(CodesError, match="so many columns last 0 s"):
        rendered(model, with_columns(codes, np.array([0])))
    with pytest.raises(CodesError, match="not of"):
        rendered(model, dataclasses.replace(codes, model="other"))
