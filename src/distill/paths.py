"""How a file's name is put into a message: any name, on one line, without harm to the terminal."""

import os
import unicodedata

_UNSHOWABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})  # control characters, undecodable bytes, line and paragraph ends


def printable(path: os.PathLike[str] | str) -> str:
    r"""`path` as text to print: what would break the line, or cannot be printed, stands there as `\n` or `\udcff`."""
    return "".join(
        char.encode("unicode_escape").decode() if unicodedata.category(char) in _UNSHOWABLE else char
        for char in os.fspath(path)
    )
