"""The two consoles, and small ways of putting numbers."""

import json
from typing import Any

from rich.console import Console

from distill.training.metrics import to_json


class _Console(Console):
    """A console that lets a broken pipe out; rich by itself would leave without a word."""

    def on_broken_pipe(self) -> None:
        raise


out = _Console(highlight=False, soft_wrap=True)
err = _Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print `value` as one line of strict JSON."""
    print(json.dumps(to_json(value), allow_nan=False, default=str), flush=True)  # noqa: T201


def duration(seconds: float) -> str:
    """Seconds as a person says them: 0.42 s, 12 s, 3 min 05 s, 2 h 07 min."""
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"


def size(count: int) -> str:
    """A number of bytes in kB or MB."""
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def plural(count: int, word: str) -> str:
    """`1 epoch`, `2 epochs`."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
