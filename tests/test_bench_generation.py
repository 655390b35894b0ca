"""The measurements of `docs/generation.md`: figures of sets, of edited sounds, and the tables made of rows."""

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.generation.editing import STRENGTHS, borders, variations
from bench.generation.figures import Reference, copying, measured, mmd, precision_and_coverage, two_sample
from bench.generation.report import tables
from bench.quality.mel_distance import RATE
from bench.shared import rows
from distill.errors import ConfigError


def noise(seconds: float, seed: int) -> np.ndarray:
    return 0.3 * np.random.default_rng(seed).standard_normal(round(seconds * RATE)).astype(np.float32)


def tones(count: int, first: int = 0) -> list[Tensor]:
    """Sounds of a second that die away, each of another pitch."""
    time = torch.arange(RATE) / RATE
    pitches = (110 * 2 ** (number / 7) for number in range(first, first + count))
    return [0.5 * torch.sin(2 * torch.pi * pitch * time) * (-3 * time).exp() for pitch in pitches]


def cloud(count: int, seed: int, at: float = 0.0) -> Tensor:
    return at + torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))


def test_figures_of_sets_tell_like_from_unlike() -> None:
    real, like, unlike = cloud(200, 1), cloud(200, 2), cloud(200, 3, at=3.0)
    assert abs(mmd(real, like)) < 20 < mmd(real, unlike)
    assert two_sample(real, like) == pytest.approx(0.5, abs=0.1)
    assert two_sample(real, unlike) > 0.95
    assert min(precision_and_coverage(real, like)) > 0.8
    assert max(precision_and_coverage(real, unlike)) < 0.1


def test_held_out_sounds_copy_a_tenth_and_training_sounds_are_copies() -> None:
    train, test = tones(10), tones(10, first=20)
    reference = Reference.of(train, test)
    assert measured(reference, test).copying == pytest.approx(0.1, abs=0.05)
    assert copying(reference, reference.windows(train)) == 1
    assert measured(reference, train).loudness == 0


class FakeModel:
    """Plays sounds as they are; what it makes is given."""

    sample_rate = RATE

    def __init__(self, vary=None, extend=None, inpaint=None) -> None:
        self.vary, self.extend, self.inpaint = vary, extend, inpaint

    def waveform(self, sound: np.ndarray, rate: int) -> np.ndarray:
        return sound


def test_variations_that_move_away_from_their_source_rise_and_are_recognised_as_far_as_they_are() -> None:
    def vary(sound: np.ndarray, strength: float, count: int) -> list[np.ndarray]:
        return [(1 - strength) * sound + strength * noise(1, 100 + n) for n in range(count)]

    sources = tones(4)
    found = variations(FakeModel(vary=vary), sources, [*sources, *tones(4, first=30)])
    assert len(found.distances) == len(STRENGTHS)
    assert found.distances == sorted(found.distances)
    assert found.rising == 1
    strangers = variations(FakeModel(vary=lambda _, s, count: [sources[0].numpy()] * count), sources[1:], sources)
    assert (strangers.rising, strangers.recognised) == (0, 0)


def test_a_border_that_is_heard_steps_more_than_the_original_there() -> None:
    sound = torch.from_numpy(noise(1.0, 0))

    def with_click(made: np.ndarray, at: float) -> np.ndarray:
        clicked = made.copy()
        clicked[round(at * RATE) :] *= 0.02
        return clicked

    smooth = FakeModel(
        extend=lambda cut, seconds: np.concatenate([cut, noise(seconds, 1)]), inpaint=lambda whole, *_: whole
    )
    heard = FakeModel(
        extend=lambda cut, seconds: with_click(smooth.extend(cut, seconds), 0.5),
        inpaint=lambda whole, begin, _: with_click(whole, begin),
    )
    found, worse = borders(smooth, [sound]), borders(heard, [sound])
    assert found.extend == pytest.approx(1, abs=0.25)
    assert found.inpaint == 1
    assert worse.extend > 2
    assert worse.inpaint > 2
    assert found.extend_level == pytest.approx(0, abs=0.5)
    assert found.inpaint_level == 0


def test_a_sound_that_falls_silent_where_it_goes_on_is_seen_by_its_level() -> None:
    sound = torch.from_numpy(noise(2.0, 0))
    fading = FakeModel(
        extend=lambda cut, seconds: np.concatenate([cut, noise(seconds, 1) / 10]), inpaint=lambda whole, *_: whole / 10
    )
    found = borders(fading, [sound])
    assert found.extend_level == pytest.approx(-20, abs=0.5)
    assert found.inpaint_level == pytest.approx(-20, abs=0.01)


def test_a_model_that_edits_nothing_has_no_borders() -> None:
    def refuse(*_: object) -> None:
        raise ConfigError("no")

    assert borders(FakeModel(extend=refuse), [torch.from_numpy(noise(1.0, 0))]) is None


def test_tables_have_the_median_of_the_seeds_and_a_dash_for_what_a_family_does_not_do() -> None:
    figures = {"mmd": 1.0, "two_sample": 0.5}
    made = {"commit": "c", "distill": "1", "torch": "2", "threads": 1, "cpus": 2}
    common = {"collection": "A", "made": made}
    edited = {"variations": {"distances": [1.0, 2.0, 3.0, 4.0], "rising": 1.0, "recognised": 0.9}}
    times = {"times": {"first": 0.25, "sixteen": 1.0, "real_time": 16.0}}
    joins = {"extend": 1.05, "inpaint": 0.95, "extend_level": -1.25}  # as a row from before there were both levels
    whole = {"bits": {"code": 5.0, "unigram": 6.0, "below": 1.0}, "borders": joins}
    trained = [
        common | edited | times | whole | {"system": "new sounds, vqvae", "minutes": 3.0, "seed": seed}
        | {"figures": figures | {"mmd": value}}
        for seed, value in enumerate((10.0, 30.0, 20.0))
    ]  # fmt: skip
    vae = common | edited | times | {"bits": None, "borders": None, "figures": figures}
    vae |= {"system": "new sounds, vae", "minutes": 3.0, "seed": 0}
    held_out = common | {"system": "held-out files", "minutes": None, "seed": None, "figures": figures}
    page = tables(rows.by_seed([held_out, *trained, vae]))
    assert "| held-out files | 1.00 | 0.50 |" in page
    assert "| new sounds, vqvae, 3 min | 20.00 (10.00–30.00) | 0.50 |" in page
    assert "| A, new sounds, vae, 3 min | 1.00 | 2.00 | 3.00 | 4.00 | 1.00 | 0.90 | – | – | – | – |" in page
    assert "| 1.00 | 0.90 | 1.05 | 0.95 | -1.25 | – |" in page
    assert "| A, new sounds, vqvae, 3 min | 5.00 | 6.00 | 1.00 | 0.25 | 1.00 | 16.0 |" in page
