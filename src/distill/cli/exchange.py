"""`distill export` and `distill import`: models for other programs, and from elsewhere."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from distill.cli.options import ModelArgument, ModelsDir


class Format(StrEnum):
    """The formats that a model can be exported to."""

    safetensors = "safetensors"


def export_model(
    model: ModelArgument,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write.", show_default="the model's name, here")
    ] = None,
    format: Annotated[Format, typer.Option(help="Weights and JSON, readable by many programs.")] = Format.safetensors,
    models_dir: ModelsDir = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there already.")] = False,
) -> None:
    """Export a model for other programs: weights and metadata, and nothing that could run."""
    from distill.cli.console import out
    from distill.errors import StorageError
    from distill.home import default_models_dir
    from distill.library.catalog import locate
    from distill.models.exchange import export_safetensors

    library, entry = locate(model, models_dir or default_models_dir())
    target = output or Path(Path(entry.file).stem + f".{format.value}")
    if target.exists() and not overwrite:
        raise StorageError(f"{target} is there already; choose another file with -o, or give --overwrite")
    out.print(f"{entry.name} → {export_safetensors(library.path(entry), target)}", markup=False)


def import_model(
    file: Annotated[Path, typer.Argument(help="A .distill or .safetensors file, from anybody.")],
    models_dir: ModelsDir = None,
) -> None:
    """Check a model file from elsewhere and add it to your library; nothing in it is ever run."""
    from distill.cli.console import out
    from distill.home import default_models_dir
    from distill.models.exchange import import_model as import_file

    out.print(f"{file} → {import_file(file, models_dir or default_models_dir())}", markup=False)
