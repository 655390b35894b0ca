"""Every kind of sound file becomes mono 48 kHz, and every broken one becomes a reason."""

import os
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from distill.audio.io import read_recording, read_waveform, write_wav
from distill.audio.reader import AudioReader
from distill.audio.recording import Recording
from distill.audio.suffixes import AUDIO_SUFFIXES
from distill.errors import AudioError, StorageError
from support.sounds import RATE

Write = Callable[..., Path]

FORMATS = [
    ("wav", "WAV", "PCM_16"),
    ("wav", "WAV", "PCM_24"),
    ("wav", "WAV", "FLOAT"),
    ("flac", "FLAC", "PCM_16"),
    ("flac", "FLAC", "PCM_24"),
    ("aiff", "AIFF", "PCM_16"),
    ("aif", "AIFF", "PCM_24"),
    ("ogg", "OGG", "VORBIS"),
    ("opus", "OGG", "OPUS"),
    ("mp3", "MP3", "MPEG_LAYER_III"),
]


def sine(frequency: float, seconds: float, rate: int, channels: int = 1, peak: float = 0.5) -> np.ndarray:
    wave = peak * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)
    return np.repeat(wave[:, None], channels, axis=1).astype(np.float32)


def loudest_frequency(samples: np.ndarray, rate: int = RATE) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * rate / len(samples))


def wav_bytes(path: Path, claimed: int) -> bytes:
    """The file's bytes with the data chunk claiming so many bytes."""
    whole = path.read_bytes()
    size_at = whole.index(b"data") + 4
    return whole[:size_at] + struct.pack("<I", claimed) + whole[size_at + 4 :]


@pytest.mark.parametrize(("suffix", "kind", "subtype"), FORMATS)
def test_every_format_comes_back_as_the_sound_that_went_in(
    write_sound: Write, suffix: str, kind: str, subtype: str
) -> None:
    if subtype not in soundfile.available_subtypes(kind):
        pytest.skip(f"this libsndfile cannot write {subtype}")
    path = write_sound(f"a.{suffix}", sine(440, 1.0, RATE), format=kind, subtype=subtype)

    samples = read_waveform(path, RATE)

    assert samples.dtype == np.float32
    assert samples.ndim == 1
    assert len(samples) == pytest.approx(RATE, abs=0.03 * RATE)
    assert loudest_frequency(samples) == pytest.approx(440, abs=2)
    assert np.abs(samples[4800:-4800]).max() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(("suffix", "kind", "subtype"), [row for row in FORMATS if row[0] in ("wav", "flac", "aif")])
def test_lossless_formats_are_exact_to_their_resolution(
    write_sound: Write, suffix: str, kind: str, subtype: str
) -> None:
    sound = sine(440, 0.1, RATE)
    path = write_sound(f"a.{suffix}", sound, format=kind, subtype=subtype)
    step = {"PCM_16": 2**-15, "PCM_24": 2**-23, "FLOAT": 1e-9}[subtype]
    np.testing.assert_allclose(read_waveform(path, RATE), sound[:, 0], atol=step)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 88_200, 96_000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_any_rate_and_channel_count_becomes_mono_48_khz(write_sound: Write, rate: int, channels: int) -> None:
    samples = read_waveform(write_sound("a.wav", sine(1000, 0.5, rate, channels), rate), RATE)

    assert samples.ndim == 1
    assert len(samples) == pytest.approx(0.5 * RATE, abs=10)
    assert loudest_frequency(samples) == pytest.approx(1000, abs=3)
    assert np.abs(samples[2400:-2400]).max() == pytest.approx(0.5, abs=0.01)


@given(st.integers(1, 6), st.integers(1, 400), st.integers(0, 2**32 - 1))
def test_mono_is_the_mean_of_the_channels_at_the_same_rate(channels: int, frames: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    samples = (rng.uniform(-1, 1, (frames, 1)) * rng.uniform(0, 1, channels)).astype(np.float32)
    np.testing.assert_allclose(Recording(samples, RATE, "WAV", frames).mono(RATE), samples.mean(axis=1), atol=1e-6)


@given(st.sampled_from([4_000, 44_100, 96_000, 192_000, 384_000]), st.integers(1, 50))
def test_no_sound_is_so_short_that_resampling_loses_it(rate: int, frames: int) -> None:
    mono = Recording(np.full((frames, 1), 0.5, np.float32), rate, "WAV", frames).mono(RATE)
    assert len(mono) >= 1
    assert np.isfinite(mono).all()


def test_what_lies_above_half_the_target_rate_is_filtered_out_not_folded_back(write_sound: Write) -> None:
    samples = read_waveform(write_sound("a.wav", sine(30_000, 0.2, 96_000), 96_000), RATE)
    assert np.abs(samples[480:-480]).max() < 1e-3


def test_a_sound_louder_than_full_scale_is_scaled_down_whole(write_sound: Write) -> None:
    loud = sine(440, 0.2, RATE, peak=2.5)
    samples = read_waveform(write_sound("loud.wav", loud, subtype="FLOAT"), RATE)
    np.testing.assert_allclose(samples, loud[:, 0] / np.abs(loud).max(), atol=1e-6)


def test_a_sound_within_full_scale_keeps_its_level(write_sound: Write) -> None:
    samples = read_waveform(write_sound("soft.wav", sine(440, 0.2, RATE, peak=0.01), subtype="FLOAT"), RATE)
    assert np.abs(samples).max() == pytest.approx(0.01, rel=1e-3)


def test_a_recording_keeps_the_channels_and_the_rate_of_its_file(write_sound: Write) -> None:
    recording = read_recording(write_sound("a.flac", sine(440, 0.1, 44_100, 2), 44_100))
    assert (recording.samples.shape, recording.sample_rate, recording.format) == ((4410, 2), 44_100, "FLAC")
    assert not recording.truncated


def test_a_long_file_is_read_in_blocks_without_a_seam(write_sound: Write) -> None:
    sound = np.random.default_rng(0).uniform(-0.9, 0.9, (1 << 18) + 12_345).astype(np.float32)
    np.testing.assert_array_equal(read_waveform(write_sound("a.wav", sound, subtype="FLOAT"), RATE), sound)


# Broken files


def test_the_sides_of_a_loud_stereo_recording_are_turned_down_together() -> None:
    sides = np.stack([sine(440, 0.2, RATE, peak=2.0)[:, 0], sine(660, 0.2, RATE, peak=0.5)[:, 0]], axis=1)
    heard = Recording(sides, RATE, "WAV", len(sides)).mono_or_stereo(RATE)
    np.testing.assert_allclose(heard, sides / np.abs(sides).max(), atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3, 8])
def test_a_recording_that_is_not_stereo_is_mixed(channels: int) -> None:
    recording = Recording(sine(440, 0.2, 44_100, channels), 44_100, "WAV", 8820)
    np.testing.assert_array_equal(recording.mono_or_stereo(RATE), recording.mono(RATE))


@pytest.mark.parametrize(("suffix", "kind", "subtype"), FORMATS)
def test_a_file_cut_in_half_is_never_taken_for_a_whole_one(
    write_sound: Write, suffix: str, kind: str, subtype: str
) -> None:
    if subtype not in soundfile.available_subtypes(kind):
        pytest.skip(f"this libsndfile cannot write {subtype}")
    path = write_sound(f"a.{suffix}", sine(440, 1.0, RATE), format=kind, subtype=subtype)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    try:
        recording = read_recording(path)
    except AudioError as error:
        assert "not readable as audio" in str(error)  # noqa: PT017
    else:
        assert recording.truncated


def test_a_truncated_wav_still_gives_the_sound_that_is_there(write_sound: Write) -> None:
    path = write_sound("a.wav", sine(440, 1.0, RATE))
    path.write_bytes(path.read_bytes()[: 44 + RATE])
    assert len(read_recording(path).samples) == pytest.approx(RATE / 2, abs=50)


@pytest.mark.parametrize("suffix", ["wav", "flac", "aiff", "ogg", "mp3"])
def test_text_under_the_name_of_a_sound_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"notes.{suffix}"
    path.write_text("buy milk, record rain\n" * 50)
    with pytest.raises(AudioError, match="not readable as audio") as caught:
        read_recording(path)
    assert str(path) in str(caught.value)
    assert "not exist" not in str(caught.value)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    with pytest.raises(AudioError, match=r"empty\.wav: the file is empty"):
        read_recording(tmp_path / "empty.wav")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"gone\.wav: no such file"):
        read_recording(tmp_path / "gone.wav")


def test_a_folder_with_the_name_of_a_sound_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.wav").mkdir()
    with pytest.raises(AudioError, match=r"folder\.wav"):
        read_recording(tmp_path / "folder.wav")


def test_a_wav_with_an_empty_data_chunk_is_refused(write_sound: Write) -> None:
    path = write_sound("a.wav", np.zeros(0, np.float32))
    with pytest.raises(AudioError, match="no audio frames"):
        read_recording(path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_single_sample_that_is_no_number_is_refused(write_sound: Write, bad: float) -> None:
    sound = sine(440, 0.1, RATE)
    sound[1234] = bad
    with pytest.raises(AudioError, match="not numbers"):
        read_recording(write_sound("a.wav", sound, subtype="FLOAT"))


def _claim_in_wav(path: Path) -> bytes:
    return wav_bytes(path, 0xFFFF_FF00)


def _claim_in_flac(path: Path) -> bytes:
    whole = bytearray(path.read_bytes())
    whole[21] |= 0x0F  # the top four of the 36 bits of STREAMINFO's total samples
    return bytes(whole)


def _claim_in_mp3(path: Path) -> bytes:
    whole = bytearray(path.read_bytes())
    at = whole.find(b"Xing") + 8
    assert at > 8, "the encoder wrote no Xing header"
    whole[at : at + 4] = struct.pack(">I", 100_000_000)
    return bytes(whole)


@pytest.mark.parametrize(
    ("suffix", "claim"), [("wav", _claim_in_wav), ("flac", _claim_in_flac), ("mp3", _claim_in_mp3)]
)
def test_a_header_that_claims_billions_of_frames_costs_no_memory(
    write_sound: Write, suffix: str, claim: Callable[[Path], bytes]
) -> None:
    path = write_sound(f"a.{suffix}", sine(440, 0.5, RATE))
    path.write_bytes(claim(path))
    tracemalloc.start()
    try:
        frames = len(read_recording(path).samples)
    except AudioError as error:
        assert "claims to last" in str(error)  # noqa: PT017
    else:
        assert frames == pytest.approx(RATE / 2, abs=3000)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 20e6


@pytest.fixture(scope="module")
def reader() -> Iterator[AudioReader]:
    with AudioReader() as reader:
        yield reader


@given(st.binary(min_size=1, max_size=300), st.sampled_from(["", "RIFF", "fLaC", "OggS", "FORM", "ID3"]))
def test_noise_bytes_never_raise_anything_but_our_own_error(
    reader: AudioReader, tmp_path_factory: pytest.TempPathFactory, noise: bytes, magic: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "noise.wav"
    path.write_bytes(magic.encode() + noise)
    try:
        assert len(reader.read(path).samples) > 0
    except AudioError as error:
        assert str(path) in str(error)  # noqa: PT017


# m4a, through PyAV


def test_without_pyav_an_m4a_names_the_extra_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "av.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    path = tmp_path / "voice.m4a"
    path.write_bytes(b"anything")
    with pytest.raises(AudioError, match=r"pip install 'distill-audio\[m4a\]'"):
        read_recording(path)


@pytest.mark.parametrize(("rate", "channels"), [(44_100, 2), (48_000, 1)])
def test_an_m4a_becomes_mono_48_khz(tmp_path: Path, rate: int, channels: int) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / "a.m4a"
    layout = {1: "mono", 2: "stereo"}[channels]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=rate, layout=layout)
        planes = np.ascontiguousarray(sine(440, 1.0, rate, channels).T)
        frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout=layout)
        frame.sample_rate = rate
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))

    assert read_recording(path).samples.shape[1] == channels
    samples = read_waveform(path, RATE)
    assert len(samples) == pytest.approx(RATE, abs=0.06 * RATE)
    assert loudest_frequency(samples) == pytest.approx(440, abs=2)


def test_a_broken_m4a_is_refused_with_a_reason(tmp_path: Path) -> None:
    pytest.importorskip("av")
    path = tmp_path / "broken.m4a"
    path.write_bytes(b"not a container" * 20)
    with pytest.raises(AudioError, match="not readable as audio"):
        read_recording(path)


def test_a_film_without_sound_is_refused_in_words(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=24)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))))
        container.mux(stream.encode(None))
    with pytest.raises(AudioError, match="audio") as caught:
        read_recording(path)
    assert "index out of range" not in str(caught.value)


def test_the_known_suffixes_are_the_promised_ones() -> None:
    promised = {".wav", ".flac", ".aif", ".aiff", ".ogg", ".opus", ".mp3", ".m4a"}
    assert promised <= AUDIO_SUFFIXES


# Writing


def test_a_written_wav_reads_back(tmp_path: Path) -> None:
    sound = sine(440, 0.1, RATE)[:, 0]
    path = write_wav(tmp_path / "new" / "a.wav", sound, RATE)
    np.testing.assert_allclose(read_waveform(path, RATE), sound, atol=2**-22)
    assert soundfile.info(path).subtype == "PCM_24"


def test_what_exceeds_full_scale_is_clipped_not_wrapped_round(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", np.array([0.0, 1.5, -1.5, 0.5], np.float32), RATE)
    np.testing.assert_allclose(soundfile.read(path)[0], [0, 1, -1, 0.5], atol=2**-22)


def test_a_write_that_fails_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", sine(440, 0.1, RATE)[:, 0], RATE)
    before = path.read_bytes()
    with pytest.raises(soundfile.LibsndfileError):
        write_wav(path, np.zeros((10, 2000), np.float32), RATE)  # more channels than a WAV can have
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"could not write .*a\.wav"):
        write_wav(tmp_path / "file" / "a.wav", np.zeros(10, np.float32), RATE)
