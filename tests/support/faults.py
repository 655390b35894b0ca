"""System calls that fail, fall short or kill, at a chosen one: what a disk, a file system or a power cut can do."""

import errno
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

# What `distill.storage` does to files goes through these.
CALLS = ("open", "write", "read", "lseek", "fsync", "fstat", "ftruncate", "close", "replace", "unlink")
# What the rest of distill does to them, by way of `pathlib`.
PATH_CALLS = ("replace", "unlink", "rename", "mkdir")


class FaultyOS:
    """`os` for `distill.storage`, in which the system call number `at` (from 0) of `calls` meets `fault`."""

    def __init__(self, at: int, fault: Callable[["FaultyOS", str, tuple[Any, ...]], Any], calls=CALLS) -> None:
        self.at, self.fault, self.count, self.struck = at, fault, 0, ""
        self.calls = {name: getattr(os, name) for name in calls}

    def __getattr__(self, name: str) -> Any:
        if name not in self.calls:
            return getattr(os, name)

        def call(*arguments: Any, **options: Any) -> Any:
            self.count += 1
            if self.count == self.at + 1:
                self.struck = name
                return self.fault(self, name, arguments)
            return self.calls[name](*arguments, **options)

        return call


@contextmanager
def striking(at: int, fault: Callable[[FaultyOS, str, tuple[Any, ...]], Any]) -> Iterator[FaultyOS]:
    """The call number `at` that distill makes to change files, from anywhere, meets `fault`."""
    faulty = FaultyOS(at, fault, (*CALLS, "rename", "mkdir"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distill.storage.os", faulty)
        for name in PATH_CALLS:
            patch.setattr(os, name, getattr(faulty, name))
        yield faulty


def failing(at: int, number: int) -> AbstractContextManager[FaultyOS]:
    """The call number `at` that distill makes to change files, from anywhere, raises the error `number`."""
    return striking(at, fail(number))


def fail(number: int) -> Callable[..., Any]:
    """The call raises the error `number`."""

    def strike(faulty: FaultyOS, name: str, arguments: tuple[Any, ...]) -> Any:
        if name == "close":  # Linux closes the file all the same
            os.close(*arguments)
        raise OSError(number, os.strerror(number))

    return strike


def fall_short(faulty: FaultyOS, name: str, arguments: tuple[Any, ...]) -> Any:
    """A write does half of what it should, and says so; other calls raise EIO."""
    if name == "write":
        handle, data = arguments
        return os.write(handle, data[: max(1, len(data) // 2)])
    return fail(errno.EIO)(faulty, name, arguments)


def kill(faulty: FaultyOS, name: str, arguments: tuple[Any, ...]) -> Any:
    """The process is killed in the call, a write half done."""
    if name == "write":
        handle, data = arguments
        os.write(handle, data[: len(data) // 2])
    os.kill(os.getpid(), signal.SIGKILL)


class Disk:
    """`os` for `distill.storage`: a disk that is full after `room` bytes, or read-only after `files` were opened.

    It knows what was put on it: `placed` has the content of every file that was complete, `written` how much it was.
    """

    def __init__(self, room: float = float("inf"), files: float = float("inf")) -> None:
        self.room, self.files, self.written, self.placed = room, files, 0, dict[Path, bytes]()

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def open(self, path: Any, flags: int, *mode: int) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR):
            if self.files <= 0:
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))
            self.files -= 1
        return os.open(path, flags, *mode)

    def write(self, handle: int, data: memoryview) -> int:
        fits = int(min(len(data), self.room - self.written))
        if not fits:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.written += fits
        return os.write(handle, data[:fits])

    def replace(self, source: Path, target: Path) -> None:
        os.replace(source, target)  # noqa: PTH105  `Path.replace` may be what fails in a test
        self.placed[target] = target.read_bytes()
