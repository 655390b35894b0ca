"""The small cases that `bench.quality` measures, on ways back whose faults are known."""

from collections.abc import Callable

import numpy as np
import pytest

from bench.quality.cases import Sound, Way, hits, longest_run, measured, report
from bench.quality.jumps import Rise, greatest_rise

ATTACK, BASS, TONES, FULL, RUN, FIRST = range(6)


def cases(play: Callable[[Sound], Sound], rate: int = 48_000) -> list[list[float]]:
    return list(measured(Way(rate, play), hits()).values())


def test_a_perfect_way_back_has_no_fault_in_any_case():
    found = cases(lambda sound: sound)
    assert [max(map(abs, found[case])) for case in (ATTACK, BASS, TONES, FULL)] == pytest.approx([0] * 4, abs=0.01)
    assert max(found[RUN]) == 1
    assert "| case | median size | worst |" in report(measured(Way(48_000, lambda sound: sound), hits()))


def test_the_worst_of_eight_delays_counts():
    def late_is_quiet(sound):
        return np.where(np.flatnonzero(sound).min() == 5 * 1024, 0.5, 1.0) * sound

    # The first sample of two of the hits is 0, so they begin a sample later than the silence before them ends.
    assert min(cases(late_is_quiet)[ATTACK]) == pytest.approx(-6.02, abs=0.01)


def test_pitch_is_measured_in_cents_at_any_rate():
    found = cases(lambda sound: sound, rate=round(48_000 * 2 ** (1 / 12)))  # played a semitone too fast
    for case in (BASS, TONES):
        assert found[case] == pytest.approx([100] * len(found[case]), abs=5)


def test_what_is_cut_flat_is_counted_and_so_is_a_click_at_the_beginning():
    found = cases(lambda sound: np.concatenate([[0.75], 4 * sound[1:]]))
    assert min(found[FULL]) > 0
    assert max(found[RUN]) > 20
    assert min(found[FIRST]) >= 0.75
    assert longest_run(np.array([1.0, 1.0, 0.0, -1.0, -1.0, -1.0, 0.5])) == 3
    assert longest_run(np.zeros(4)) == 0


def test_the_greatest_rise_of_a_loss_is_told_with_its_epoch():
    assert greatest_rise([4.0, 2.0, 3.0, 3.6]) == Rise(1.5, 3)
    assert greatest_rise([4.0, 2.0, 1.0]) == Rise(0.5, 2)
