"""The position of a run; together with model and optimizers, everything that a checkpoint has to hold."""

import math
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from distill.training.engine import Skips, Totals
from distill.training.metrics import History


@dataclass
class State:
    """The next epoch and step, the sums of the unfinished epoch, the history, and the best weights."""

    history: History[Any, Any]
    total_epochs: int
    planned: bool  # False while the first epochs are timed for a budget
    epoch: int = 0
    step: int = 0
    totals: Totals = field(default_factory=Totals)
    elapsed_s: float = 0.0
    best_epoch: int = -1
    best_val_loss: float = math.inf  # of the best epoch; the history says what makes it the best
    best_weights: dict[str, Tensor] | None = None
    skips: Skips = field(default_factory=Skips)
    rollbacks: int = 0
