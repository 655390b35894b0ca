"""Decoders that are kept from one test to the next, and decoders that misbehave."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from distill.audio import worker_process
from distill.audio.protocol import Kind
from distill.audio.worker_process import WorkerProcess


class KeptWorker(WorkerProcess):
    """A worker process that waits for the next reader when one is done with it, for it takes long to start."""

    def __init__(self) -> None:
        super().__init__()
        self.kept, self.idle = False, _idle()

    def receive(self) -> tuple[Kind, bytes]:
        if self.kept:  # it has said that it is ready to the one before
            self.kept = False
            return Kind.READY, b""
        return super().receive()

    def close(self) -> None:
        self.kept = self.alive
        if self.kept:
            self.idle.append(self)
        else:
            super().close()


_kept: dict[tuple[object, ...], list[KeptWorker]] = {}


def _idle() -> list[KeptWorker]:
    """Those that this process has (it may be forked from one with its own) of the kind that it would start now."""
    return _kept.setdefault((os.getpid(), Path.cwd(), os.environ.get("PYTHONPATH"), *worker_process.COMMAND), [])


def _worker() -> WorkerProcess:
    with suppress(IndexError):  # the readers of several threads take them at once
        while not (worker := _idle().pop()).alive:
            WorkerProcess.close(worker)
        return worker
    return KeptWorker()


@contextmanager
def decoders_kept() -> Iterator[None]:
    """All readers take the worker processes of those before them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distill.audio.reader.WorkerProcess", _worker)
        yield
    for idle in _kept.values():
        for worker in idle:
            WorkerProcess.close(worker)


def worker_that(does: str) -> list[str]:
    """The command of a worker that does this before it decodes a file at `path`."""
    script = f"""
import os, pathlib, signal, sys, time
from distill.audio import worker_main as worker
decode = worker._answer
def answer(path, limits, answers):
    {does}
    decode(path, limits, answers)
worker._answer = answer
worker.main()
"""
    return [sys.executable, "-P", "-c", script]


def distill_whose_worker(does: str) -> list[str]:
    """The command `distill` with such workers."""
    script = f"""
from distill.audio import worker_process
from distill.cli.app import main
worker_process.COMMAND = {worker_that(does)!r}
main()
"""
    return [sys.executable, "-c", script]


def let_worker(does: str) -> None:
    """From now on, the workers that this process starts do so."""
    worker_process.COMMAND = worker_that(does)
