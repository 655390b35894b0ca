"""The standard streams, which may be closed, full, or know fewer letters than what is to be said."""

import io
import os
import re
import sys
from typing import TextIO

from distill.paths import printable


def open_streams() -> bool:
    """Make all three streams fit to be used; returns whether there was a standard output."""
    had_output = sys.stdout is not None
    # In this order each takes the number that is free, which else the next model file would get.
    sys.stdin = sys.stdin or _nowhere("r")
    sys.stdout = sys.stdout or _nowhere("w")
    sys.stderr = sys.stderr or _nowhere("w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # file names need not be UTF-8, nor need the terminal
            stream.reconfigure(errors="backslashreplace")
    return had_output


def _nowhere(mode: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(open(os.devnull, mode + "b"), encoding="utf-8")  # noqa: PTH123


def say(message: str) -> None:
    """Print `message` on standard error as one line."""
    try:
        print(one_line(message), file=sys.stderr, flush=True)  # noqa: T201
    except OSError:  # nobody is there to read it
        _drop(sys.stderr)


def flush_output() -> None:
    """Write what is still to be written; raises `OSError`, and then Python's own try at exit will not."""
    try:
        sys.stdout.flush()
    except OSError:
        _drop(sys.stdout)
        raise


def _drop(stream: TextIO) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def one_line(text: str) -> str:
    """`text` without line breaks and control characters, and with no word longer than a file name can be."""
    line = printable(" ".join(text.split()))
    return re.sub(r"[^ /]{300,}", lambda word: f"{word[0][:60]}…{word[0][-20:]}", line)
