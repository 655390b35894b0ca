"""A progress bar for reading files."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from distill.cli.console import err
from distill.data.collection import Progress as OnProgress


@contextmanager
def file_progress(quiet: bool = False) -> Iterator[OnProgress]:
    """Yield a `progress(done, total)` that draws a bar on a terminal, and nothing elsewhere."""
    # On stderr, so that stdout has results only.
    columns = TextColumn("reading sounds"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, console=err, transient=True, disable=quiet or not err.is_terminal) as bar:
        task = bar.add_task("files", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
