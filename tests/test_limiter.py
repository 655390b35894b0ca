"""Nothing is cut flat, nothing begins with a click, and what is within full scale is left alone."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.audio.limiter import fade_in, limit_peaks


@given(st.integers(1, 3000), st.floats(1.0, 6.0), st.integers(0, 2**31))
def test_a_sound_beyond_full_scale_is_turned_down_and_not_cut(samples, peak, seed):
    sound = torch.randn(1, 1, samples, generator=torch.Generator().manual_seed(seed))
    sound = sound / sound.abs().max() * peak
    made = limit_peaks(sound)
    assert made.abs().max() <= 1 + 1e-5
    flat = (made[..., 1:] == made[..., :-1]) & (made[..., 1:].abs() > 0.99)
    assert not flat.any()
    assert (made.sign() == sound.sign()).all()


def test_a_sound_within_full_scale_is_left_alone_and_so_is_what_is_far_from_a_peak():
    sound = torch.linspace(-1, 1, 5000)[None, None]
    assert torch.equal(limit_peaks(sound), sound)
    sound = sound.clone()
    sound[..., 2500] = 4.0
    made = limit_peaks(sound)
    assert torch.equal(made[..., :1988], sound[..., :1988])
    assert torch.equal(made[..., 3013:], sound[..., 3013:])
    assert 0.99 <= made[..., 2500].item() <= 1.0


@given(st.integers(1, 100))
def test_a_sound_begins_at_0_and_is_whole_after_half_a_millisecond(samples):
    made = fade_in(torch.ones(2, 1, samples))
    assert (made[..., 0] == 0).all()
    assert (made[..., 24:] == 1).all()
    assert made[..., :3].max() <= 0.1
