"""Text from elsewhere in messages, as file names and names of models: printable, and harmless to a terminal."""

import os
import unicodedata

# What acts instead of being seen: control characters, marks that change the direction of writing, line and paragraph
# ends; and undecodable bytes.
_UNSHOWABLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_JOINERS = "\u200c\u200d"  # within words of many scripts, and within emoji


def printable(text: os.PathLike[str] | str) -> str:
    r"""A printable form of `text`, on one line: what is not shown, or acts on a terminal, becomes `\n` or `\udcff`."""
    return "".join(map(_shown, os.fspath(text)))


def printable_lines(text: str) -> str:
    """`printable` for text of several lines."""
    return "\n".join(map(printable, text.split("\n")))


def _shown(char: str) -> str:
    acts = unicodedata.category(char) in _UNSHOWABLE and char not in _JOINERS
    return char.encode("unicode_escape").decode() if acts else char
