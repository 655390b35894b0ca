"""The command line, run in this process, and what it said."""

import contextlib
import io
import json
import re
import signal
import sys
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest

from distill.cli.app import main
from distill.signals import EXIT_CODES


class Said(NamedTuple):
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


def run(*arguments: object) -> Said:
    """`distill ARGUMENTS`, entry point and all, in this process."""
    out, err = io.StringIO(), io.StringIO()
    handlers = {number: signal.getsignal(number) for number in EXIT_CODES}
    with (
        mock.patch.object(sys, "argv", ["distill", *map(str, arguments)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return Said(code, out.getvalue(), err.getvalue())


def strict(text: str) -> Any:
    """JSON without the NaN and Infinity that Python would let pass."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def tree(*folders: Path) -> dict[Path, tuple[int, int]]:
    """Every path below `folders` with its size and time; the library's lock files are no content."""
    paths = (path for folder in folders for path in folder.rglob("*") if not path.name.startswith(".library."))
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) if path.is_file() else (0, 0) for path in paths}


def assert_refused(said: Said, code: int, names: str) -> None:
    """One line on stderr that names what was wrong, and no inner life of the program."""
    assert said.code == code, said
    assert said.err.startswith("error: "), said.err
    assert said.err.count("\n") == 1, said.err
    assert names in said.err
    assert code == 1 or re.search(r"; see `distill .*--help`$", said.err)
    for foreign in ("Traceback", "unexpected", "errno", "Error:error", "value error", "valid integer", "parse string"):
        assert foreign.casefold() not in said.err.casefold()
