"""The demo collection: enough different sounds to try everything, the same ones every time."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from distill.data.collection import find_audio_files
from distill.data.demo import write_demo_collection
from distill.data.opening import open_collection


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_demo_collection(tmp_path_factory.mktemp("demo"))


def test_there_are_24_sounds_and_all_of_them_are_found_again(demo: list[Path]) -> None:
    assert len(set(demo)) == 24
    assert find_audio_files(demo[0].parents[1]) == sorted(demo)


def test_two_runs_write_the_same_bytes(demo: list[Path], tmp_path: Path) -> None:
    again = write_demo_collection(tmp_path)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in demo]


def test_another_seed_gives_other_sounds_under_the_same_names(demo: list[Path], tmp_path: Path) -> None:
    other = write_demo_collection(tmp_path, seed=1)
    assert [path.name for path in other] == [path.name for path in demo]
    assert all(a.read_bytes() != b.read_bytes() for a, b in zip(other, demo))


def test_every_sound_is_usable_and_none_has_a_flaw(demo: list[Path]) -> None:
    collection = open_collection(demo)
    assert len(collection.usable) == 24
    assert {str(file.path): file.notes for file in collection.files if file.notes} == {}


def test_lengths_rates_and_levels_are_those_of_one_shots(demo: list[Path]) -> None:
    files = open_collection(demo).files
    assert {file.sample_rate for file in files} == {44_100, 48_000}
    assert {file.channels for file in files} == {1, 2}
    assert {file.format for file in files} == {"WAV", "FLAC"}
    assert all(0.15 <= file.duration_s <= 3.0 for file in files)
    assert all(10 ** (-3.1 / 20) <= file.peak <= 10 ** (-0.9 / 20) for file in files)


def test_every_sound_ends_quietly_and_is_made_of_numbers(demo: list[Path]) -> None:
    for path in demo:
        samples, _ = soundfile.read(path, always_2d=True)
        assert np.isfinite(samples).all()
        assert np.abs(samples[0]).max() < 1e-3
        assert np.abs(samples[-1]).max() < 1e-3
