"""`distill` in a process of its own, on a terminal or with its output in files, while it runs and when it has ended."""

import fcntl
import os
import pty
import signal
import struct
import sys
import termios
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch

from distill.cli.app import main
from support.commands import Said
from support.processes import FRESH
from support.runs import make_runs_quick
from support.waiting import until


def _distill(
    arguments: list[str], home: Path, out: Path, err: Path | None, columns: int, before: Callable[[], object]
) -> None:
    """`distill ARGUMENTS`, after `before`, with `out` as the terminal (where `columns` are given) or as a file."""
    os.environ.update(DISTILL_HOME=str(home), TERM="xterm-256color")
    torch.set_num_threads(1)
    make_runs_quick(pytest.MonkeyPatch())  # for as long as the process lives
    target = os.open(out, os.O_WRONLY | os.O_CREAT if not columns else os.O_RDWR)
    if columns:
        os.login_tty(target)
    else:
        os.dup2(target, 1)
        os.dup2(os.open(err or os.devnull, os.O_WRONLY | os.O_CREAT), 2)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
    sys.argv = ["distill", *arguments]
    before()
    main()


def _nothing() -> None:
    """As a rule a process runs on undisturbed."""


@dataclass
class Started:
    """A running `distill` and what it has printed so far."""

    process: BaseProcess
    out: Callable[[], str]
    err: Callable[[], str]
    type: Callable[[bytes], object] = field(default=lambda keys: None)

    def wait_for(self, text: str) -> None:
        until(lambda: text in self.out() or not self.process.is_alive(), lambda: (self.out(), self.err()))
        assert text in self.out(), self.err()

    def kill(self, number: signal.Signals) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def end(self) -> Said:
        until(lambda: not self.process.is_alive(), lambda: (self.out(), self.err()))
        return Said(self.process.exitcode or 0, self.out(), self.err())


@pytest.fixture
def start(tmp_path: Path, home: Path) -> Any:
    """`start(*arguments)`: a `distill` in a process of its own, `before` called there; `columns` make a terminal.

    The process is forked from one that has imported. Its nets are narrow, and its runs end without a picture.
    """
    started: list[Started] = []
    opened: list[int] = []

    def begin(arguments: tuple[object, ...], *more: object) -> BaseProcess:
        process: BaseProcess = FRESH.Process(target=_distill, args=([str(a) for a in arguments], home, *more))
        process.start()
        return process

    def to_files(arguments: tuple[object, ...], before: Callable[[], object]) -> Started:
        out, err = (tmp_path / f"{name}_{len(started)}.txt" for name in ("out", "err"))
        out.touch(), err.touch()
        return Started(begin(arguments, out, err, 0, before), out.read_text, err.read_text)

    def on_terminal(arguments: tuple[object, ...], columns: int, before: Callable[[], object]) -> Started:
        ours, theirs = pty.openpty()
        opened.extend((ours, theirs))
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        screen = bytearray()
        threading.Thread(target=_copy, args=(ours, screen), daemon=True).start()
        process = begin(arguments, Path(os.ttyname(theirs)), None, columns, before)
        text = lambda: screen.decode(errors="replace")  # noqa: E731
        return Started(process, text, text, lambda keys: os.write(ours, keys))

    def start(*arguments: object, columns: int = 0, before: Callable[[], object] = _nothing) -> Started:
        started.append(on_terminal(arguments, columns, before) if columns else to_files(arguments, before))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.join()
    for handle in opened[::-1]:
        os.close(handle)


def _copy(source: int, into: bytearray) -> None:
    while True:
        try:
            into.extend(os.read(source, 65536))
        except OSError:  # the terminal is gone
            return
