"""The runs that the page has started, one after another on the training runner, and all others on disk."""

import itertools
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from distill.errors import CheckpointError, ConfigError, StorageError
from distill.training.request import TrainingRequest
from distill.training.run_folder import RunFolder
from distill.training.run_info import RunInfo
from distill.training.runner import TrainingRunner
from distill.web.queue_file import QueueFile

State = Literal["queued", "running", "stopping", "finished", "interrupted", "failed"]

_STOP_S = 0.2


@dataclass(frozen=True)
class Job:
    """A run that waits, or is going on."""

    id: str
    request: TrainingRequest


@dataclass(frozen=True)
class Status:
    """The state of a run: its `position` is its place in the queue, `error` what ended it."""

    state: State
    error: Exception | None = None
    position: int | None = None


class RunQueue:
    """Trains one request after another on a thread of its own; a run is known by the name of its folder.

    It begins with what waited when the server before it ended.
    """

    def __init__(self, runs_dir: Path) -> None:
        self.runs_dir = runs_dir
        self._list = QueueFile(runs_dir)
        self._waiting = [Job(request.output_dir.name, request) for request in self._list.load()]
        self._current: Job | None = None
        self._runner: TrainingRunner | None = None
        self._failed: dict[str, tuple[Job, Exception]] = {}
        self._closing = False
        self._changed = threading.Condition()
        self._threads = torch.get_num_threads()
        self._worker = threading.Thread(target=self._work, name="distill-queue", daemon=True)
        self._worker.start()

    def add(self, request: TrainingRequest) -> str:
        """Queue a run; returns its id. Raises `ConfigError` when it is queued or going on already, `StorageError`."""
        key = request.output_dir.name
        with self._changed:
            if key in {job.id for job in self.jobs()}:
                raise ConfigError("this run is in the queue already")
            if self._closing:
                raise ConfigError("distill is shutting down", "start the run when it is back")
            self._waiting.append(Job(key, request))
            try:
                self._keep()
            except StorageError:
                self._waiting.pop()
                raise
            self._failed.pop(key, None)
            self._changed.notify_all()
        return key

    def spare_threads(self) -> int:
        """With how many threads something else may compute: with all of them unless a run is going on."""
        return 1 if self._current else self._threads

    def free_folder(self, folder: Path) -> Path:
        """`folder`, or the next one like it that no run has: two can be started within a second."""
        taken = set(self.keys())
        others = (folder.with_name(f"{folder.name}-{number}") for number in itertools.count(2))
        return next(place for place in (folder, *itertools.islice(others, 1000)) if place.name not in taken)

    def jobs(self) -> list[Job]:
        """The run that is going on, and those that wait, in their order."""
        with self._changed:
            return ([self._current] if self._current else []) + self._waiting

    def cancel(self, key: str) -> None:
        """Stop the run after its step, with a checkpoint, or take it off the queue.

        Raises `KeyError` when it is neither going on nor waiting, `StorageError`.
        """
        with self._changed:
            if self._current and self._current.id == key:
                if self._runner:
                    self._runner.cancel()
                return
            if key not in {job.id for job in self._waiting}:
                raise KeyError(key)
            self._waiting = [job for job in self._waiting if job.id != key]
            self._keep()

    @property
    def outlasts(self) -> bool:
        """True if runs that wait are there for the next server."""
        return self._list.kept

    def _keep(self) -> None:
        """Note what waits, and a new run that goes on, for until it has read its sounds there is nothing to go on from.

        Raises `StorageError`.
        """
        self._list.save([job.request for job in self.jobs() if job is not self._current or not job.request.resume_from])

    def status(self, key: str) -> Status:
        """The state of the run with this id; raises `KeyError` when there is none."""
        with self._changed:
            if self._current and self._current.id == key:
                return Status("stopping" if self._runner and self._runner.cancelled else "running")
            for position, job in enumerate(self._waiting, start=1):
                if job.id == key:
                    return Status("queued", position=position)
            if key in self._failed:
                return Status("failed", self._failed[key][1])
        return self._status_on_disk(key)

    def _status_on_disk(self, key: str) -> Status:
        folder, info = self.folder(key), self.info(key)
        if info is not None and info.model_path:
            return Status("finished")
        return Status("running" if folder.busy else "interrupted")

    def folder(self, key: str) -> RunFolder:
        """The folder of the run with this id; raises `KeyError` when there is no such run."""
        request = self.request(key)
        if request is None and key not in self._on_disk():
            raise KeyError(key)
        return RunFolder(request.output_dir if request else self.runs_dir / key)

    def request(self, key: str) -> TrainingRequest | None:
        """The request of a run of this server, while it waits or goes on, or when it has failed."""
        failed = [job for job, _ in self._failed.values()]
        return next((job.request for job in [*self.jobs(), *failed] if job.id == key), None)

    def info(self, key: str) -> RunInfo | None:
        """The run's record, None before it has begun or where it is damaged. Raises `KeyError`."""
        try:
            return self.folder(key).read_info()
        except CheckpointError:
            return None

    def keys(self) -> list[str]:
        """The ids of all runs: those going on and waiting first, then the newest."""
        jobs = [job.id for job in self.jobs()]
        failed = list(self._failed)
        stored = [key for key in self._on_disk() if key not in jobs + failed]
        return jobs + failed[::-1] + stored

    def _on_disk(self) -> list[str]:
        """The names of the run folders, newest first; what only looks like one is not among them."""
        if not self.runs_dir.is_dir():
            return []
        found = [path for path in self.runs_dir.iterdir() if (path / "run.json").is_file()]
        return [path.name for path in sorted(found, key=lambda path: (path / "run.json").stat().st_ctime, reverse=True)]

    def close(self) -> None:
        """Stop what is going on, with its checkpoint; what waits will do so again when the next server begins."""
        with self._changed:
            self._closing = True
            if self._runner:
                self._runner.cancel()
            self._changed.notify_all()
        self._worker.join()
        self._list.close()

    def _work(self) -> None:
        torch.set_num_threads(self._threads)  # whatever others compute with: a run has those of the thread it begins in
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if self._closing:
                    return
                job = self._current = self._waiting.pop(0)
                runner = self._runner = TrainingRunner()
                runner.start_request(job.request)
            error = _outcome(runner)
            with self._changed:
                self._current = self._runner = None
                if error is not None:
                    self._failed[job.id] = job, error
                if not self._closing:
                    with suppress(StorageError):  # the next server sees that this run has been begun
                        self._keep()


def _outcome(runner: TrainingRunner) -> Exception | None:
    """Wait for the end of a run; returns what went wrong."""
    try:
        while runner.wait(_STOP_S) is None:
            pass
    except Exception as error:
        error.__cause__ = error.__context__ = None  # it is kept for long, and what a run holds shall not be
        return error.with_traceback(None)
    return None
