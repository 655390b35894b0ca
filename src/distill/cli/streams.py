"""The standard streams, which may be closed, full, or unable to show every character."""

import codecs
import io
import os
import re
import sys
from typing import TextIO

from distill.paths import printable

_SPELLED = {"→": "->", "…": "...", "█": "#", "░": "."}  # what distill prints, where the encoding has no such character


def open_streams() -> bool:
    """Make all three streams usable; returns True if there was a standard output."""
    had_output = sys.stdout is not None
    # In this order, each takes its own free descriptor, which otherwise the next file that is opened would get.
    sys.stdin = sys.stdin or _null_device("r")
    sys.stdout = sys.stdout or _null_device("w")
    sys.stderr = sys.stderr or _null_device("w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # neither file names nor the terminal need be UTF-8
            stream.reconfigure(errors="spelled")
    return had_output


def _spelled(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lost = error.object[error.start : error.end]
    return "".join(_SPELLED.get(char) or char.encode("ascii", "backslashreplace").decode() for char in lost), error.end


codecs.register_error("spelled", _spelled)


def _null_device(mode: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(open(os.devnull, mode + "b"), encoding="utf-8")  # noqa: PTH123


def say(message: str) -> None:
    """Print `message` on standard error as one line."""
    try:
        print(one_line(message), file=sys.stderr, flush=True)  # noqa: T201
    except OSError:  # nobody is there to read it any more
        _redirect_to_null(sys.stderr)


def flush_output() -> None:
    """Write what is still buffered; raises `OSError`, but then Python's own attempt at exit does not."""
    try:
        sys.stdout.flush()
    except OSError:
        _redirect_to_null(sys.stdout)
        raise


def _redirect_to_null(stream: TextIO) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def one_line(text: str) -> str:
    """Put `text` on one line, without control characters, and with no word longer than a file name can be."""
    line = printable(" ".join(text.split()))
    return re.sub(r"[^ /]{300,}", lambda word: f"{word[0][:60]}…{word[0][-20:]}", line)
