"""The sides of a recording, and near copies of a sound, are never on both sides of a split."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.data.batches import split_by_file
from distill.data.collection import Sound
from distill.data.prefetch import PrefetchedWaveform
from distill.data.related import related
from support.sounds import RATE, tone


def sound(name: str, waveform: object) -> Sound:
    return Sound(Path("sounds") / name, name, waveform)  # type: ignore[arg-type]


def groups(*sounds: Sound) -> set[frozenset[str]]:
    group = related(sounds, RATE)
    return {frozenset(name for name in group if group[name] == its) for its in group.values()}


@pytest.mark.parametrize(
    ("left", "right", "together"),
    [
        ("kick_L.wav", "kick_R.wav", True), ("kick.l.wav", "Kick.r.wav", True), ("pad (L).wav", "pad (R).wav", True),
        ("pad-left.wav", "pad-right.wav", True), ("L.wav", "R.wav", True), ("a Left.wav", "a Right.flac", True),
        ("kick_L.wav", "snare_R.wav", False), ("kick_L.wav", "kick.wav", False), ("bell.wav", "ber.wav", False),
        ("x/kick_L.wav", "kick_R.wav", False), ("kick_L.wav", "kick_L2.wav", False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("decoded", [True, False])
def test_files_named_as_two_sides_are_together(left: str, right: str, together: bool, decoded: bool) -> None:
    def waveform(frequency: float) -> object:
        return tone(frequency, 0.2) if decoded else PrefetchedWaveform(Path("a.wav"), 100)

    found = groups(sound(left, waveform(440)), sound(right, waveform(523)), sound("other.wav", waveform(999)))
    assert (frozenset({left, right}) in found) == together


def test_near_copies_are_together_at_any_level_shift_and_length_and_others_are_not() -> None:
    noise = np.random.default_rng(0).normal(size=20_000).astype(np.float32)
    first = tone(440, 0.5)
    near = [
        sound("quieter", first * 0.1),
        sound("later", np.concatenate([np.zeros(777, np.float32), first])),
        sound("shorter", first[:12_000]),
        sound("noisier", first + 0.01 * noise[0]),
        sound("upside down", -first),
    ]
    others = [sound("semitone", tone(466, 0.5)), sound("noise", noise), sound("other noise", noise[::-1].copy())]
    found = groups(sound("first", first), *near, *others)
    assert found == {frozenset({"first", *(one.digest for one in near)}), *(frozenset({o.digest}) for o in others)}


@given(st.lists(st.integers(1, 9), min_size=2, max_size=6), st.floats(0.05, 0.5), st.integers(0, 99))
def test_a_group_is_on_one_side_and_no_side_is_empty(sizes: list[int], share: float, seed: int) -> None:
    group = {f"{name} {n}": f"{name} 0" for name, size in enumerate(sizes) for n in range(size)}
    train, validation = split_by_file(sorted(group), share, seed, group)
    assert train | validation == group.keys()
    assert train
    assert validation
    assert not {group[one] for one in train} & {group[one] for one in validation}
    assert len(validation) <= max(len(group) // 2, round(share * len(group)))


def test_two_sounds_that_belong_together_are_split_all_the_same() -> None:
    train, validation = split_by_file(["a", "b"], 0.5, 0, {"a": "a", "b": "a"})
    assert train | validation == {"a", "b"}
    assert train
    assert validation


def test_sounds_that_have_nothing_in_common_are_split_as_ever() -> None:
    digests = [f"{n}" for n in range(30)]
    assert split_by_file(digests, 0.2, 7, {one: one for one in digests}) == split_by_file(digests, 0.2, 7)
