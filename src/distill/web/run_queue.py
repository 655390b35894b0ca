"""The queue of runs that the page has started, trained one after another, and all other runs on disk."""

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
    """A run that is waiting or being trained."""

    id: str
    request: TrainingRequest


@dataclass(frozen=True)
class Status:
    """The state of a run, with the `error` that ended it and its `position` in the queue, counted from 1."""

    state: State
    error: Exception | None = None
    position: int | None = None


@dataclass(frozen=True)
class KnownRun:
    """All that is known of a run at one moment: of one in the queue its request, of one that has begun its record."""

    id: str
    folder: RunFolder
    status: Status
    request: TrainingRequest | None
    info: RunInfo | None
    in_queue: bool


class RunQueue:
    """Trains one request after another on a thread of its own; the id of a run is the name of its folder.

    It begins with the runs that waited when the previous server ended.
    """

    def __init__(self, runs_dir: Path) -> None:
        self.runs_dir = runs_dir
        self._list = QueueFile(runs_dir)
        self._waiting = [Job(request.output_dir.name, request) for request in self._list.load()]
        self._current: Job | None = None
        self._runner: TrainingRunner | None = None
        self._failed: dict[str, tuple[Job, Exception]] = {}
        self._closing = False
        self._changed = threading.Condition()  # of a re-entrant lock: methods that hold it call each other
        self._threads = torch.get_num_threads()  # asked now, before anything computes with fewer
        self._worker = threading.Thread(target=self._work, name="distill-queue", daemon=True)
        self._worker.start()

    def add(self, request: TrainingRequest) -> str:
        """Queue a run and return its id; raises `ConfigError` if it is in the queue already, `StorageError`."""
        key = request.output_dir.name
        with self._changed:
            if key in {job.id for job in self.jobs()}:
                raise ConfigError("this run is in the queue already")
            if self._closing:
                raise ConfigError("distill is shutting down", "start the run when it is back")
            self._waiting.append(Job(key, request))
            try:
                self._keep()
            except StorageError:  # a run that would be lost with the server is refused
                self._waiting.pop()
                raise
            self._failed.pop(key, None)
            self._changed.notify_all()
        return key

    def spare_threads(self) -> int:
        """The number of threads with which anything else may compute: all of them, but one during a training."""
        return 1 if self._current else self._threads

    def free_folder(self, folder: Path) -> Path:
        """Return `folder`, or the next one like it that no run has."""
        # The time in a folder's name is in seconds, and two runs can be started within one.
        taken = {run.id for run in self.all()}
        others = (folder.with_name(f"{folder.name}-{number}") for number in itertools.count(2))
        return next(place for place in (folder, *itertools.islice(others, 1000)) if place.name not in taken)

    def trains(self, model_id: str) -> bool:
        """True if a run that is being trained, or waits, has made the model with this id and goes on with it."""
        records = (_record(RunFolder(job.request.output_dir)) for job in self.jobs())
        return any(info is not None and info.model_id == model_id for info in records)

    def jobs(self) -> list[Job]:
        """The run that is being trained, and those that wait, in order."""
        with self._changed:
            return ([self._current] if self._current else []) + self._waiting

    def cancel(self, key: str) -> None:
        """Stop a run after its current step, with a checkpoint, or take it off the queue.

        Raises `KeyError` if it is neither being trained nor waiting, `StorageError`.
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
    def is_persistent(self) -> bool:
        """True if the next server will go on with the runs that wait."""
        return self._list.kept

    def _keep(self) -> None:
        """Save the runs that wait, and a new run that is being trained; raises `StorageError`."""
        # Until it has read its sounds, a new run has no checkpoint to be resumed from: if the server is killed by then,
        # the next one starts it again. Later, the next server sees that its folder is used, and leaves it out.
        self._list.save([job.request for job in self.jobs() if job is not self._current or not job.request.resume_from])

    def all(self) -> list[KnownRun]:
        """All runs: first those being trained and waiting, then failed ones and all others, newest first."""
        with self._changed:
            jobs, failed = [job.id for job in self.jobs()], list(self._failed)
        stored = [key for key in self._on_disk() if key not in jobs + failed]
        found = []
        for key in jobs + failed[::-1] + stored:
            with suppress(KeyError):  # it is gone since
                found.append(self.get(key))
        return found

    def get(self, key: str) -> KnownRun:
        """The run with this id; raises `KeyError` when there is none."""
        with self._changed:
            status = self._status_in_memory(key)
            jobs = [*self.jobs(), *(job for job, _ in self._failed.values())]
            request = next((job.request for job in jobs if job.id == key), None)
            in_queue = any(job.id == key for job in self.jobs())
        if status is None and key not in self._on_disk():
            raise KeyError(key)
        folder = RunFolder(request.output_dir if request else self.runs_dir / key)
        info, damage = None, None
        try:
            info = folder.read_info()
        except CheckpointError as error:  # of one in memory: it has not begun
            damage = error.with_reason(error.reason)
        return KnownRun(key, folder, status or _status_on_disk(folder, info, damage), request, info, in_queue)

    def _status_in_memory(self, key: str) -> Status | None:
        if self._current and self._current.id == key:
            return Status("stopping" if self._runner and self._runner.cancelled else "running")
        for position, job in enumerate(self._waiting, start=1):
            if job.id == key:
                return Status("queued", position=position)
        if key in self._failed:  # on disk, it would look interrupted
            return Status("failed", self._failed[key][1])
        return None

    def _on_disk(self) -> list[str]:
        """The names of the run folders, newest first; folders without a run's record are left out."""
        found = {}
        for path in self.runs_dir.glob("*/run.json"):
            with suppress(OSError):  # deleted since, or a link to nothing
                found[path.parent.name] = path.stat().st_ctime
        return sorted(found, key=found.__getitem__, reverse=True)

    def close(self) -> None:
        """Stop the run that is being trained, with a checkpoint; those that wait are left to the next server."""
        with self._changed:
            self._closing = True
            if self._runner:
                self._runner.cancel()
            self._changed.notify_all()
        self._worker.join()
        self._list.close()

    def _work(self) -> None:
        # A run computes with as many threads as this one, so whatever others have set must not count.
        torch.set_num_threads(self._threads)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if self._closing:
                    return
                # Begun under the lock, so that `cancel` finds a run either waiting or with its runner.
                job = self._current = self._waiting.pop(0)
                runner = self._runner = TrainingRunner()
                runner.start_request(job.request)
            error = _outcome(runner)
            with self._changed:
                self._current = self._runner = None
                if error is not None:
                    self._failed[job.id] = job, error
                if not self._closing:  # else the file stays as it is, for the next server
                    with suppress(StorageError):  # the next server sees by its folder that this run was begun
                        self._keep()


def _status_on_disk(folder: RunFolder, info: RunInfo | None, damage: CheckpointError | None) -> Status:
    if info is None:
        return Status("failed", damage)
    return Status("finished" if info.model_path else "running" if folder.busy else "interrupted")


def _record(folder: RunFolder) -> RunInfo | None:
    try:
        return folder.read_info()
    except CheckpointError:
        return None


def _outcome(runner: TrainingRunner) -> Exception | None:
    """Wait for the end of a run; returns the error that ended it, or None."""
    try:
        while runner.wait(_STOP_S) is None:
            pass
    except Exception as error:
        # The error is kept until the server ends; model and sounds, which its tracebacks refer to, must not be.
        error.__cause__ = error.__context__ = None
        return error.with_traceback(None)
    return None
