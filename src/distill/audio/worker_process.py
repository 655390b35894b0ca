"""The worker process as its reader sees it: started, asked, watched, ended; nothing of it is left behind."""

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

COMMAND = [sys.executable, "-P", "-m", "distill.audio.worker_main"]

_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
_END_S = 1.0  # for a worker whose stdin has closed


class WorkerProcess:
    """One worker process; it ends by itself when this process does."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # decoders print remarks there
            env=os.environ | _ONE_THREAD,
            start_new_session=True,  # Ctrl-C is for us; what becomes of the worker is ours to say
        )
        self._requests, self._answers = cast(BinaryIO, self._process.stdin), cast(BinaryIO, self._process.stdout)

    @property
    def alive(self) -> bool:
        """True while the process is there."""
        return self._process.poll() is None

    def ask(self, request: bytes) -> None:
        """Send one line; raises `EOFError` when the process is gone."""
        try:
            self._requests.write(request + b"\n")
            self._requests.flush()
        except OSError as error:
            raise EOFError from error

    def receive(self) -> tuple[Kind, bytes]:
        """The next message of the process; raises `EOFError` when it is gone."""
        return receive(self._answers)

    @contextmanager
    def watched(self, deadline: Deadline) -> Iterator[None]:
        """Kill the process when `deadline` ends during the body, which then meets an `EOFError`."""
        done = threading.Event()

        def watch() -> None:
            while not done.wait(TICK_S):
                deadline.tick()
                if deadline.ended:
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
        """End the process at once, free its handles, and say in words what it died of."""
        self._process.kill()
        code = self._process.wait()
        for pipe in (self._requests, self._answers):
            with suppress(OSError):  # what was still to be written has nobody to read it
                pipe.close()
        return _cause(code)

    def close(self) -> None:
        """Let the process end by itself, then see to it."""
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
