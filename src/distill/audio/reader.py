"""Reading of sound files in a process of its own, so that no file can crash this one, fill its memory or block it."""

import json
import os
import stat
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import numpy as np

from distill.audio.deadline import Deadline
from distill.audio.limits import AudioLimits
from distill.audio.protocol import Kind
from distill.audio.recording import Header, Recording
from distill.audio.worker_process import WorkerProcess
from distill.errors import AudioError, Cancelled
from distill.paths import printable

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class AudioReader:
    """Reads one file after another; a context manager that leaves nothing of its worker process behind.

    The process is started for the first file, and again after a file on which it crashed or was killed.
    """

    def __init__(self, limits: AudioLimits | None = None, cancel_event: threading.Event | None = None) -> None:
        self._limits, self._cancel_event = limits or AudioLimits(), cancel_event
        self._worker: WorkerProcess | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process; the next `read` starts another."""
        if self._worker is not None:
            self._worker.close()
        self._worker = None

    def read(self, path: Path) -> Recording:
        """Decode the file at `path`; raises `AudioError` with the reason, `Cancelled` when the event is set."""
        return self._answer(path, header_only=False)

    def header(self, path: Path) -> Header:
        """The format and length of the file at `path`, counted if its header does not say; raises as `read` does."""
        said = self._answer(path, header_only=True)
        return Header(said.sample_rate, said.samples.shape[1], said.format, said.declared_frames)

    def _answer(self, path: Path, header_only: bool) -> Recording:
        """Request a recording, which has no samples if only its header is asked for."""
        if self._cancel_event is not None and self._cancel_event.is_set():
            raise Cancelled("stopped while reading sounds")
        try:
            deadline = Deadline.for_file(_regular_size(path), self._cancel_event)
            return self._decoded(path, header_only, deadline)
        except AudioError as error:
            raise error.with_reason(printable(f"{path}: {error.reason}")) from error.__cause__

    def _decoded(self, path: Path, header_only: bool, deadline: Deadline) -> Recording:
        worker = self._ready_worker()
        # The path in hex: a file name need not be UTF-8, but JSON is.
        request = {"path": os.fsencode(path).hex(), "limits": asdict(self._limits), "header_only": header_only}
        try:
            with worker.watched(deadline):
                worker.ask(json.dumps(request).encode())
                return _receive(worker, deadline)
        except AudioError:  # a regular refusal: the process is ready for the next file
            raise
        except BaseException as error:  # a Ctrl-C too: the rest of a broken answer must not pass for the next one
            cause = self._kill()
            if not isinstance(error, EOFError | ValueError):
                raise
            raise deadline.error or AudioError(f"the decoder crashed on it ({cause}); the file is damaged") from None

    def _ready_worker(self) -> WorkerProcess:
        """The process, started if there is none, and ready for a request."""
        if self._worker is not None and self._worker.alive:
            return self._worker
        self.close()
        deadline = Deadline.for_start(self._cancel_event)
        try:
            self._worker = WorkerProcess()
        except OSError as error:
            raise AudioError(f"the decoder could not be started ({error.strerror})", "close other programs") from error
        try:
            with self._worker.watched(deadline):
                self._worker.receive()
        except EOFError:
            cause = self._kill()
            raise deadline.error or AudioError(
                f"the decoder could not be started ({cause})", "`python -m distill.audio.worker_main` shows why"
            ) from None
        return self._worker

    def _kill(self) -> str:
        assert self._worker is not None
        worker, self._worker = self._worker, None
        return worker.kill()


def _regular_size(path: Path) -> int:
    """The size in bytes of a file that is safe to open; raises `AudioError` for anything else."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            os.scandir(path).close()  # fails, with a better reason, if the folder may not be opened
    except FileNotFoundError:
        gone = "a link to a file that is not there" if path.is_symlink() else "no such file"
        raise AudioError(gone) from None
    except (OSError, ValueError) as error:
        raise AudioError(getattr(error, "strerror", None) or str(error)) from error
    if not stat.S_ISREG(status.st_mode):  # opening a FIFO would block, and a device may have no end
        raise AudioError(f"not a regular file ({_KINDS.get(stat.S_IFMT(status.st_mode), 'something else')})")
    if status.st_size == 0:
        raise AudioError("the file is empty")
    return status.st_size


def _receive(worker: WorkerProcess, deadline: Deadline) -> Recording:
    """Receive the answer to a request; raises `AudioError` for a refusal, `EOFError` when the process is gone."""
    header: dict[str, Any] = {}
    samples, bytes_per_s = bytearray(), 1  # grows with what comes: no length in a header is trusted
    while True:
        kind, payload = worker.receive()
        deadline.report_progress()
        if kind is Kind.BLOCK:
            samples += payload
            deadline.report_progress(len(payload) / bytes_per_s)
        elif kind is Kind.COUNTED:
            deadline.report_progress(json.loads(payload))
        elif kind is Kind.HEADER:
            header = json.loads(payload)
            bytes_per_s = 4 * header["channels"] * header["sample_rate"]
        elif kind is Kind.END:
            frames = np.frombuffer(samples, np.float32).reshape(-1, header["channels"])
            return Recording(frames, header["sample_rate"], header["format"], **json.loads(payload))
        elif kind is Kind.REFUSED:
            raise AudioError.from_dict(json.loads(payload))
