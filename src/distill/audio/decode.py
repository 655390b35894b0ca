"""Decoding of sound files to blocks of samples; runs in the worker process only, where a decoder may crash."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, BinaryIO

import numpy as np
import soundfile

from distill.audio.containers import Contents, Spliced, contents
from distill.audio.limit_checks import LimitChecks
from distill.audio.protocol import BLOCK_BYTES
from distill.audio.recognition import HEAD_BYTES, needs_pyav
from distill.errors import AudioError

Block = np.ndarray[tuple[int, int], np.dtype[np.float32]]

NO_FRAMES = "the file holds no audio frames"

_UNKNOWN = 1 << 62  # frames; libsndfile reports its largest number where the header gives no length
_MAX_SAMPLE = 2.0**32  # 32-bit integers written as floats go up to here; samples beyond it are not sound


@dataclass(frozen=True)
class Source:
    """An open sound file: the facts in its header, and the blocks `[frames, channels]` that are still to be decoded."""

    sample_rate: int
    channels: int
    format: str
    claimed_frames: int | None  # None if the header does not say
    blocks: Iterator[Block]
    declared: Callable[[int], int]  # the number of frames decoded in total → the number that the header promised
    has_more: Callable[[int], bool] = lambda _: False  # True if the file holds more than these frames
    unfinished: bool = False  # the header gives no length, or too little, and the rest is read all the same


@contextmanager
def opened(path: str, limits: LimitChecks) -> Iterator[Source]:
    """Open the file at `path`, its header within `limits`; raises `AudioError` with the reason, in the body too."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - a bare name, not a Path
            open_source = (
                _opened_pyav if needs_pyav(file.read(HEAD_BYTES), PurePath(path).suffix) else _opened_libsndfile
            )
            file.seek(0)
            with open_source(file) as source:
                limits.check_format(source.sample_rate, source.channels)
                limits.check_claim(source.claimed_frames or 0, source.sample_rate, source.channels)
                yield source
    except OSError as error:
        raise AudioError(error.strerror or str(error)) from error


def checked_blocks(source: Source, limits: LimitChecks) -> Iterator[Block]:
    """Yield the blocks of `source`; raises `AudioError` as soon as they exceed `limits` or are not sound."""
    frames = 0
    for block in source.blocks:
        frames += len(block)
        limits.check_decoded(frames, source.sample_rate, source.channels)  # again: the header may be wrong
        if block.shape[1] != source.channels:
            raise AudioError("not readable as audio (the number of channels changes partway through)")
        peak = float(np.abs(block).max(initial=0.0))  # NaN, if any sample is
        if not np.isfinite(peak):
            raise AudioError("the file holds samples that are not numbers (NaN or infinity)")
        if peak > _MAX_SAMPLE:
            raise AudioError(f"the file holds a sample of {peak:.3g}, where full scale is 1; it is not sound")
        yield block
    if frames == 0:
        raise AudioError(NO_FRAMES)
    if source.has_more(frames):
        raise AudioError("the file goes on beyond the length given in its header", "decode it and save it again")


class _UnseekableFile(soundfile.SoundFile):  # type: ignore[misc]
    """A file without seeking: soundfile seeks after every read, which fails at the end of a FLAC of unknown length."""

    def seekable(self) -> bool:
        return False


@contextmanager
def _opened_libsndfile(handle: BinaryIO) -> Iterator[Source]:
    try:
        found = contents(handle)
        target = Spliced(handle, found.parts) if found and found.parts else _target(handle)
        with _UnseekableFile(target, closefd=False) as file:  # `handle` has an owner who closes it
            claimed = None if file.frames >= _UNKNOWN else file.frames
            yield Source(
                file.samplerate, file.channels, file.format, claimed, _blocks(file),
                declared=lambda decoded: _declared(file, found, decoded),
                has_more=lambda decoded: isinstance(file.name, int) and decoded == claimed and _mostly_unread(handle),
                unfinished=found is not None and found.samples.unfinished,
            )  # fmt: skip
    except (soundfile.SoundFileError, RuntimeError, ValueError) as error:
        raise AudioError(f"not readable as audio ({_reason(error)})") from error


def _target(handle: BinaryIO) -> int | bytes | str:
    """The name to open a file by, or its descriptor in case of a FLAC.

    By its name, libsndfile also recognises an MP3 that begins with junk. A descriptor shows how far it has read.
    """
    if os.name != "posix":  # elsewhere libsndfile has descriptors of its own
        return handle.name
    handle.seek(0)
    magic = handle.read(4)
    os.lseek(handle.fileno(), 0, os.SEEK_SET)
    return handle.fileno() if magic == b"fLaC" else os.fsencode(handle.name)


def _blocks(file: soundfile.SoundFile) -> Iterator[Block]:
    frames = max(1, BLOCK_BYTES // 4 // file.channels)
    while len(block := file.read(frames, dtype="float32", always_2d=True)):
        yield block


def _declared(file: soundfile.SoundFile, found: Contents | None, decoded: int) -> int:
    """The number of frames that the header promises; libsndfile reduces it to what is there where it knows better."""
    if found is not None:
        return round(decoded * found.samples.counted / max(1, found.samples.size))
    return decoded if file.frames >= _UNKNOWN else int(file.frames)


def _mostly_unread(handle: BinaryIO) -> bool:
    """True if libsndfile has left more of the file unread than tags could be."""
    size = os.fstat(handle.fileno()).st_size
    left = size - os.lseek(handle.fileno(), 0, os.SEEK_CUR)
    return left > max(1 << 16, size // 2)


def _reason(error: Exception) -> str:
    text = str(getattr(error, "error_string", None) or error).rstrip(".").removeprefix("Error : ")
    return "unknown sound format" if "not a regular file" in text else text


@contextmanager
def _opened_pyav(file: BinaryIO) -> Iterator[Source]:
    try:
        import av
    except ImportError:
        raise AudioError(
            "M4A and AAC files need an extra package", "install it: pip install 'distill-audio[m4a]'"
        ) from None
    try:
        # Given as a file object, because FFmpeg takes some names for URLs or lists of files.
        with av.open(file, "r", metadata_errors="ignore") as container:
            if not container.streams.audio:
                raise AudioError("it contains no audio")
            stream = container.streams.audio[0]
            seconds = stream.duration * stream.time_base if stream.duration and stream.time_base else None
            claimed = None if seconds is None else round(seconds * stream.rate)
            blocks = _pyav_blocks(container.decode(stream))
            yield Source(int(stream.rate), stream.channels, "M4A", claimed, blocks, lambda decoded: decoded)
    except (av.FFmpegError, ValueError) as error:
        raise AudioError(f"not readable as audio ({getattr(error, 'strerror', None) or error})") from error


def _pyav_blocks(frames: Iterator[Any]) -> Iterator[Block]:
    import av

    to_float = av.AudioResampler(format="fltp")
    for frame in frames:
        for planes in to_float.resample(frame):
            yield planes.to_ndarray().T.astype(np.float32)
