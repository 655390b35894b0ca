"""File names in messages: any name is printable, on one line, and harmless to a terminal."""

import os
import unicodedata

_UNSHOWABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})  # control characters, undecodable bytes, line and paragraph ends


def printable(path: os.PathLike[str] | str) -> str:
    r"""A printable form of `path`: what would break the line, or cannot be printed, becomes `\n` or `\udcff`."""
    return "".join(
        char.encode("unicode_escape").decode() if unicodedata.category(char) in _UNSHOWABLE else char
        for char in os.fspath(path)
    )
