"""Options and arguments that several commands share."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from distill.audio.limits import AudioLimits
    from distill.families import Family


class DeviceName(StrEnum):
    """The devices that can be asked for."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


ModelArgument = Annotated[str, typer.Argument(help="A model: its file, its name, or its id.")]
ModelsDir = Annotated[
    Path | None, typer.Option("--models-dir", help="The library to use.", show_default="your distill library")
]
Limits = Annotated[
    list[str] | None,
    typer.Option(
        "--limit",
        metavar="NAME=VALUE",
        help="Raise a limit on sound files: hours, gib, channels, min_hz, max_hz, min_dbfs.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that are there already.")]
Count = Annotated[int, typer.Option("-n", "--count", min=1, max=10_000, help="The number of sounds.")]
Seed = Annotated[
    int | None,
    typer.Option(
        min=0, max=2**32 - 1, help="Same seed, same sound; the next has the next.", show_default="the first not there"
    ),
]
Device = Annotated[DeviceName, typer.Option("--device", help="The device to compute on.")]


def _ring_at_end(context: typer.Context, wanted: bool) -> bool:
    if wanted:
        context.call_on_close(_ring)
    return wanted


def _ring() -> None:
    from distill.cli.console import err

    if err.is_terminal:
        err.bell()


Bell = Annotated[
    bool, typer.Option("--bell", callback=_ring_at_end, help="Ring the terminal's bell at the end, however it ends.")
]


def audio_limits(context: typer.Context, given: list[str] | None) -> "AudioLimits":
    """The limits on sound files, as changed by `--limit`; raises `BadParameter` for an unknown name or a bad value."""
    from distill.audio.limits import AudioLimits
    from distill.errors import ConfigError

    # Still text: `AudioLimits` parses and checks it.
    values: dict[str, Any] = dict(item.partition("=")[::2] for item in given or [])
    try:
        return AudioLimits(**values)
    except ConfigError as error:
        raise typer.BadParameter(f"--limit: {error}", ctx=context) from None


def family_named(context: typer.Context, name: str | None) -> "Family":
    """The family named by `--model`, the default one if it is not given; raises `BadParameter`."""
    from distill.families import all_families

    families = {family.name: family for family in all_families()}
    if name is not None and name not in families:
        raise typer.BadParameter(f"--model: {name!r} is not one of {', '.join(families)}", ctx=context)
    return families[name] if name is not None else next(iter(families.values()))
