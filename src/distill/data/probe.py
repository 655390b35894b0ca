"""Probing a long collection: its headers are read instead of decoding it, and copies identified by their bytes."""

import filecmp
import hashlib
import math
import os
import threading
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

from distill.audio.limits import AudioLimits
from distill.audio.reader import AudioReader
from distill.data.collection import SHORT_S, Collection, Progress, SoundFile, collected
from distill.data.reading import ask_each, expected_bytes
from distill.errors import AudioError
from distill.paths import printable

_LONG_BYTES = 2 << 30  # of samples: more takes so long to decode that training should not wait for it
_LONG_S = 3600.0  # with less sound the wait is worth it, for then its mels can be kept
_SPOTS = 3  # of a file that its digest covers: both ends and the middle
_SPOT_BYTES = 16 << 10


def probe_headers(
    paths: Sequence[Path],
    progress: Progress | None = None,
    limits: AudioLimits | None = None,
    cancel_event: threading.Event | None = None,
) -> Collection | None:
    """Read the header of every file if the collection is long, else return None.

    `progress(done, total)` is called after each file. Silent, clipped and truncated files, and damage behind a header,
    go unnoticed; copies are identified by their bytes. None as well where the usable files alone are not long, so that
    a call with just those gives the same answer. Raises `Cancelled` soon after `cancel_event` is set.
    """
    if not _large(paths):
        return None
    with closing(ask_each(paths, _describe, limits, cancel_event)) as outcomes:
        found = collected(outcomes, len(paths), progress, _same_bytes)
    long = sum(file.duration_s for file in found.usable) > _LONG_S
    # Judged again by the usable files, which are all that the request for a run names.
    return found if long and _large([file.path for file in found.usable]) else None


def _large(paths: Sequence[Path]) -> bool:
    return sum(map(expected_bytes, paths)) > _LONG_BYTES


def _same_bytes(one: Path, other: Path) -> bool:
    with suppress(OSError):  # gone since then, which is reported when it is to be decoded
        return filecmp.cmp(one, other, shallow=False)
    return False


def _describe(reader: AudioReader, path: Path) -> SoundFile:
    header = reader.header(path)
    duration = header.frames / header.sample_rate
    return SoundFile(
        path=path,
        digest=file_digest(path),
        format=header.format,
        sample_rate=header.sample_rate,
        channels=header.channels,
        duration_s=duration,
        peak=math.nan,
        clipped=False,
        short=duration < SHORT_S,
        truncated=False,
    )


def file_digest(path: Path) -> str:
    """SHA-256 of a file's size and of its bytes at a few spots: the same for copies, seldom for other files.

    Raises `AudioError` where it cannot be read.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            digest = hashlib.sha256(f"{size}".encode())
            for spot in range(_SPOTS):
                file.seek(max(0, size - _SPOT_BYTES) * spot // (_SPOTS - 1))
                digest.update(file.read(_SPOT_BYTES))
            return digest.hexdigest()
    except OSError as error:
        raise AudioError(printable(f"{path}: {error.strerror}")) from error
