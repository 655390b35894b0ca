"""The `distill` command: its sub-commands, and how errors leave it.

Heavy imports stand inside the commands that need them, so that `distill --help` answers at once.
"""

import logging
import re
import sys
from contextlib import suppress
from typing import Annotated, Any, NoReturn

import typer

from distill import __version__
from distill.cli import exchange, generate, inspect, models, reconstruct, train, web
from distill.cli.messages import COMMAND_LINE, NoticeFormatter
from distill.cli.streams import flush_output, open_streams, say
from distill.errors import DistillError

app = typer.Typer(
    name="distill",
    help="Train a generative audio model on your own small collection of sounds, and see what it learnt.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("inspect")(inspect.inspect)
app.command("train")(train.train)
app.command("reconstruct")(reconstruct.reconstruct)
app.command("generate")(generate.generate)
app.command("export")(exchange.export_model)
app.command("import")(exchange.import_model)
app.command("web")(web.web)
app.add_typer(models.app, name="models")

# What all complaints of the parser derive from; typer has no public name for it.
_UsageError: Any = typer.BadParameter.__bases__[0]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"distill {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    del version, debug  # --version acts by itself; --debug is looked for in main
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main() -> NoReturn:
    """Run the command line; every error becomes one line, with exit code 2 for wrong usage and 1 for the rest."""
    if not open_streams():
        _leave("error: standard output is closed; send it to a file, or to /dev/null", 1)
    if logging.lastResort:  # it prints the warnings that no command shows in a way of its own
        logging.lastResort.setFormatter(NoticeFormatter())
    try:
        code = _run(sys.argv[1:])
        flush_output()
    except _UsageError as error:
        _leave(f"error: {_usage(error)}", 2)
    except (KeyboardInterrupt, typer.Abort):
        _leave("stopped", 130)
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        _leave(f"error: {_reason(error)}", 1)
    raise SystemExit(code)


def _run(arguments: list[str]) -> int:
    """Run a command and return its exit code; unlike typer's own way, no exception is dealt with on the way."""
    if any(re.fullmatch("|--[a-z-]+=", argument) for argument in arguments):  # as a path it would be the folder here
        raise typer.BadParameter("an argument is empty; give it a value, or leave it out")
    command = typer.main.get_command(app)
    try:
        with command.make_context("distill", arguments) as context:
            command.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    return 0


def _usage(error: Any) -> str:
    """What is wrong with the arguments, and where to read what is right."""
    message = error.format_message().removeprefix("Invalid value: ").rstrip(".")
    command = error.ctx.command_path if error.ctx else "distill"
    return f"{message[:1].lower()}{message[1:]}; see `{command} --help`"


def _reason(error: Exception) -> str:
    match error:
        case DistillError():
            return error.worded(COMMAND_LINE)
        case MemoryError():
            return "out of memory; try a smaller --batch-size or fewer, shorter files"
        case BrokenPipeError():
            return "what reads the output has gone away"
        case OSError(filename=None):
            return f"the output cannot be written: {error.strerror or error}"
        case OSError():
            return f"{error.filename}: {error.strerror}"
    return f"unexpected {type(error).__name__}: {error} (a fault in distill; `distill --debug …` shows where)"


def _leave(message: str, code: int) -> NoReturn:
    with suppress(OSError):  # it is what the message is about, or the lesser trouble
        flush_output()
    say(message)
    raise SystemExit(code)
