"""Progress bars: for reading files, and for making sounds."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from distill.cli.console import err
from distill.data.collection import Progress as OnProgress


@contextmanager
def file_progress(quiet: bool = False) -> Iterator[OnProgress]:
    """Yield a `progress(done, total)` that draws a bar on a terminal, and nothing elsewhere."""
    with _bar("reading sounds", quiet) as bar:
        task = bar.add_task("files", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def sound_progress(total: int, quiet: bool = False) -> Iterator[Callable[[], None]]:
    """Yield a function to be called after each of `total` sounds; it draws as `file_progress` does."""
    with _bar("making sounds", quiet) as bar:
        task = bar.add_task("sounds", total=total)
        yield lambda: bar.advance(task)


def _bar(label: str, quiet: bool) -> Progress:
    # On stderr, so that stdout has results only.
    columns = TextColumn(label), BarColumn(), MofNCompleteColumn()
    return Progress(*columns, console=err, transient=True, disable=quiet or not err.is_terminal)
