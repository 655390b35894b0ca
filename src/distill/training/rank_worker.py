"""The processes beside the first one of a run: they train and validate with it, and write nothing.

Rank 0 runs the whole of `trainer.py` and tells the others, order by order, what to do with it. What they need for that
comes with the order, so that they follow it through resumed and rolled back runs without knowing of either.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch

from distill import distributed
from distill.errors import TrainingError
from distill.training.dataset import Loader
from distill.training.engine import Diverged, Skips, Totals, train_steps, validate
from distill.training.step import TrainStep


@dataclass(frozen=True)
class TrainCommand:
    """Train from `first_step` of an epoch to its end."""

    epoch: int
    first_step: int
    total_epochs: int
    optimizer_state: dict[str, Any]
    skips_in_row: int


@dataclass(frozen=True)
class ValidateCommand:
    """Go through the validation set."""


Order = TrainCommand | ValidateCommand | None


def tell(order: Order) -> None:
    """Give the other ranks an order, if there are any; None sends them home. Raises `TrainingError`."""
    distributed.broadcast(order)


@contextmanager
def workers_shut_down() -> Iterator[None]:
    """However a run ends, the other processes learn that it has."""
    try:
        yield
    finally:
        with suppress(TrainingError):  # one of them has gone; so will the others
            tell(None)


def follow(stepper: TrainStep, loaders: tuple[Loader, Loader], seed: int) -> None:
    """Do what rank 0 tells, until it has no more to do; raises `TrainingError` when it has gone."""
    logging.getLogger("distill").setLevel(logging.CRITICAL)  # rank 0 says it all
    with torch.random.fork_rng(devices=[]):
        while (order := distributed.broadcast(None)) is not None:
            if isinstance(order, ValidateCommand):
                validate(stepper.context, loaders[1])
                continue
            stepper.optimizer.load_state_dict(order.optimizer_state)
            with suppress(Diverged):  # rank 0 goes back, and tells where to go on
                train_steps(
                    stepper, loaders[0], order.epoch, Totals(), total_epochs=order.total_epochs,
                    first_step=order.first_step, seed=seed, skips=Skips(in_row=order.skips_in_row),
                )  # fmt: skip
