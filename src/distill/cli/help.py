"""The words of `--help`: whole summaries in the list of commands, and kinds of values that are not Python's types."""

import re
from collections.abc import Callable
from typing import Any

_KINDS = {"str": "TEXT", "int": "NUMBER", "float": "NUMBER", "path": "PATH"}


def in_plain_words(command: Any) -> Any:
    """The same command, whose help, and that of all commands below it, is complete and names no type of Python's."""
    for below in getattr(command, "commands", {}).values():
        below.short_help = _first_sentence(in_plain_words(below).help)  # one that is given is not cut to fit a line
    for parameter in command.params:
        if hasattr(parameter, "display_type"):  # older versions of typer have other words, which will do
            parameter.display_type = _plain(parameter.display_type)
    return command


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=\.)\s", " ".join(text.split()))[0]


def _plain(display_type: Callable[[Any], str]) -> Callable[[Any], str]:
    def display(context: Any) -> str:
        shown = display_type(context)  # as in <int range>, <list[Path]>, or <date|name> for choices
        kind = re.sub(r"\W|list|range", "", shown).lower()
        return _KINDS.get(kind, shown)

    return display
