"""The worker process on the reader's side: start, requests, watchdog and end, after which nothing of it is left."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, cast

from distill.audio.deadline import TICK_S, Deadline
from distill.audio.protocol import Kind, receive

COMMAND = [sys.executable, "-P", "-m", "distill.audio.worker_main"]  # -P: no modules from the current folder

_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
_END_S = 1.0  # that a worker has to end by itself after its stdin was closed


class WorkerProcess:
    """One worker process; it ends by itself when this process does."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # decoders print remarks there
            env=os.environ | _ONE_THREAD,
            # So that Ctrl-C reaches only this process, which then ends the worker.
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # the same on Windows
        )
        self._requests, self._answers = cast(BinaryIO, self._process.stdin), cast(BinaryIO, self._process.stdout)

    @property
    def alive(self) -> bool:
        """True while the process is running."""
        return self._process.poll() is None

    def ask(self, request: bytes) -> None:
        """Send a request, one line; raises `EOFError` when the process is gone."""
        try:
            self._requests.write(request + b"\n")
            self._requests.flush()
        except OSError as error:
            raise EOFError from error

    def receive(self) -> tuple[Kind, bytes]:
        """Receive the next message; raises `EOFError` when the process is gone."""
        return receive(self._answers)

    @contextmanager
    def watched(self, deadline: Deadline) -> Iterator[None]:
        """Watch over the body: kill the process when `deadline` is over, upon which the body gets an `EOFError`."""
        done = threading.Event()  # a thread of its own watches, because a read from a pipe has no timeout

        def watch() -> None:
            while not done.wait(TICK_S):
                deadline.tick()
                if deadline.error:
                    self._process.kill()
                    return

        thread = threading.Thread(target=watch, name="distill-audio-watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def kill(self) -> str:
        """Kill the process and close its pipes; returns the cause of its death in words."""
        self._process.kill()
        code = self._process.wait()
        for pipe in (self._requests, self._answers):
            with suppress(OSError):  # closing flushes what nobody can read any more
                pipe.close()
        return _cause(code)

    def close(self) -> None:
        """Give the process a moment to end by itself, then kill it."""
        with suppress(OSError):
            self._requests.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
        self.kill()


def _cause(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    with suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"
