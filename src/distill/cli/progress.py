"""Progress while files are read."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from distill.audio.limits import AudioLimits
from distill.cli.console import err
from distill.data.collection import Collection, scan
from distill.data.collection import Progress as OnProgress


@contextmanager
def file_progress(quiet: bool = False) -> Iterator[OnProgress]:
    """A `progress(done, total)` that draws a bar on the terminal, and nothing where there is none."""
    columns = TextColumn("reading sounds"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, console=err, transient=True, disable=quiet or not err.is_terminal) as bar:
        task = bar.add_task("files", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def scanned(paths: Sequence[Path], limits: AudioLimits, quiet: bool = False) -> Collection:
    """`scan` with a bar."""
    with file_progress(quiet) as progress:
        return scan(paths, progress, limits)
