"""Reading many sound files on several cores, with the outcomes in order."""

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TypeVar

from distill.audio.limits import AudioLimits
from distill.audio.reader import AudioReader
from distill.audio.recording import Recording
from distill.audio.suffixes import LOSSY_SUFFIXES
from distill.errors import AudioError

_READERS = 4  # at most: each has a worker process, and a recording in memory
_READER_BYTES = 16 << 20  # of samples for each reader but the first: for fewer, starting its process hardly pays
_LARGE_BYTES = 64 << 20  # of samples, three minutes in stereo: larger recordings are read one at a time
# From a file's bytes to its samples'; the last number is that of an mp3 of 128 kbit/s.
_USUAL_GROWTH, _FLAC_GROWTH, _LOSSY_GROWTH = 2, 4, 24
_GROWTH = {".flac": _FLAC_GROWTH} | dict.fromkeys(LOSSY_SUFFIXES, _LOSSY_GROWTH)

T = TypeVar("T")


def read_each(
    paths: Sequence[Path],
    take: Callable[[Path, Recording], T],
    limits: AudioLimits | None = None,
    cancel_event: threading.Event | None = None,
) -> Generator[tuple[Path, T | AudioError]]:
    """Yield the result of `take` for the recording of each file, or the reader's refusal: `ask_each` for whole files.

    `take` is called in threads, several at once.
    """
    return ask_each(paths, lambda reader, path: take(path, reader.read(path)), limits, cancel_event)


def ask_each(
    paths: Sequence[Path],
    ask: Callable[[AudioReader, Path], T],
    limits: AudioLimits | None = None,
    cancel_event: threading.Event | None = None,
) -> Generator[tuple[Path, T | AudioError]]:
    """Yield the result of `ask` with a reader for each file, or the reader's refusal, in the order of the paths.

    `ask` is called in threads, several at once. Raises `Cancelled` soon after `cancel_event` is set, and what `ask`
    raises. An iterator that is not exhausted has to be closed, so that its worker processes end.
    """
    count = _useful_readers(paths)
    stopped, large, mine = AnyEvent(cancel_event), threading.Lock(), threading.local()

    def begin() -> None:
        # A reader per thread, each with its own worker process; closed by `readers` after the pool.
        mine.reader = readers.enter_context(AudioReader(limits, stopped))

    def read(path: Path) -> T | AudioError:
        try:
            with large if expected_bytes(path) > _LARGE_BYTES else nullcontext():
                return ask(mine.reader, path)
        except AudioError as error:
            return error.with_reason(error.reason)  # without its traceback, whose frames would keep the samples alive

    with ExitStack() as readers, ThreadPoolExecutor(count, "distill-read", begin) as pool:
        under_way: deque[tuple[Path, Future[T | AudioError]]] = deque()
        try:
            for path in paths:
                under_way.append((path, pool.submit(read, path)))
                # No more are submitted than can be read at once: finished recordings would pile up in memory.
                if len(under_way) > count:
                    yield _first(under_way)
            while under_way:
                yield _first(under_way)
        finally:
            stopped.set()  # closing the iterator does not wait for the files that are being read


def _useful_readers(paths: Sequence[Path]) -> int:
    """One reader, and another for every `_READER_BYTES` to decode, as long as there are files and cores for it."""
    most = min(_READERS, os.cpu_count() or 1, len(paths))
    to_decode = 0
    for path in paths:
        if to_decode >= most * _READER_BYTES:  # thousands of files need not all be looked at
            break
        to_decode += expected_bytes(path)
    return max(1, min(most, 1 + to_decode // _READER_BYTES))


def _first(under_way: deque[tuple[Path, Future[T | AudioError]]]) -> tuple[Path, T | AudioError]:
    path, future = under_way.popleft()
    return path, future.result()


def expected_bytes(path: Path) -> int:
    """The number of bytes of samples to expect of a file, by its size and format; there can be more, or fewer."""
    try:
        return path.stat().st_size * _GROWTH.get(path.suffix.lower(), _USUAL_GROWTH)
    except (OSError, ValueError):  # the reader will report what is wrong with it
        return 0


class AnyEvent(threading.Event):
    """An event that is also set when the caller's is; it can be checked, but not waited for."""

    def __init__(self, cancel_event: threading.Event | None) -> None:
        super().__init__()
        self._cancel_event = cancel_event

    def is_set(self) -> bool:
        """True if one of the two events is set."""
        return super().is_set() or (self._cancel_event is not None and self._cancel_event.is_set())
