"""Long recordings cut into sounds, at silences and into equal lengths."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from distill.audio.recording import Samples
from distill.data.cutting import cut_recordings
from distill.errors import CollectionError, ConfigError
from support.commands import run
from support.sounds import RATE, tone


def tape(hits: int = 4, hiss: float = 0.0) -> Samples:
    """Hits of 0.4 s, each with half a second of silence or hiss after it: float32 `[frames, 2]`."""
    parts = [np.pad(tone(220 * (number + 1), 0.4, decay=3.0), (0, RATE // 2)) for number in range(hits)]
    mono = np.concatenate(parts) + np.random.default_rng(0).normal(scale=hiss, size=hits * 9 * RATE // 10)
    return np.stack([mono, 0.5 * mono], axis=1).astype(np.float32)


@pytest.mark.parametrize("hiss", [0.0, 0.001])
def test_a_recording_is_cut_where_it_is_silent_or_only_hisses(write_sound, tmp_path: Path, hiss: float) -> None:
    path = write_sound("tape.wav", tape(hiss=hiss), subtype="FLOAT")
    cut = cut_recordings([path], tmp_path / "cut")
    assert [piece.name for piece in cut.pieces] == [f"tape_{number:03d}.wav" for number in (1, 2, 3, 4)]
    for number, piece in enumerate(cut.pieces):
        samples, rate = soundfile.read(piece, dtype="float32")
        assert (rate, samples.shape[1]) == (RATE, 2)
        assert 0.3 < len(samples) / RATE < 0.6
        start = number * 9 * RATE // 10
        whole = np.correlate(tape(hiss=hiss)[start : start + RATE // 10, 0], samples[: RATE // 20, 0], "valid")
        assert whole.argmax() <= RATE // 50, "the attack must be in it"


def test_equal_lengths_lose_nothing_but_a_scrap_at_the_end(write_sound, tmp_path: Path) -> None:
    samples = tape()[: round(3.02 * RATE)]
    cut = cut_recordings([write_sound("tape.wav", samples, subtype="PCM_24")], tmp_path / "cut", 1.0)
    pieces = np.concatenate([soundfile.read(piece, dtype="float32")[0] for piece in cut.pieces])
    assert len(cut.pieces) == 3
    np.testing.assert_allclose(pieces, samples[: 3 * RATE], atol=2**-22)


def test_recordings_of_one_name_do_not_overwrite_each_other_and_an_unreadable_one_is_named(
    write_sound, tmp_path: Path
) -> None:
    recordings = [write_sound(name, tape(2)) for name in ("a/tape.wav", "b/tape.wav")]
    broken = tmp_path / "sounds" / "broken.wav"
    broken.write_text("this is no sound")
    cut = cut_recordings([*recordings, broken], tmp_path / "cut")
    assert len(set(cut.pieces)) == len(list((tmp_path / "cut").iterdir())) == 4
    assert [file.path for file in cut.unreadable] == [broken]


@pytest.mark.parametrize("seconds", [None, 60.0], ids=["no silence", "too short"])
def test_where_there_is_nothing_to_cut_nothing_is_left(write_sound, tmp_path: Path, seconds: float | None) -> None:
    steady = write_sound("steady.wav", np.full(RATE, 0.5, np.float32))
    with pytest.raises(CollectionError, match="too few sounds"):
        cut_recordings([steady], tmp_path / "run" / "cut", seconds)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_an_impossible_length_is_refused(tmp_path: Path, seconds: float) -> None:
    with pytest.raises(ConfigError, match=r"at least 0\.1 seconds"):
        cut_recordings([], tmp_path / "cut", seconds)


@pytest.mark.usefixtures("quick_runs")
def test_one_long_recording_is_refused_with_what_to_do_and_then_trained_on(write_sound, tmp_path: Path) -> None:
    folder, run_folder = write_sound("tape.wav", tape()).parent, tmp_path / "run"
    places = ("--output-dir", run_folder, "--models-dir", tmp_path / "models")
    refused = run("train", folder, *places)
    assert "--cut silence" in refused.err
    assert not run_folder.exists()
    said = run("train", folder, "--cut", "silence", "--epochs", 1, "--batch-size", 4, "--no-prior", *places)
    assert said.code == 0, said.err
    assert f"cut 1 recording into 4 sounds, which are in {run_folder / 'sounds'}" in said.err
    assert "on 4 files" in said.out
    assert [path.name for path in folder.iterdir()] == ["tape.wav"]
