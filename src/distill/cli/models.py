"""`distill models`: the library on the command line."""

import dataclasses
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from distill.cli.options import ModelArgument, ModelsDir
from distill.errors import LibraryError
from distill.paths import printable

if TYPE_CHECKING:
    from pathlib import Path

    from distill.library.catalog import ModelEntry, ModelLibrary

app = typer.Typer(help="List, show, rename and delete the models in your library.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


class Sort(StrEnum):
    """The orders in which models can be listed."""

    date = "date"
    name = "name"
    loss = "loss"
    size = "size"


@app.callback(invoke_without_command=True)
def _help(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _library(models_dir: "Path | None") -> "ModelLibrary":
    from distill.home import default_models_dir
    from distill.library.catalog import ModelLibrary

    return ModelLibrary(models_dir or default_models_dir())


def _locate(model: str, models_dir: "Path | None") -> "tuple[ModelLibrary, ModelEntry]":
    from distill.library.catalog import locate

    return locate(model, _library(models_dir).folder)


@app.command("list")
def list_models(
    search: Annotated[str, typer.Option(help="Only models with these words in their name, data set or id.")] = "",
    sort: Annotated[Sort, typer.Option(help="Newest, name, best loss or largest first.")] = Sort.date,
    models_dir: ModelsDir = None,
    json: Json = False,
) -> None:
    """List the models in the library."""
    from distill.cli.console import print_json

    library = _library(models_dir)
    entries = library.search(search, sort.value)
    if json:
        print_json([dataclasses.asdict(entry) | {"path": str(library.path(entry))} for entry in entries])
    else:
        _print_table(library, entries, search)


def _print_table(library: "ModelLibrary", entries: "list[ModelEntry]", search: str) -> None:
    from rich.markup import escape
    from rich.table import Table

    from distill.cli.console import out, size

    if not entries:
        out.print(f"no model{' matches ' + repr(search) if search else ''} in {library.folder}", markup=False)
        return
    table = Table("name", "id", "saved", "data set", "levels", "codes", "loss", "size", box=None, header_style="bold")
    for entry in entries:
        row = (
            entry.name,
            entry.model_id[:8],
            entry.save_date[:16].replace("T", " "),
            entry.dataset_name,
            str(entry.num_quantizers or ""),
            str(entry.codebook_size or ""),
            "" if entry.val_loss is None else f"{entry.val_loss:.4f}",
            size(entry.size_bytes),
        )
        table.add_row(*(escape(printable(cell)) for cell in row))
    out.print(table)
    for entry in entries:
        if entry.problem:
            out.print(f"{printable(entry.file)} cannot be loaded: {entry.problem}", style="yellow", markup=False)


@app.command("show")
def show_model(model: ModelArgument, models_dir: ModelsDir = None, json: Json = False) -> None:
    """Show where a model comes from, its settings and its codebook health."""
    from distill.cli.console import out, print_json
    from distill.cli.messages import COMMAND_LINE
    from distill.cli.tables import level_table
    from distill.library.header import read_header

    library, entry = _locate(model, models_dir)
    path = library.path(entry)
    header = read_header(path)
    if json:
        print_json(dataclasses.asdict(header) | {"path": str(path)})
        return
    about = {"file": path, "model_type": header.model_type, "sample_rate": header.sample_rate}
    facts = about | header.facts() | header.settings
    for name, value in facts.items():
        out.print(f"{printable(name):>24}  {printable(str(value))}", markup=False)
    if header.lacks:
        out.print(f"{'lacks':>24}  {', '.join(header.lacks)}", markup=False)
    for remark in header.remarks:
        out.print(f"{'note':>24}  {remark.worded(COMMAND_LINE)}", markup=False)
    for name, (low, high) in header.safe_ranges().items():
        out.print(f"{printable(name):>24}  {low:+.1f} to {high:+.1f}  (for `distill generate --set`)", markup=False)
    codes = header.settings.get("codebook_size")
    if header.health and codes:
        out.print()
        out.print(level_table(header.health, codes, header.metadata.validation_vectors))


@app.command("rename")
def rename_model(
    model: ModelArgument,
    name: Annotated[str, typer.Argument(help="The new name.")],
    models_dir: ModelsDir = None,
) -> None:
    """Give a model another name."""
    from distill.cli.console import out
    from distill.models.persistence import rename_model as rename

    library, entry = _locate(model, models_dir)
    out.print(f"{entry.name} is now {name}: {rename(library, entry, name)}", markup=False)


@app.command("describe")
def describe_model(
    model: ModelArgument,
    author: Annotated[str | None, typer.Option(help="Who made it.")] = None,
    licence: Annotated[
        str | None, typer.Option(help="The licence of the sounds it was trained on, such as CC0-1.0.")
    ] = None,
    tags: Annotated[
        list[str] | None, typer.Option("--tag", help="A word by which it can be found; give it again for more.")
    ] = None,
    models_dir: ModelsDir = None,
) -> None:
    """Say in a model's file who made it, under which licence its sounds are, and what it is about."""
    from distill.cli.console import out
    from distill.models.persistence import describe_model as describe

    given = {"author": author, "licence": licence, "tags": tags}
    about = {name: value for name, value in given.items() if value is not None}
    if not about:
        raise typer.BadParameter("there is nothing to say; give --author, --licence or --tag")
    library, entry = _locate(model, models_dir)
    out.print(f"{entry.name}: {describe(library, entry, **about)}", markup=False)


@app.command("delete")
def delete_model(
    model: ModelArgument,
    models_dir: ModelsDir = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
) -> None:
    """Delete a model and its file."""
    from distill.cli.console import out

    library, entry = _locate(model, models_dir)
    if not yes:
        if not sys.stdin.isatty():  # a question that nobody can answer must not count as a yes
            raise LibraryError(f"deleting {entry.name!r} needs a yes; without a terminal, give --yes")
        if not typer.confirm(printable(f"Delete {entry.name} ({library.path(entry)})?")):
            raise LibraryError(f"{entry.name!r} was not deleted")
    library.delete(entry)  # not by its id, which copies made by hand share
    out.print(f"deleted {entry.name}", markup=False)


@app.command("rebuild")
def rebuild_index(models_dir: ModelsDir = None) -> None:
    """Rebuild the library's index from the model files."""
    from distill.cli.console import out

    library = _library(models_dir)
    out.print(f"{len(library.rebuild())} models in {library.folder}", markup=False)
