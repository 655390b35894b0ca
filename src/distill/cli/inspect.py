"""`distill inspect`: a report on a folder of sounds, to be read before training on it."""

import dataclasses
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distill.cli.messages import COMMAND_LINE
from distill.cli.options import Json, Limits, audio_limits

if TYPE_CHECKING:
    from distill.data.collection import Collection, Found


def inspect(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="The folder with your sounds; subfolders are included.")],
    limit: Limits = None,
    json: Json = False,
) -> None:
    """Look through a folder of sounds: what is in it, what is odd, and what cannot be read and why."""
    from distill.cli.console import print_json
    from distill.cli.progress import file_progress
    from distill.data.collection import find_sounds
    from distill.data.opening import open_collection

    limits = audio_limits(context, limit)
    found = find_sounds(folder)
    with file_progress(quiet=json) as progress:
        collection = open_collection(found.sounds, progress=progress, limits=limits)
    if json:
        print_json(_as_json(folder, found, collection))
    else:
        _show(folder, found, collection)


def _as_json(folder: Path, found: "Found", collection: "Collection") -> dict[str, object]:
    return {
        "folder": str(folder),
        "files": [
            {**dataclasses.asdict(file), "usable": file.usable, "notes": file.notes} for file in collection.files
        ],
        "unreadable": [{"path": file.path, "reason": file.worded(COMMAND_LINE)} for file in collection.unreadable],
        "passed_over": found.others,
        "usable_files": len(collection.usable),
        "duration_s": collection.duration_s,
    }


def _show(folder: Path, found: "Found", collection: "Collection") -> None:
    from rich.markup import escape
    from rich.table import Table

    from distill.cli.console import duration, out
    from distill.paths import printable

    table = Table("file", "duration", "rate", "channels", "format", "peak", "notes", box=None, header_style="bold")
    for file in collection.files:
        table.add_row(
            escape(printable(file.path.relative_to(folder))),
            duration(file.duration_s),
            f"{file.sample_rate} Hz",
            str(file.channels),
            file.format,
            f"{file.peak:.2f}",
            escape("; ".join(file.notes)),
        )
    if collection.files:
        out.print(table)
    for unreadable in collection.unreadable:
        out.print(
            f"not readable: {printable(unreadable.path.relative_to(folder))}: {unreadable.worded(COMMAND_LINE)}",
            style="red",
            markup=False,
        )
    out.print(
        f"\n{len(collection.files)} files, {duration(collection.duration_s)}; "
        f"{len(collection.usable)} usable for training; {len(collection.unreadable)} not readable"
    )
    for title, counts in (
        ("rates", collection.count(lambda file: f"{file.sample_rate} Hz")),
        ("channels", collection.count(lambda file: file.channels)),
        ("formats", collection.count(lambda file: file.format)),
        # Counted by kind, without what differs from file to file, as in "duplicate of …".
        ("notes", Counter(re.split(": | of ", note)[0] for file in collection.files for note in file.notes)),
    ):
        if counts:
            out.print(f"{title}: " + ", ".join(f"{value} ({n})" for value, n in counts.items()))
    if found.others:
        out.print(found.passed_over, markup=False)
