"""`distill export` and `distill import`: models for other programs, and from elsewhere."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from distill.cli.options import ModelArgument, ModelsDir


class Format(StrEnum):
    """The formats that a model can be exported to."""

    safetensors = "safetensors"
    onnx = "onnx"


def export_model(
    model: ModelArgument,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The file to write, for onnx a folder.", show_default="the model's name, here"
        ),
    ] = None,
    format: Annotated[
        Format, typer.Option(help="Weights and JSON, or networks that run without distill.")
    ] = Format.safetensors,
    models_dir: ModelsDir = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there already.")] = False,
) -> None:
    """Export a model for other programs: its weights and metadata, or its networks as ONNX."""
    from distill.cli.console import out
    from distill.errors import StorageError
    from distill.home import default_models_dir
    from distill.library.catalog import locate

    library, entry = locate(model, models_dir or default_models_dir())
    target = output or Path(Path(entry.file).stem + ("-onnx" if format is Format.onnx else f".{format.value}"))
    if target.exists() and not overwrite:
        raise StorageError(f"{target} is there already; choose another file with -o, or give --overwrite")
    for path in _export(library.path(entry), target, format):
        out.print(f"{entry.name} → {path}", markup=False)


def _export(model: Path, target: Path, format: Format) -> list[Path]:
    if format is Format.onnx:
        from distill.models.onnx_export import export_onnx
        from distill.models.persistence import load_any

        return export_onnx(load_any(model), target)
    from distill.models.exchange import export_safetensors

    return [export_safetensors(model, target)]


def import_model(
    file: Annotated[Path, typer.Argument(help="A .distill or .safetensors file, from anybody.")],
    models_dir: ModelsDir = None,
) -> None:
    """Check a model file from elsewhere and add it to your library; nothing in it is ever run."""
    from distill.cli.console import out
    from distill.home import default_models_dir
    from distill.models.exchange import import_model as import_file

    out.print(f"{file} → {import_file(file, models_dir or default_models_dir())}", markup=False)
