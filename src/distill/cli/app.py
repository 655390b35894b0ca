"""The `distill` command: its sub-commands, and how errors leave it.

Heavy imports stand inside the commands that need them, so that `distill --help` answers at once.
"""

import os
import sys
from typing import Annotated

import typer

from distill import __version__
from distill.cli import generate, inspect, models, reconstruct, train
from distill.errors import DistillError
from distill.paths import shown

app = typer.Typer(
    name="distill",
    help="Train a generative audio model on your own small collection of sounds, and see what it learnt.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("inspect")(inspect.inspect)
app.command("train")(train.train)
app.command("reconstruct")(reconstruct.reconstruct)
app.command("generate")(generate.generate)
app.add_typer(models.app, name="models")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"distill {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    del version, debug  # --version acts by itself; --debug is looked for in main


def main() -> None:
    """Run the command line; every error becomes one sentence and exit code 1, unless `--debug` was given."""
    try:
        app()
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except DistillError as error:
        if "--debug" in sys.argv:
            raise
        _fail(str(error))
    except MemoryError:
        _fail("out of memory; try a smaller --batch-size or fewer, shorter files")
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        _fail(f"unexpected {type(error).__name__}: {error} (a fault in distill; `distill --debug …` shows where)")


def _fail(message: str) -> None:
    print("error:", shown(" ".join(message.split())), file=sys.stderr)  # noqa: T201
    raise SystemExit(1)
