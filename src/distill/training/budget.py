"""The number of epochs that fits a time budget."""

from collections.abc import Sequence

from distill.training.config import MAX_EPOCHS

UNPLANNED = 10**9  # epochs: so many that schedules stay at their beginning until the budget has been measured

_MEASURED_SHARE = 0.08  # of the budget: for so long epochs are timed before their number is settled
_RESERVE = 0.02  # of the budget, left for previews, the last checkpoint and the picture
_TOLERANCE = 0.05  # of the budget: a run that takes longer than was planned ends after so much more, within an epoch


def epochs_within(budget_s: float, epoch_ends: Sequence[float]) -> tuple[int, bool]:
    """`(total epochs, settled)` for `budget_s` seconds; `epoch_ends` are the times, in seconds, of the epochs so far.

    The first epoch is slower than the rest (k-means, cold caches), so the pace is taken from those after it.
    """
    done, elapsed = len(epoch_ends), epoch_ends[-1]  # called after an epoch, so there is at least one
    pace = (elapsed - epoch_ends[0]) / (done - 1) if done > 1 else elapsed
    total = done + int(max(0.0, budget_s * (1 - _RESERVE) - elapsed) / max(pace, 1e-6))
    total = min(total, max(done, MAX_EPOCHS))
    measured = done > 2 and elapsed >= _MEASURED_SHARE * budget_s
    # Also settled where at most one more epoch fits: there is nothing left to plan.
    return total, measured or total <= done + (done > 1)


def is_spent(budget_s: float, elapsed_s: float) -> bool:
    """True if a run has to end, although more was planned: the machine became slower, or a single epoch is too long."""
    return elapsed_s > budget_s * (1 + _TOLERANCE)
