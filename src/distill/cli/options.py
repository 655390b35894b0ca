"""Options that several commands share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


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
Device = Annotated[DeviceName, typer.Option("--device", help="Where to compute.")]
