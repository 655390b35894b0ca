"""A folder of sounds is looked at file by file, and nothing odd passes without a word."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from distill.audio.limits import AudioLimits
from distill.cli.messages import COMMAND_LINE
from distill.data.collection import Collection, find_audio_files, find_sounds
from distill.data.opening import open_collection
from distill.data.waveforms import WaveformStore
from distill.errors import CollectionError
from support.sounds import RATE, tone

Write = Callable[..., Path]


def only(collection: Collection):
    (file,) = collection.files
    return file


# Finding


def test_files_are_found_in_every_subfolder_sorted_by_path(write_sound: Write, tmp_path: Path) -> None:
    names = ["b.wav", "a/z.flac", "a/deep/er/x.aiff", "c.ogg"]
    written = [write_sound(name, tone(440, 0.1)) for name in names]
    assert find_audio_files(tmp_path / "sounds") == sorted(written)


def test_names_in_any_script_and_suffixes_in_any_case_are_found(write_sound: Write, tmp_path: Path) -> None:
    names = ["Ünïcödé é.wav", "太鼓.flac", "🥁 kick.wav", "LOUD.WAV", "Mixed.FlaC"]
    for name in names:
        write_sound(name, tone(440, 0.1))
    found = find_audio_files(tmp_path / "sounds")
    assert {path.name for path in found} == set(names)
    assert len(open_collection(found).usable) == 1 + 1  # the same tone five times, as wav and as flac


def test_hidden_files_and_apple_doubles_are_passed_over(write_sound: Write, tmp_path: Path) -> None:
    visible = write_sound("a.wav", tone(440, 0.1))
    write_sound(".hidden.wav", tone(220, 0.1))
    write_sound(".git/objects/b.wav", tone(220, 0.1))
    (visible.parent / "._a.wav").write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        ")
    assert find_audio_files(tmp_path / "sounds") == [visible]


def test_a_collection_may_itself_lie_in_a_hidden_folder(write_sound: Write, tmp_path: Path) -> None:
    path = write_sound(".samples/a.wav", tone(440, 0.1))
    assert find_audio_files(tmp_path / "sounds" / ".samples") == [path]


def test_a_folder_that_ends_like_a_sound_file_is_a_folder(write_sound: Write, tmp_path: Path) -> None:
    inside = write_sound("x.wav/inside.wav", tone(440, 0.1))
    assert find_audio_files(tmp_path / "sounds") == [inside]


def test_other_files_are_passed_over_and_counted_by_kind(write_sound: Write, tmp_path: Path) -> None:
    path = write_sound("a.wav", tone(440, 0.1))
    for name in ("notes.txt", "cover.jpg", "wav", "a.wav.asd", "b.ASD"):
        (path.parent / name).write_text("no sound")
    found = find_sounds(tmp_path / "sounds")
    assert found.sounds == (path,)
    assert found.others == {".asd": 2, ".txt": 1, ".jpg": 1, "": 1}
    path.unlink()
    with pytest.raises(
        CollectionError, match=r"not sound files, and passed over: \.asd \(2\), .*without a suffix \(1\)"
    ):
        find_sounds(tmp_path / "sounds")


READ_BY_LIBSNDFILE = [
    ("CAF", "caf"), ("W64", "w64"), ("RF64", "rf64"), ("RF64", "RF64"), ("AU", "au"), ("AU", "snd"), ("AIFF", "aifc"),
    ("OGG", "oga"), ("WAV", "wave"), ("VOC", "voc"), ("NIST", "sph"), ("IRCAM", "sf"), ("PAF", "paf"), ("SVX", "8svx"),
    ("AVR", "avr"), ("PVF", "pvf"), ("FLAC", "dat"), ("WAV", "no suffix"), ("CAF", "wav"), ("WAV", "m4a"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "suffix"), READ_BY_LIBSNDFILE)
def test_what_libsndfile_reads_is_found_and_read_whatever_it_is_called(
    write_sound: Write, kind: str, suffix: str
) -> None:
    path = write_sound(f"a.{suffix}", tone(440, 0.1), format=kind)
    assert find_audio_files(path.parent) == [path]
    assert only(open_collection([path])).usable


@pytest.mark.parametrize("suffix", ["part", "crdownload"])
def test_a_download_in_progress_is_no_sound_file_yet(write_sound: Write, suffix: str) -> None:
    path = write_sound(f"a.wav.{suffix}", tone(440, 0.1), format="WAV")
    with pytest.raises(CollectionError):
        find_audio_files(path.parent)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are none on this system")
def test_a_fifo_without_the_name_of_a_sound_is_passed_over_without_waiting(write_sound: Write) -> None:
    path = write_sound("a.wav", tone(440, 0.1))
    os.mkfifo(path.parent / "fifo")
    assert find_audio_files(path.parent) == [path]


def test_a_missing_folder_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(CollectionError, match=r"gone: no such folder; give the folder"):
        find_audio_files(tmp_path / "gone")


def test_a_file_in_place_of_a_folder_is_said_to_be_a_file(write_sound: Write) -> None:
    with pytest.raises(CollectionError, match=r"a\.wav is a file; give the folder"):
        find_audio_files(write_sound("a.wav", tone(440, 0.1)))


def test_an_empty_folder_is_refused_with_the_kinds_that_were_looked_for(tmp_path: Path) -> None:
    with pytest.raises(CollectionError, match=r"no audio files in it \(looked for .*flac.*wav"):
        find_audio_files(tmp_path)


# Scanning


def test_a_sound_file_is_described(write_sound: Write) -> None:
    stereo = np.stack([tone(440, 0.5, rate=44_100), np.zeros(22_050)], axis=1)
    file = only(open_collection([write_sound("a.flac", stereo, 44_100)]))
    assert (file.format, file.sample_rate, file.channels) == ("FLAC", 44_100, 2)
    assert file.duration_s == pytest.approx(0.5)
    assert file.peak == pytest.approx(np.abs(stereo).max(), abs=1e-4)
    assert file.usable
    assert file.notes == []


def test_a_copy_is_a_duplicate_of_the_first_whatever_its_name(write_sound: Write) -> None:
    first = write_sound("a.wav", tone(440, 0.2))
    copy = first.with_name("another name.wav")
    shutil.copy(first, copy)

    collection = open_collection([first, copy])

    assert [file.duplicate_of for file in collection.files] == [None, first]
    assert collection.files[1].notes == [f"duplicate of {first}"]
    assert [file.path for file in collection.usable] == [first]


def test_a_copy_with_other_oddities_is_left_out_for_being_a_copy(write_sound: Write) -> None:
    clipped = np.clip(4 * tone(440, 0.2), -1, 1)
    first, copy = write_sound("a.wav", clipped), write_sound("b.wav", clipped)
    assert [(file.path, file.reason) for file in open_collection([first, copy]).left_out] == [
        (copy, f"duplicate of {first}")
    ]


@pytest.mark.parametrize(
    ("decibels", "limit", "level"),
    [
        (-999, -60, "silent"), (-81, -60, "silent"), (-79, -60, "quiet"), (-61, -60, "quiet"), (-59, -60, "heard"),
        (-66, -67, "raised"), (-68, -67, "quiet"), (-81, -90, "raised"), (-91, -90, "silent"), (-59, -20, "quiet"),
    ],
)  # fmt: skip
def test_silence_is_told_from_sound_that_is_very_quiet(
    write_sound: Write, decibels: float, limit: float, level: str
) -> None:
    sound = 10 ** (decibels / 20) * (-1.0) ** np.arange(4800)
    path = write_sound("a.wav", sound, subtype="FLOAT")
    file = only(open_collection([path], limits=AudioLimits(min_dbfs=limit)))
    assert file.level == level
    assert file.usable == (level in ("heard", "raised"))
    assert len(file.notes) == (level != "heard")


def test_a_very_quiet_sound_is_left_out_until_the_limit_is_lowered_and_then_raised(write_sound: Write) -> None:
    loud = tone(440, 0.3)
    path = write_sound("a.wav", loud * 10 ** (-66 / 20), subtype="FLOAT")
    (left_out,) = open_collection([path], RATE).left_out
    assert left_out.worded(COMMAND_LINE) == ("very quiet: its peak is at -72 dBFS; lower it with --limit min_dbfs=-73")
    opened = open_collection([path], RATE, limits=AudioLimits(min_dbfs=-73))
    assert only(opened).notes == ["very quiet: its peak is at -72 dBFS, so its level is raised"]
    waveform = opened.sounds[0].waveform[:]
    np.testing.assert_allclose(waveform, loud * 0.5 / np.abs(loud).max(), atol=1e-6)
    (of_the_rate_found,) = open_collection([path], usual_rate=RATE, limits=AudioLimits(min_dbfs=-73)).sounds
    np.testing.assert_array_equal(of_the_rate_found.waveform[:], waveform)


@pytest.mark.parametrize("right", [-1.0, -0.985, -0.7])
def test_of_channels_that_cancel_out_the_difference_is_used_with_a_note(write_sound: Write, right: float) -> None:
    left = tone(440, 0.2)
    path = write_sound("a.wav", np.stack([left, right * left], axis=1), subtype="FLOAT")
    opened = open_collection([path], RATE)
    assert only(opened).notes == ["channels cancel out: some were turned round before they were mixed"]
    np.testing.assert_allclose(opened.sounds[0].waveform[:], left * (1 - right) / 2, atol=1e-6)


@pytest.mark.parametrize("right", [0.0, 1.0, 0.3])
def test_channels_that_do_not_cancel_out_are_mixed_as_they_are(write_sound: Write, right: float) -> None:
    left = tone(440, 0.2)
    path = write_sound("a.wav", np.stack([left, right * left], axis=1), subtype="FLOAT")
    opened = open_collection([path], RATE)
    assert only(opened).notes == []
    np.testing.assert_allclose(opened.sounds[0].waveform[:], left * (1 + right) / 2, atol=1e-6)


def test_of_three_phases_something_is_left(write_sound: Write) -> None:
    time = np.arange(RATE // 5) / RATE
    phases = np.stack([np.sin(2 * np.pi * (440 * time + turn / 3)) / 2 for turn in range(3)], axis=1)
    opened = open_collection([write_sound("a.wav", phases, subtype="FLOAT")], RATE)
    assert np.abs(opened.sounds[0].waveform[:]).max() == pytest.approx(1 / 3, rel=0.01)


@pytest.mark.parametrize("offset", [0.2, -0.05])
@pytest.mark.parametrize("channels", [1, 2])
def test_an_offset_is_taken_off_with_a_note(write_sound: Write, offset: float, channels: int) -> None:
    plain = tone(440, 0.5)
    sides = np.stack([plain + offset, plain][:channels], axis=1)
    opened = open_collection([write_sound("a.wav", sides, subtype="FLOAT")], RATE)
    assert only(opened).notes == ["DC offset: taken off"]
    np.testing.assert_allclose(opened.sounds[0].waveform[:], plain, atol=2e-3)


def test_a_sound_that_leans_to_one_side_has_no_offset(write_sound: Write) -> None:
    time = np.arange(RATE // 4) / RATE
    kick = np.sin(2 * np.pi * 40 * time) * np.exp(-40 * time)
    pulses = 0.5 * (np.arange(RATE // 4) % 100 < 10)
    rumble = np.cumsum(np.random.default_rng(3).normal(size=RATE // 4)) / 1000
    leaning = (kick, pulses, rumble - rumble.mean())
    paths = [write_sound(f"{n}.wav", sound, subtype="FLOAT") for n, sound in enumerate(leaning)]
    assert [file.offset for file in open_collection(paths).files] == [False, False, False]


def call(frequency: float, rate: int) -> np.ndarray:
    """A tone that rises and falls without a click."""
    frames = rate // 10
    return 0.5 * np.hanning(frames) * np.sin(2 * np.pi * frequency * np.arange(frames) / rate)


def test_a_recording_of_which_a_model_hears_nothing_is_left_out_with_the_reason(write_sound: Write) -> None:
    paths = [
        write_sound("bat.wav", call(45_000, 384_000), 384_000),
        write_sound("high.wav", call(9_500, 44_100), 44_100),
        write_sound("low.wav", call(440, RATE)),
    ]
    for options in ({}, {"usual_rate": RATE}, {"sample_rate": RATE}):
        (bat,) = open_collection(paths, **options).left_out
        assert bat.path.name == "bat.wav"
        assert bat.reason == "nothing audible: all of it lies above 24 kHz, half of the model's rate"
    at_16_khz = open_collection(paths, 16_000)
    assert [file.path.name for file in at_16_khz.left_out] == ["bat.wav", "high.wav"]
    assert [sound.path.name for sound in at_16_khz.sounds or ()] == ["low.wav"]


@pytest.mark.parametrize(("gain", "clipped"), [(4.0, True), (1.0, False)])
def test_a_file_that_sits_at_full_scale_is_clipped(write_sound: Write, gain: float, clipped: bool) -> None:
    file = only(open_collection([write_sound("a.wav", np.clip(gain * tone(440, 0.2), -1, 1))]))
    assert file.clipped == clipped
    assert file.usable


@pytest.mark.parametrize(("seconds", "short"), [(0.04, True), (0.06, False)])
def test_a_file_under_a_twentieth_of_a_second_is_very_short_yet_usable(
    write_sound: Write, seconds: float, short: bool
) -> None:
    file = only(open_collection([write_sound("a.wav", tone(440, seconds))]))
    assert file.short == short
    assert ("very short" in file.notes) == short
    assert file.usable


@pytest.mark.parametrize("suffix", ["wav", "aiff", "mp3"])
def test_a_truncated_file_is_noted_and_what_is_left_of_it_used(write_sound: Write, suffix: str) -> None:
    path = write_sound(f"a.{suffix}", tone(440, 1.0, decay=0.5))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    file = only(open_collection([path]))
    assert file.truncated
    assert any("truncated" in note for note in file.notes)
    assert 0.2 < file.duration_s < 0.6


def test_a_whole_file_of_any_kind_is_not_called_truncated(write_sound: Write) -> None:
    kinds = ["wav", "flac", "aiff", "ogg", "mp3"]
    files = open_collection([write_sound(f"a.{kind}", tone(440, 1.0)) for kind in kinds]).files
    assert [file.path.suffix for file in files if file.truncated] == []


def test_what_cannot_be_read_is_listed_with_the_reason_and_does_not_stop_the_rest(
    write_sound: Write, tmp_path: Path
) -> None:
    good = write_sound("good.wav", tone(440, 0.2))
    (good.parent / "empty.wav").touch()
    (good.parent / "text.wav").write_text("no sound")
    write_sound("nan.wav", np.full(4800, np.nan, np.float32), subtype="FLOAT")
    write_sound("no_frames.wav", np.zeros(0, np.float32))

    collection = open_collection([*find_audio_files(tmp_path / "sounds"), tmp_path / "gone.wav"])

    reasons = {file.path.name: file.reason for file in collection.unreadable}
    assert [file.path for file in collection.usable] == [good]
    assert reasons.pop("text.wav").startswith("not readable as audio (")
    assert reasons == {
        "empty.wav": "the file is empty",
        "nan.wav": "the file holds samples that are not numbers (NaN or infinity)",
        "no_frames.wav": "the file holds no audio frames",
        "gone.wav": "no such file",
    }


def test_progress_is_told_after_every_file_readable_or_not(write_sound: Write, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    paths = [write_sound("a.wav", tone(440, 0.1)), tmp_path / "gone.wav"]
    open_collection(paths, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]


def test_a_collection_counts_and_adds_up(write_sound: Write) -> None:
    paths = [write_sound(f"{n}.wav", tone(110 * n, 0.1 * n)) for n in (1, 2)] + [write_sound("f.flac", tone(99, 0.3))]
    collection = open_collection(paths)
    assert collection.count(lambda file: file.format) == {"WAV": 2, "FLAC": 1}
    assert list(collection.count(lambda file: file.format)) == ["WAV", "FLAC"]
    assert collection.duration_s == pytest.approx(0.6)


# Loading


def test_sounds_are_loaded_mono_at_the_rate_asked_for(write_sound: Write) -> None:
    path = write_sound("a.wav", np.stack([tone(440, 0.5, rate=44_100)] * 2, axis=1), 44_100)
    opened = open_collection([path], RATE)
    (sound,) = opened.sounds
    assert (sound.waveform.dtype, sound.waveform.shape) == (np.float32, (RATE // 2,))
    assert opened.left_out == ()


def test_files_are_left_out_alike_whether_sounds_are_kept_or_not(write_sound: Write, collection: Path) -> None:
    extra = collection / "silent.wav"
    soundfile.write(extra, np.zeros(4800), RATE)
    shutil.copy(collection / "tone_00.wav", collection / "zz_copy.wav")
    (collection / "text.wav").write_text("no sound")
    paths = find_audio_files(collection)

    opened = open_collection(paths, RATE)

    assert {sound.path for sound in opened.sounds} == {file.path for file in open_collection(paths).usable}
    assert {file.path.name: file.reason.split(" (")[0] for file in opened.left_out} == {
        "silent.wav": "silent",
        "zz_copy.wav": f"duplicate of {collection / 'tone_00.wav'}",
        "text.wav": "not readable as audio",
    }


# The rate to train at


@pytest.mark.parametrize(
    ("rates", "common"),
    [
        ((44_100, 44_100), 44_100), ((16_000, 16_000), 16_000), ((48_000, 48_000), 48_000), ((22_050,), 22_050),
        ((44_100, 48_000), None), ((8_000, 8_000), None), ((96_000, 96_000), None), ((), None),
    ],
)  # fmt: skip
def test_sounds_have_a_rate_in_common_if_a_model_can_have_it(
    write_sound: Write, rates: tuple[int, ...], common: int | None
) -> None:
    paths = [write_sound(f"{n}.wav", tone(220 * (n + 1), 0.1, rate=rate), rate) for n, rate in enumerate(rates)]
    opened = open_collection(paths, usual_rate=RATE)
    assert opened.common_rate == common
    assert opened.sample_rate == (common or RATE)
    assert all(len(sound.waveform) == pytest.approx(0.1 * (common or RATE), abs=1) for sound in opened.sounds)


def test_files_that_are_not_used_have_no_say_in_the_rate(write_sound: Write, tmp_path: Path) -> None:
    sound = write_sound("a.wav", tone(440, 0.1, rate=44_100), 44_100)
    shutil.copy(sound, sound.with_name("copy.wav"))
    write_sound("mute.wav", np.zeros(2205), 22_050)
    (tmp_path / "sounds" / "text.wav").write_text("no sound")
    assert open_collection(find_audio_files(tmp_path / "sounds"), usual_rate=RATE).sample_rate == 44_100


@pytest.mark.parametrize("rates", [(44_100, 44_100), (44_100, 48_000), (48_000, 22_050), (8_000, 8_000)])
@pytest.mark.parametrize("memory", [0, 1 << 20])
def test_sounds_opened_without_a_rate_are_those_opened_at_the_rate_that_was_found(
    write_sound: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rates: tuple[int, int], memory: int
) -> None:
    """To the bit, because a run that is resumed opens them at the rate in its record."""
    monkeypatch.setattr("distill.data.opening.WaveformStore", lambda: WaveformStore(memory, tmp_path / "cache"))
    loud = np.stack([3 * tone(440, 0.2, rate=rates[0]), tone(660, 0.2, rate=rates[0])], axis=1)
    paths = [
        write_sound("loud.wav", loud, rates[0], subtype="FLOAT"),
        write_sound("soft.wav", tone(330, 0.2, rate=rates[1]), rates[1]),
    ]
    opened = open_collection(paths, usual_rate=RATE)
    for one, other in zip(opened.sounds, open_collection(paths, opened.sample_rate).sounds, strict=True):
        assert (one.path, one.digest) == (other.path, other.digest)
        np.testing.assert_array_equal(one.waveform[:], other.waveform[:])
