"""Where a run is stopped, and the new process that goes on with it."""

import pkgutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from distill.training.execution import run_training
from distill.training.request import TrainingRequest
from distill.training.runner import TrainingRunner
from support.processes import in_fresh_process
from support.runs import make_runs_quick, models_of
from support.waiting import until


class Killed(Exception):
    """What a run ends of that has no time to save anything."""


class AtEvent:
    """Cancels the run, or kills it, when it tells of a certain event, of either family."""

    def __init__(self, kind: str, killed: bool = False, **place: int) -> None:
        self.kind, self.killed, self.place = kind, killed, place

    @contextmanager
    def laid(self) -> Iterator[dict[str, Any]]:
        """The arguments for the training that is to be stopped."""
        cancel = threading.Event()

        def callback(event: object) -> None:
            if type(event).__name__.removeprefix("VQ") != self.kind:
                return
            if all(getattr(event, name) == value for name, value in self.place.items()):
                if self.killed:
                    raise Killed
                cancel.set()

        with suppress(Killed):
            yield {"callback": callback, "cancel_event": cancel}


class InCall:
    """Cancels the run when a function is called for the n-th time, counted from 0."""

    def __init__(self, function: str, call: int = 0) -> None:
        self.function, self.call, self.seen = f"distill.{function}", call, 0

    @contextmanager
    def laid(self) -> Iterator[dict[str, Any]]:
        """The arguments for the training that is to be stopped."""
        cancel, real = threading.Event(), pkgutil.resolve_name(self.function)

        def watched(*arguments: Any, **named: Any) -> Any:
            self.seen += 1
            if self.seen == self.call + 1:
                cancel.set()
            return real(*arguments, **named)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self.function, watched)
            yield {"cancel_event": cancel}


class StopAt:
    """A callback that cancels the run when it sees a certain event."""

    def __init__(self, kind: type, **place: int) -> None:
        self.cancel, self.kind, self.place = threading.Event(), kind, place

    def __call__(self, event) -> None:
        if isinstance(event, self.kind) and all(getattr(event, k) == v for k, v in self.place.items()):
            self.cancel.set()


def hold(function: str, call: int, asked: Path | None = None) -> None:
    """In this process a function waits, at its n-th call counted from 0, for the run to be cancelled, or for a file.

    When it waits for a file, there is one beside it, named as `awaited`.
    """
    real, cancel, cancelled, calls = pkgutil.resolve_name(function), TrainingRunner.cancel, threading.Event(), count()

    def cancels(runner: TrainingRunner) -> None:
        cancel(runner)
        cancelled.set()

    def held(*arguments: Any, **named: Any) -> Any:
        if next(calls) == call:
            if asked:
                asked.with_suffix(".awaited").touch()
            until(lambda: asked.exists() if asked else cancelled.is_set())
        return real(*arguments, **named)

    patch = pytest.MonkeyPatch()  # for as long as the process lives
    patch.setattr(TrainingRunner, "cancel", cancels)
    patch.setattr(function, held)


Job = tuple[Path, dict[str, int] | None]


def asked_to_go_on(*jobs: Job) -> tuple[int, str]:
    """How a new process ended that was to go on with the runs in these folders, to the step given or to their end."""
    return in_fresh_process(_go_on, jobs)


def _go_on(jobs: tuple[Job, ...]) -> None:
    torch.set_num_threads(1)
    patch = pytest.MonkeyPatch()  # for as long as the process lives
    make_runs_quick(patch)
    for folder, stop in jobs:
        request = TrainingRequest.resume(folder, models_dir=models_of(folder))
        torch.manual_seed(5)
        before = torch.get_rng_state()
        with AtEvent("StepMetrics", **(stop or {"epoch": -1})).laid() as options:
            run_training(request, **options)
        assert torch.equal(before, torch.get_rng_state()), "torch's random numbers were moved"


def go_on(*jobs: Job) -> None:
    code, errors = asked_to_go_on(*jobs)
    assert code == 0, errors
