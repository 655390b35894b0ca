"""Many sound files read on several cores, and the outcomes in order."""

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
from distill.errors import AudioError

_READERS = 4  # at most: each is a process, and a recording in memory
_LARGE_BYTES = 64 << 20  # of samples, three minutes in stereo: of such recordings no two are in memory at once
_USUAL_GROWTH = {".wav": 2, ".aif": 2, ".aiff": 2, ".aifc": 2, ".flac": 4}  # from a file's bytes to its samples'
_LOSSY_GROWTH = 24  # of an mp3 of 128 kbit/s

T = TypeVar("T")


def read_each(
    paths: Sequence[Path],
    take: Callable[[Path, Recording], T],
    limits: AudioLimits | None = None,
    cancel_event: threading.Event | None = None,
) -> Generator[tuple[Path, T | AudioError]]:
    """Yield what `take` makes of the recording of each file, or why there is none: `ask_each` for whole files."""
    return ask_each(paths, lambda reader, path: take(path, reader.read(path)), limits, cancel_event)


def ask_each(
    paths: Sequence[Path],
    ask: Callable[[AudioReader, Path], T],
    limits: AudioLimits | None = None,
    cancel_event: threading.Event | None = None,
) -> Generator[tuple[Path, T | AudioError]]:
    """Yield what `ask` gets from a reader for each file, or the reader's refusal, in the order of the paths.

    `ask` is called in threads, several at once. Raises `Cancelled` soon after `cancel_event` is set, and what `ask`
    raises. Close the iterator where it is not read to its end, so that nothing of the processes is left.
    """
    count = min(_READERS, os.cpu_count() or 1, len(paths))
    stopped, large, mine = AnyEvent(cancel_event), threading.Lock(), threading.local()

    def begin() -> None:
        mine.reader = readers.enter_context(AudioReader(limits, stopped))

    def read(path: Path) -> T | AudioError:
        try:
            with large if expected_bytes(path) > _LARGE_BYTES else nullcontext():
                return ask(mine.reader, path)
        except AudioError as error:
            return error.with_reason(error.reason)  # without its traceback, in which the samples are

    with ExitStack() as readers, ThreadPoolExecutor(max(1, count), "distill-read", begin) as pool:
        under_way: deque[tuple[Path, Future[T | AudioError]]] = deque()
        try:
            for path in paths:
                under_way.append((path, pool.submit(read, path)))
                if len(under_way) > count:
                    yield _first(under_way)
            while under_way:
                yield _first(under_way)
        finally:
            stopped.set()  # who stops listening does not wait for the files under way


def _first(under_way: deque[tuple[Path, Future[T | AudioError]]]) -> tuple[Path, T | AudioError]:
    path, future = under_way.popleft()
    return path, future.result()


def expected_bytes(path: Path) -> int:
    """The number of bytes of samples to be expected of a file, by its size; there can be more, or fewer."""
    try:
        return path.stat().st_size * _USUAL_GROWTH.get(path.suffix.lower(), _LOSSY_GROWTH)
    except (OSError, ValueError):  # the reader says what is wrong with it
        return 0


class AnyEvent(threading.Event):
    """Set by itself, or by the caller's event; only to be asked, not to be waited for."""

    def __init__(self, cancel_event: threading.Event | None) -> None:
        super().__init__()
        self._cancel_event = cancel_event

    def is_set(self) -> bool:
        """True if one of the two is."""
        return super().is_set() or (self._cancel_event is not None and self._cancel_event.is_set())
