"""A training run on a background thread: started, watched, cancelled, waited for, resumed."""

import threading
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from distill.errors import TrainingError
from distill.training.config import TrainingConfig, VQVAEConfig
from distill.training.execution import run_training
from distill.training.loop import train, train_vqvae
from distill.training.metrics import MetricsCallback
from distill.training.request import TrainingRequest


class TrainingRunner:
    """Runs one training at a time; an exception in its thread is raised by `wait`.

    The training computes with as many torch threads as the thread that starts it.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._cancel = threading.Event()
        self._result: dict[str, Any] | None = None
        self._error: BaseException | None = None

    def start_vqvae(self, config: VQVAEConfig, file_paths: list[Path], output_dir: Path | str, **options: Any) -> None:
        """Train an RVQ-VAE; `options` are those of `train_vqvae`. Raises `TrainingError` if a run is in progress."""
        self._start(partial(train_vqvae, config, file_paths, output_dir, **options))

    def start(self, config: TrainingConfig, file_paths: list[Path], output_dir: Path | str, **options: Any) -> None:
        """Train a VAE; `options` are those of `train`. Raises `TrainingError` if a run is in progress."""
        self._start(partial(train, config, file_paths, output_dir, **options))

    def start_request(self, request: TrainingRequest, callback: MetricsCallback | None = None) -> None:
        """Carry out a training request of any family. Raises `TrainingError` if a run is in progress."""
        self._start(partial(run_training, request, callback))

    def _start(self, train: Callable[..., dict[str, Any]]) -> None:
        if self.is_running:
            raise TrainingError("a run is already in progress; cancel it or wait for it first")
        self._cancel = threading.Event()
        self._result = self._error = None
        cancellable = partial(train, cancel_event=self._cancel)
        given = cancellable, torch.get_num_threads()
        self._thread = threading.Thread(target=self._run, args=given, name="distill-training", daemon=True)
        self._thread.start()

    def _run(self, train: Callable[[], dict[str, Any]], threads: int) -> None:
        torch.set_num_threads(threads)  # OpenMP keeps the number per thread, and a new one starts with its default
        try:
            self._result = train()
        except BaseException as error:  # whatever it is, for the thread that waits
            traceback.clear_frames(error.__traceback__)  # else they would keep model, sounds and worker processes alive
            self._error = error

    @property
    def is_running(self) -> bool:
        """True while the training thread is alive."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def cancelled(self) -> bool:
        """True if the run was asked to stop."""
        return self._cancel.is_set()

    def cancel(self) -> None:
        """Ask the run to stop after the step it is in, with a checkpoint."""
        self._cancel.set()

    def wait(self, timeout: float | None = None) -> dict[str, Any] | None:
        """The run's result, or None if it is not over after `timeout` seconds; raises the error that ended it."""
        if self._thread is None:
            raise TrainingError("no run was started")
        self._thread.join(timeout)
        if self._thread.is_alive():
            return None
        if self._error is not None:
            raise self._error
        return self._result
