"""How many epochs fit a time budget."""

_MEASURED_SHARE = 0.05  # of the budget is spent measuring before the number of epochs is settled
_RESERVE = 0.03  # of the budget is left for previews, the last checkpoint and the picture


def epochs_within(budget_s: float, elapsed_s: float, epochs_done: int) -> tuple[int, bool]:
    """`(total epochs, settled)` for `budget_s` seconds at the pace so far; settled once enough was measured."""
    pace = elapsed_s / epochs_done
    remaining = max(0.0, budget_s * (1 - _RESERVE) - elapsed_s)
    total = epochs_done + int(remaining / pace)
    settled = (epochs_done > 1 and elapsed_s >= _MEASURED_SHARE * budget_s) or total <= epochs_done + 1
    return total, settled
