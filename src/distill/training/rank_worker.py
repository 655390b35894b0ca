"""The worker ranks of a run, which train and validate with rank 0 and write nothing.

Rank 0 runs the `Trainer` and broadcasts commands to the others. A command carries everything they need to carry it out
(the weights follow with each epoch), so resuming and rolling back need no code here.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch

from distill import distributed
from distill.data.batches import Loader
from distill.errors import TrainingError
from distill.training.engine import Diverged, Skips, Totals, train_steps, validate
from distill.training.step import TrainStep


@dataclass(frozen=True)
class TrainCommand:
    """Train from `first_step` of an epoch to its end."""

    epoch: int
    first_step: int
    total_epochs: int
    optimizer_states: list[dict[str, Any]]
    skips_in_row: int


@dataclass(frozen=True)
class ValidateCommand:
    """Go through the validation set."""


Command = TrainCommand | ValidateCommand | None


def broadcast_command(command: Command) -> None:
    """Send a command to the worker ranks, if there are any; None shuts them down. Raises `TrainingError`."""
    distributed.broadcast(command)


@contextmanager
def workers_shut_down() -> Iterator[None]:
    """Shut the worker ranks down after the body, however it ends."""
    try:
        yield
    finally:
        with suppress(TrainingError):  # one of them has died; the others fail at their next exchange
            broadcast_command(None)


def run_worker(train_step: TrainStep, loaders: tuple[Loader, Loader], seed: int) -> None:
    """Carry out the commands of rank 0 until it shuts this worker down; raises `TrainingError` when it has died."""
    logging.getLogger("distill").setLevel(logging.CRITICAL)  # rank 0 logs the same
    with torch.random.fork_rng(devices=[]):
        while (command := distributed.broadcast(None)) is not None:
            if isinstance(command, ValidateCommand):
                validate(train_step.context, loaders[1])
                continue
            # With every command: rank 0 may have rolled back, or resumed from a checkpoint.
            for optimizer, state in zip(train_step.optimizers, command.optimizer_states):
                optimizer.load_state_dict(state)
            with suppress(Diverged):  # rank 0 rolls back, and its next command says where to continue
                train_steps(
                    train_step, loaders[0], command.epoch, Totals(), total_epochs=command.total_epochs,
                    first_step=command.first_step, seed=seed, skips=Skips(in_row=command.skips_in_row),
                )  # fmt: skip
