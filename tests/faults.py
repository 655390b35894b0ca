"""System calls that fail, fall short or kill, at a chosen one: what a disk, a file system or a power cut can do."""

import errno
import os
import signal
from collections.abc import Callable
from typing import Any

# What `distill.storage` does to files goes through these.
CALLS = ("open", "write", "read", "lseek", "fsync", "fstat", "ftruncate", "close", "replace", "unlink")


class FaultyOS:
    """`os` for `distill.storage`, in which the system call number `at` (from 0) of `calls` meets `fault`."""

    def __init__(self, at: int, fault: Callable[["FaultyOS", str, tuple[Any, ...]], Any], calls=CALLS) -> None:
        self.at, self.fault, self.calls, self.count, self.struck = at, fault, calls, 0, ""

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in self.calls:
            return real

        def call(*arguments: Any, **options: Any) -> Any:
            self.count += 1
            if self.count == self.at + 1:
                self.struck = name
                return self.fault(self, name, arguments)
            return real(*arguments, **options)

        return call


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
