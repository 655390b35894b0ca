"""Options that several commands share."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from distill.audio.limits import AudioLimits


class DeviceName(StrEnum):
    """Where to compute."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class FamilyName(StrEnum):
    """The model families."""

    vqvae = "vqvae"
    vae = "vae"


ModelArgument = Annotated[str, typer.Argument(help="A model: its file, its name, or its id.")]
ModelsDir = Annotated[
    Path | None, typer.Option("--models-dir", help="The library to use.", show_default="your distill library")
]
Limits = Annotated[
    list[str] | None,
    typer.Option(
        "--limit",
        metavar="NAME=VALUE",
        help="Raise a limit on sound files: hours, gib, channels, min_hz, max_hz.",
    ),
]
Device = Annotated[DeviceName, typer.Option("--device", help="Where to compute.")]


def audio_limits(context: typer.Context, given: list[str] | None) -> "AudioLimits":
    """The limits with what `--limit` gives; raises `BadParameter` for an unknown name or a bad value."""
    from distill.audio.limits import AudioLimits
    from distill.errors import ConfigError

    values: dict[str, Any] = dict(item.partition("=")[::2] for item in given or [])
    try:
        return AudioLimits(**values)
    except ConfigError as error:
        raise typer.BadParameter(f"--limit: {error}", ctx=context) from None
