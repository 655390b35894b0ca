"""The consoles for standard output and standard error, and the formatting of numbers."""

import json
from typing import Any

from rich.console import Console
from rich.text import Text

from distill.paths import printable_lines
from distill.training.strict_json import to_json


class _Console(Console):
    """A console on which no text acts, wherever it comes from; it raises when a pipe is broken."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Make text of a string; rich itself would let escape sequences of a model's name through to the terminal."""
        return super().render_str(printable_lines(text), **options)

    def on_broken_pipe(self) -> None:
        """Raise, where rich would exit without a message."""
        raise


# Not wrapped at the terminal's width, so that a path or a command that is printed can be pasted. Names are printed with
# markup=False or escaped: rich would take brackets in them for styles.
out = _Console(highlight=False, soft_wrap=True)
err = _Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print `value` as one line of strict JSON."""
    print(json.dumps(to_json(value), allow_nan=False, default=str), flush=True)  # noqa: T201


def duration(seconds: float) -> str:
    """Format seconds for people: 0.42 s, 12 s, 3 min 05 s, 2 h 07 min."""
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"


def size(count: int) -> str:
    """Format a number of bytes in kB or MB."""
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def plural(count: int, word: str) -> str:
    """Format a count with its noun: `1 epoch`, `2 epochs`."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
