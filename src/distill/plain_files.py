"""Reading of files that anybody may have put there: a pipe, a device, gigabytes of nothing, brackets without end."""

import errno
import json
import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

_MAX_LINE = 8 << 20  # bytes; the longest real one has the counts of 4 levels of 65,536 codes
_MIN_VALUE = 16  # characters of JSON per object or list, on average: even an empty one takes 64 bytes once parsed


def open_plain(path: Path, limit: int) -> BinaryIO:
    """Open a file of at most `limit` bytes for reading; raises `OSError` for a larger one and for anything else.

    A pipe is not waited for, and a device is not read.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "Not a file", str(path))
        if status.st_size > limit:
            raise OSError(errno.EFBIG, "File too large", str(path))
    except OSError:
        os.close(handle)
        raise
    return os.fdopen(handle, "rb")


def read_plain(path: Path, limit: int) -> bytes:
    """The content of a file that `open_plain` opens; raises `OSError`."""
    with open_plain(path, limit) as file:
        return file.read(limit)


def parse_json(text: bytes | str) -> Any:
    """The value of strict JSON, which is not much larger than its text; raises `ValueError` for anything else."""
    brackets = (b"{", b"[") if isinstance(text, bytes) else ("{", "[")
    if sum(map(text.count, brackets)) > 64 + len(text) // _MIN_VALUE:  # type: ignore[arg-type]
        raise ValueError("it consists of empty entries")
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("its entries are nested too deeply") from error


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    return value if math.isfinite(value) else _refuse(digits)


def json_lines(path: Path) -> Iterator[Any]:
    """The values in the lines of a file, up to the first line that is not JSON; none if there is no plain file."""
    try:
        file = open_plain(path, limit=1 << 62)
    except OSError:
        return
    with file:
        while line := file.readline(_MAX_LINE):
            try:
                yield parse_json(line)
            except ValueError:
                return
