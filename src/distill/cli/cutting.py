"""`--cut`: a folder's recordings cut into sounds before they are trained on."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distill.cli.messages import COMMAND_LINE
from distill.paths import printable

if TYPE_CHECKING:
    from distill.audio.limits import AudioLimits

CutOption = Annotated[
    str | None,
    typer.Option(
        "--cut",
        metavar="silence|SECONDS",
        help="First cut long recordings into sounds: where they are silent, or into equal lengths.",
    ),
]


@dataclass(frozen=True)
class Cutting:
    """How to cut recordings: every so many `seconds`, or where they are silent."""

    seconds: float | None

    def files(self, recordings: list[Path], folder: Path, limits: "AudioLimits", *, quiet: bool) -> list[Path]:
        """The sounds that recordings are cut into, in `folder`; says what it did, and which could not be read.

        Raises `CollectionError`, `ConfigError`, `StorageError`.
        """
        from distill.cli.console import err, plural
        from distill.cli.progress import file_progress
        from distill.data.cutting import cut_recordings

        with file_progress(quiet) as progress:
            cut = cut_recordings(recordings, folder, self.seconds, limits=limits, progress=progress)
        list_files("left out", [(file.path, file.worded(COMMAND_LINE)) for file in cut.unreadable])
        read = plural(len(recordings) - len(cut.unreadable), "recording")
        err.print(f"cut {read} into {len(cut.pieces)} sounds, which are in {folder}", markup=False)
        return list(cut.pieces)


def cutting(context: typer.Context, given: str | None) -> Cutting | None:
    """What `--cut` asks for, None without it; raises `BadParameter`."""
    if given is None:
        return None
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise typer.BadParameter("--cut needs a single process; train without torchrun", ctx=context)
    if given == "silence":
        return Cutting(None)
    try:
        return Cutting(float(given))
    except ValueError:
        raise typer.BadParameter(f"--cut {given}: give silence, or a number of seconds", ctx=context) from None


def list_files(what: str, files: list[tuple[Path, str]]) -> None:
    """Say what becomes of some files, with a remark on each, or if they are many, how many."""
    from distill.cli.console import err

    for path, remark in files[:10]:
        err.print(f"{what}: {printable(path)}: {remark}", style="yellow", markup=False)
    if len(files) > 10:
        err.print(f"{what}: {len(files) - 10} more; `distill inspect` lists them", style="yellow")
