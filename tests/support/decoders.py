"""Decoders that misbehave."""

import sys

from distill.audio import worker_process


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
