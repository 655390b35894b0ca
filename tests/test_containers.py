"""Sound behind a header that gives no length, or too little, is read to its end; what follows the sound is not."""

import io
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from distill.audio.containers import Spliced, contents
from distill.audio.reader import AudioReader
from distill.errors import AudioError
from support.sounds import RATE, tone

SOUND = tone(440, 0.5)
SIZE = 2 * len(SOUND)

# Of the field with the number of bytes of samples: the name before it, how far behind that it is, its form, and the
# bytes that it counts beside the samples.
FIELDS = {
    "WAV": (b"data", 4, "<I", 0),
    "AIFF": (b"SSND", 4, ">I", 8),
    "AU": (b".snd", 8, ">I", 0),
    "CAF": (b"data", 4, ">Q", 4),
    "W64": (b"data\xf3", 16, "<Q", 24),
    "RF64": (b"ds64", 16, "<Q", 0),
}


@pytest.fixture(scope="module")
def reader() -> Iterator[AudioReader]:
    with AudioReader() as reader:
        yield reader


def content(kind: str, subtype: str = "PCM_16") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, SOUND, RATE, format=kind, subtype=subtype)
    return buffer.getvalue()


EXACT = soundfile.read(io.BytesIO(content("WAV")), dtype="float32")[0]


def saying(kind: str, size: int) -> bytes:
    """A file of this kind whose header says that there are `size` bytes of samples."""
    name, distance, form, beside = FIELDS[kind]
    data = bytearray(content(kind))
    struct.pack_into(form, data, data.index(name) + distance, (size + beside) % (1 << 8 * struct.calcsize(form)))
    return bytes(data)


def chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body


def wav(*chunks: bytes, magic: bytes = b"RIFF") -> bytes:
    fmt = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16))
    return magic + struct.pack("<I", 4 + sum(map(len, (fmt, *chunks)))) + b"WAVE" + b"".join((fmt, *chunks))


PCM = content("WAV")[44:]


@pytest.fixture
def read(reader: AudioReader, tmp_path: Path) -> Callable:
    def read_bytes(data: bytes):
        path = tmp_path / "a.wav"  # whatever is in it
        path.write_bytes(data)
        recording = reader.read(path)
        assert reader.header(path).frames == len(recording.samples)
        return recording

    return read_bytes


@pytest.mark.parametrize("kind", FIELDS)
@pytest.mark.parametrize("size", [0, 1000, SIZE // 4])
def test_all_that_is_there_is_read_where_the_header_gives_too_little(kind: str, size: int, read: Callable) -> None:
    recording = read(saying(kind, size))
    np.testing.assert_array_equal(recording.samples[:, 0], EXACT)
    assert recording.unfinished
    assert not recording.truncated


@pytest.mark.parametrize("kind", FIELDS)
def test_a_whole_file_is_not_called_unfinished(kind: str, read: Callable) -> None:
    recording = read(content(kind))
    np.testing.assert_array_equal(recording.samples[:, 0], EXACT)
    assert not recording.unfinished


@pytest.mark.parametrize("kind", [kind for kind in FIELDS if kind != "AIFF"])
def test_a_length_that_stands_for_unknown_is_no_fault(kind: str, read: Callable) -> None:
    recording = read(saying(kind, -1 - FIELDS[kind][3]))
    np.testing.assert_array_equal(recording.samples[:, 0], EXACT)
    assert not recording.unfinished
    assert not recording.truncated


@pytest.mark.parametrize("kind", FIELDS)
def test_a_file_that_is_cut_off_is_read_to_its_end(kind: str, read: Callable) -> None:
    recording = read(content(kind)[: -SIZE // 2])
    np.testing.assert_array_equal(recording.samples[:, 0], EXACT[: len(EXACT) // 2])
    assert not recording.unfinished
    assert recording.declared_frames == len(EXACT)


@pytest.mark.parametrize(
    "behind",
    [
        chunk(b"LIST", b"INFO" + bytes(5000)),
        chunk(b"xtra", b"\xff" * 5000),
        b"LIST\xff\xff\x00\x00" + b"\xff" * 5000,  # cut off
        b"TAG" + b"\xff" * 5000,
        b"APETAGEX" + b"\xff" * 5000,
        bytes(5000),
        b"\xff" * 4000,
    ],
    ids=["a list", "any chunk", "a list that is cut off", "ID3", "APE", "zeros", "little"],
)
def test_what_follows_the_samples_is_not_taken_for_sound(behind: bytes, read: Callable) -> None:
    recording = read(wav(chunk(b"data", PCM)) + behind)
    np.testing.assert_array_equal(recording.samples[:, 0], EXACT)
    assert not recording.unfinished


def test_a_chunk_behind_the_samples_of_a_w64_is_no_sound(read: Callable) -> None:
    tail = bytes.fromhex("f3acd3118cd100c04f8edb8a")
    data = content("W64")
    assert len(read(data + b"list" + tail + struct.pack("<Q", 24 + 8000) + bytes(range(250)) * 32).samples) == len(
        SOUND
    )


def test_eight_bit_sound_that_looks_like_text_is_sound(read: Callable) -> None:
    letters = (80 + 20 * np.sin(np.arange(20_000) / 50)).astype(np.uint8).tobytes()
    fmt = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, RATE, RATE, 1, 8))
    recording = read(b"RIFF\0\0\0\0WAVE" + fmt + chunk(b"data", b"") + letters)
    assert len(recording.samples) == len(letters)


def test_a_recording_without_any_sound_in_it_is_refused_as_ever(read: Callable) -> None:
    with pytest.raises(AudioError, match="no audio frames"):
        read(wav(chunk(b"data", b""), chunk(b"LIST", b"INFO" + bytes(5000))))


@pytest.mark.parametrize("magic", [b"RIFF", b"BW64"])
def test_samples_in_several_chunks_are_one_sound(magic: bytes, read: Callable) -> None:
    third = len(PCM) // 3 & ~1
    parts = [chunk(b"data", PCM[start : start + third]) for start in range(0, 3 * third, third)]
    recording = read(wav(parts[0], chunk(b"LIST", b"INFOabcd"), *parts[1:], magic=magic))
    np.testing.assert_array_equal(recording.samples[:, 0], EXACT[: 3 * third // 2])
    assert not recording.unfinished
    assert not recording.truncated


def test_bw64_is_read(read: Callable) -> None:
    ds64 = chunk(b"ds64", struct.pack("<QQQI", 0, len(PCM), len(SOUND), 0))
    fmt = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16))
    recording = read(b"BW64\xff\xff\xff\xffWAVE" + ds64 + fmt + b"data\xff\xff\xff\xff" + PCM)
    np.testing.assert_array_equal(recording.samples[:, 0], EXACT)


@pytest.mark.slow
def test_a_length_that_began_again_at_4_gib_is_found_where_a_chunk_follows(tmp_path: Path) -> None:
    size, path = (1 << 32) + 20_000, tmp_path / "long.wav"
    with path.open("wb") as file:  # most of it a hole, which takes no space
        file.write(wav(chunk(b"data", b""))[:-4] + struct.pack("<I", 20_000) + b"\x01\x02" * 5000)
        file.seek(44 + size)
        file.write(chunk(b"LIST", b"INFO" + b"\xff" * 5000))
    with path.open("rb") as file:
        found = contents(file)
        assert found is not None
        assert found.samples.spans == ((44, 44 + size),)
        assert found.samples.unfinished
        content = Spliced(file, found.parts)
        head = content.read(80)
        assert head.startswith(b"RF64")
        assert struct.unpack_from("<Q", head, 28) == (size,)
        assert content.seek(0, os.SEEK_END) == 80 + size


def test_a_file_of_nothing_but_chunks_ends(read: Callable) -> None:
    with pytest.raises(AudioError):
        read(wav(*[chunk(b"junk", b"")] * 100_000))
