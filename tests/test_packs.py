"""Sounds made ready for samplers: finished, tuned, looped, and packed with presets that other programs read."""

import importlib.util
import io
import itertools
import subprocess
import sys
import wave
import zipfile
from pathlib import Path
from xml.etree import ElementTree as ET

import librosa
import numpy as np
import pytest
import soundfile

from distill.audio.finish import Finish, finished
from distill.audio.io import wav_bytes
from distill.audio.loops import find_loop
from distill.audio.pitch import midi_key
from distill.errors import ConfigError
from distill.packs.origin import Origin
from distill.packs.pack import pack_files, pack_zip, preset_files
from distill.packs.sounds import MadeSound, SoundFile, finish_sound
from support.sounds import tone

RATE = 48_000


def sine(frequency: float, seconds: float, rate: int = RATE, level: float = 0.5) -> np.ndarray:
    return (level * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def noise(seconds: float, level: float = 0.3) -> np.ndarray:
    return (level * np.random.default_rng(0).uniform(-1, 1, round(seconds * RATE))).astype(np.float32)


def decibels(value: float) -> float:
    return 20 * np.log10(value)


# Finished


def test_a_sound_is_cut_where_it_has_fallen_by_60_decibels_and_ends_in_a_fade():
    decay = noise(2.0) * np.exp(-np.arange(2 * RATE) / (0.1 * RATE)).astype(np.float32)
    made = finished(decay, RATE, Finish())
    assert len(made) / RATE == pytest.approx(0.1 * np.log(1000), abs=0.03)
    assert np.abs(made[-5:]).max() < 1e-6
    whole = finished(decay, RATE, Finish(trim=False, fade=False))
    np.testing.assert_array_equal(whole, decay)
    np.testing.assert_array_equal(made[480:-480], decay[480 : len(made) - 480])


def test_fades_take_1_and_10_milliseconds():
    made = finished(np.ones(RATE, np.float32), RATE, Finish())
    assert made[0] == made[-1] == 0
    assert (np.flatnonzero(made == 1)[0], len(made) - 1 - np.flatnonzero(made == 1)[-1]) == (47, 479)


def test_the_peak_is_the_one_asked_for_and_a_loud_sound_is_turned_down_not_flattened():
    assert decibels(np.abs(finished(tone(300, 0.3), RATE, Finish(peak=-1))).max()) == pytest.approx(-1, abs=1e-3)
    made = finished(3 * sine(100, 0.3), RATE, Finish(fade=False))
    np.testing.assert_allclose(made, sine(100, 0.3, level=1.0), atol=1e-3)
    assert np.abs(finished(np.zeros(100, np.float32), RATE, Finish(peak=-1))).max() == 0


def test_another_rate_and_two_sides():
    made = finished(sine(1000, 0.5), RATE, Finish(rate=44_100, stereo=True, trim=False))
    assert made.shape == (22_050, 2)
    np.testing.assert_array_equal(made[:, 0], made[:, 1])
    np.testing.assert_allclose(made[2000:-2000, 0], sine(1000, 0.5, 44_100)[2000:-2000], atol=1e-3)


@pytest.mark.parametrize(("bits", "width", "largest"), [("16", 2, 2.5 / 32_768), ("24", 3, 2 / 2**23), ("32f", 4, 0)])
def test_samples_have_the_bits_that_are_asked_for(bits, width, largest):
    sound = sine(440, 0.2, level=1.0)
    content = wav_bytes(sound, RATE, bits=bits)
    read, rate = soundfile.read(io.BytesIO(content), dtype="float32")
    assert (rate, soundfile.info(io.BytesIO(content)).subtype) == (RATE, {2: "PCM_16", 3: "PCM_24", 4: "FLOAT"}[width])
    assert np.abs(read - sound).max() <= largest + 1e-9 + (4e-5 if bits == "16" else 0)
    assert content == wav_bytes(sound, RATE, bits=bits)


def test_dither_lets_through_what_is_softer_than_a_step_and_leaves_silence_alone():
    soft = sine(1000, 1.0, level=0.4 / 32_768)
    read, _ = soundfile.read(io.BytesIO(wav_bytes(np.append(soft, np.zeros(100, np.float32)), RATE, bits="16")))
    spectrum = np.abs(np.fft.rfft(read[:RATE]))
    assert spectrum[990:1010].argmax() == 10
    assert spectrum[1000] > 10 * np.median(spectrum)
    assert np.abs(read[RATE:]).max() == 0


@pytest.mark.parametrize(("wrong", "said"), [({"peak": 1.0}, "peak is 1.0"), ({"rate": 10}, "rate is 10")])
def test_what_no_file_can_have_is_refused(wrong, said):
    with pytest.raises(ConfigError, match=said):
        Finish(**wrong)
    with pytest.raises(ConfigError, match="bits is 12"):
        wav_bytes(noise(0.1), RATE, bits="12")


# Pitch


@pytest.mark.parametrize("key", [30, 40.3, 57, 69, 80.5, 93])
@pytest.mark.parametrize("rate", [22_050, 48_000])
def test_the_pitch_of_a_tone_is_found_to_a_few_cents(key, rate):
    frequency = 440 * 2 ** ((key - 69) / 12)
    rich = sum(sine(frequency * n, 0.5, rate, 0.3 / n) for n in (1, 2, 3) if frequency * n < rate / 2)
    assert midi_key(rich, rate) == pytest.approx(key, abs=0.05)


def test_the_pitch_is_the_one_that_librosa_finds():
    sound = tone(233.1, 0.6) + 0.2 * tone(466.2, 0.6, seed=1)
    found = np.median(librosa.yin(sound, fmin=60, fmax=2000, sr=RATE))
    assert midi_key(sound, RATE) == pytest.approx(librosa.hz_to_midi(found), abs=0.1)


@pytest.mark.parametrize("sound", [noise(0.5), np.zeros(RATE, np.float32), sine(440, 0.02), noise(0.001)])
def test_what_has_no_clear_pitch_has_none(sound):
    assert midi_key(sound, RATE) is None


def test_a_glide_has_no_pitch():
    place = np.arange(RATE) / RATE
    assert midi_key(np.sin(2 * np.pi * 200 * place * (1 + place)).astype(np.float32), RATE) is None


# Loops


def test_the_loop_of_a_sustained_tone_has_no_step():
    place = np.arange(2 * RATE) / RATE
    wobbling = sine(220.7, 2.0) * (1 + 0.3 * np.sin(2 * np.pi * 3 * place)).astype(np.float32)
    loop = find_loop(wobbling, RATE)
    assert loop is not None
    assert loop.stop - loop.start > 0.1 * RATE
    around = np.concatenate([wobbling[loop.stop - 200 : loop.stop], wobbling[loop.start : loop.start + 200]])
    assert np.abs(np.diff(around)).max() < 1.1 * np.abs(np.diff(wobbling)).max()


def test_a_texture_loops_at_one_level():
    made = finish_sound(MadeSound("rain", noise(2.0), RATE, Origin("m", "new")), Finish(), loop=True)
    read, _ = soundfile.read(io.BytesIO(made.wav))
    assert made.loop is not None
    around = np.concatenate([read[made.loop.stop - 960 : made.loop.stop], read[made.loop.start :][:960]])
    assert np.square(around).mean() == pytest.approx(np.square(read).mean(), rel=0.2)


@pytest.mark.parametrize("sound", [tone(200, 1.0, decay=8), noise(0.1), np.zeros(RATE, np.float32)])
def test_what_does_not_sustain_has_no_loop(sound):
    assert find_loop(sound, RATE) is None


def instrument(content: bytes, tmp_path: Path):
    """What libsndfile knows of a file's `smpl` chunk: (key, loops)."""
    path = tmp_path / "looped.wav"
    path.write_bytes(content)
    with soundfile.SoundFile(path) as file:
        data = soundfile._ffi.new("char[]", 4096)
        found = soundfile._snd.sf_command(file._file, 0x10D0, data, 16 + 16 * 16)  # SFC_GET_INSTRUMENT
        raw = bytes(soundfile._ffi.buffer(data))
    count = int.from_bytes(raw[12:16], "little")
    loops = [tuple(np.frombuffer(raw, "<u4", 4, 16 + 16 * n).tolist()) for n in range(count)]
    return found, raw[4], loops


@pytest.mark.parametrize("bits", ["16", "24", "32f"])
def test_libsndfile_finds_the_key_and_the_loop(bits, tmp_path):
    made = finish_sound(MadeSound("pad", sine(261.63, 1.5), RATE, Origin("m", "new")), Finish(), bits=bits, loop=True)
    found, key, loops = instrument(made.wav, tmp_path)
    assert (found, key) == (1, 60)
    assert made.loop is not None
    ((_, start, stop, _),) = loops
    assert start == made.loop.start
    assert stop in (made.loop.stop, made.loop.stop - 1)


def test_a_sound_that_is_a_loop_is_neither_cut_nor_faded_and_loops_whole():
    sound = noise(0.5)
    made = finish_sound(MadeSound("bed", sound, RATE, Origin("m", "loop"), seamless=True), Finish(), bits="32f")
    read, _ = soundfile.read(io.BytesIO(made.wav), dtype="float32")
    np.testing.assert_array_equal(read, sound)
    assert made.loop == (made.loop and type(made.loop)(0, len(sound)))


# Packs


def made_sounds(*sounds: np.ndarray, loop: bool = False) -> list[SoundFile]:
    made = [
        MadeSound(f"kit new {n}", sound, RATE, Origin("kit", "new", seed=n, model_id="abc"))
        for n, sound in enumerate(sounds)
    ]
    return [finish_sound(one, Finish(), loop=loop) for one in made]


@pytest.fixture(scope="module")
def hits() -> list[SoundFile]:
    return made_sounds(noise(0.2), noise(0.3), sine(440, 0.3))


@pytest.fixture(scope="module")
def notes() -> list[SoundFile]:
    return made_sounds(sine(880, 0.5), sine(222, 0.5), sine(440, 0.5), loop=True)


def sfz_regions(text: str) -> list[dict[str, str]]:
    parts = [part.split("\n") for part in text.split("<region>")[1:]]
    opcodes = [[line.split(" ") if "sample=" not in line else [line] for line in part] for part in parts]
    return [dict(item.split("=", 1) for item in itertools.chain(*part) if item) for part in opcodes]


def test_one_shots_lie_on_keys_from_36_up_in_every_preset(hits):
    files = preset_files("my kit", hits)
    assert set(files) == {"my kit.sfz", "my kit.dspreset", "my kit.multisample", "my kit.txt"}
    regions = sfz_regions(files["my kit.sfz"].decode())
    assert [(r["sample"], r["lokey"], r["hikey"], r["pitch_keycenter"], r["loop_mode"]) for r in regions] == [
        (f"kit new {n}.wav", str(36 + n), str(36 + n), str(36 + n), "one_shot") for n in range(3)
    ]
    samples = list(ET.fromstring(files["my kit.dspreset"]).iter("sample"))
    assert [(s.get("path"), s.get("loNote"), s.get("hiNote")) for s in samples] == [
        (f"kit new {n}.wav", str(36 + n), str(36 + n)) for n in range(3)
    ]
    with zipfile.ZipFile(io.BytesIO(files["my kit.multisample"])) as archive:
        root = ET.fromstring(archive.read("multisample.xml"))
        assert {sound.file: sound.wav for sound in hits} == {
            name: archive.read(name) for name in archive.namelist() if name != "multisample.xml"
        }
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
    assert [key.get("root") for key in root.iter("key")] == ["36", "37", "38"]
    assert "kit new 1.wav: a new sound (seed 1); 0.30 s" in files["my kit.txt"].decode()


def test_tuned_sounds_are_one_instrument_in_tune_and_looped(notes):
    files = preset_files("pads", notes)
    regions = sorted(sfz_regions(files["pads.sfz"].decode()), key=lambda region: int(region["lokey"]))
    assert [(r["lokey"], r["hikey"], r["pitch_keycenter"]) for r in regions] == [
        ("0", "63", "57"), ("64", "75", "69"), ("76", "127", "81")
    ]  # fmt: skip
    assert int(regions[0]["tune"]) == pytest.approx(-1200 * np.log2(222 / 220), abs=2)
    for region, sound in zip(regions, (notes[1], notes[2], notes[0])):
        assert sound.loop is not None
        assert region["loop_mode"] == "loop_continuous"
        assert (int(region["loop_start"]), int(region["loop_end"])) == (sound.loop.start, sound.loop.stop - 1)
    samples = list(ET.fromstring(files["pads.dspreset"]).iter("sample"))
    assert {sample.get("loopEnabled") for sample in samples} == {"true"}


@pytest.mark.skipif(importlib.util.find_spec("sfzlint") is None, reason="sfzlint, which reads SFZ, is not installed")
def test_a_linter_of_sfz_finds_nothing_wrong_and_every_sample(hits, notes, tmp_path):
    for file, content in itertools.chain(pack_files("hits", hits).items(), pack_files("notes", notes).items()):
        (tmp_path / file).write_bytes(content)
    lint = [sys.executable, "-W", "ignore", "-c", "from sfzlint.lint import main; main()", "--no-pickle"]
    said = subprocess.run([*lint, tmp_path], capture_output=True, text=True)
    assert (said.returncode, said.stdout) == (0, ""), said
    (tmp_path / hits[0].file).unlink()
    assert hits[0].file in subprocess.run([*lint, tmp_path], capture_output=True, text=True).stdout


def test_more_sounds_than_keys_have_further_presets():
    one = made_sounds(noise(0.05))[0]
    many = [SoundFile(f"s{n}", one.wav, one.frames, one.rate, one.peak, None, None, one.origin) for n in range(100)]
    files = preset_files("all", many)
    assert {name for name in files if name.endswith(".sfz")} == {"all.sfz", "all 2.sfz"}
    assert files["all 2.sfz"].decode().count("<region>") == 8


def test_an_archive_holds_the_pack_in_one_folder_and_is_the_same_every_time(hits):
    content = pack_zip("my kit", hits)
    assert content == pack_zip("my kit", hits)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(f"my kit/{name}") for name in pack_files("my kit", hits)} == pack_files(
            "my kit", hits
        )
        with wave.open(archive.open("my kit/kit new 0.wav")) as sound:
            assert sound.getframerate() == RATE


def test_a_pack_without_sounds_or_with_two_of_one_name_is_refused(hits):
    with pytest.raises(ConfigError, match="no sounds"):
        pack_zip("empty", [])
    with pytest.raises(ConfigError, match="2 sounds are called kit new 0"):
        preset_files("twice", [hits[0], hits[0]])


def test_names_say_model_source_strength_and_seed():
    origin = Origin("my kit", "varied", ("kick/1",), {"strength": 0.4}, 7)
    assert origin.stem == "my kit_kick_1_varied_strength0.4_seed007"
    assert origin.sentence == "varied from kick/1 (strength 0.4, seed 7)"
