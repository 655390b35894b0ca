"""The `distill` command: its sub-commands, and the one place where errors become messages and exit codes.

Heavy imports are inside the commands that need them, so that `distill --help` answers at once.
"""

import logging
import os
import re
import sys
import warnings
from contextlib import suppress
from typing import Annotated, Any, NoReturn

import typer

from distill import __version__
from distill.cli import codes, exchange, generate, inspect, models, new_sounds, reconstruct, sharing, train, web
from distill.cli.help import in_plain_words
from distill.cli.messages import COMMAND_LINE, NoticeFormatter
from distill.cli.streams import flush_output, open_streams, say
from distill.errors import DistillError
from distill.signals import Stopped, raise_when_asked_to_stop

app = typer.Typer(
    name="distill",
    help="Train a generative audio model on your own small collection of sounds, and see what it learnt.",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,  # `main` words all errors
    rich_markup_mode=None,
)
app.command("inspect")(inspect.inspect)
app.command("train")(train.train)
app.command("reconstruct")(reconstruct.reconstruct)
app.command("generate")(generate.generate)
app.command("vary")(new_sounds.vary)
app.command("extend")(new_sounds.extend)
app.command("inpaint")(new_sounds.inpaint)
app.command("morph")(new_sounds.morph)
app.command("encode")(codes.encode)
app.command("decode")(codes.decode)
app.command("export")(exchange.export_model)
app.command("import")(exchange.import_model)
app.command("push")(sharing.push)
app.command("pull")(sharing.pull)
app.command("web")(web.web)
app.add_typer(models.app, name="models")

_COMPLETION = "_DISTILL_COMPLETE"

# The base class of all errors of the parser, for which typer has no public name.
_UsageError: Any = typer.BadParameter.__bases__[0]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"distill {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    del version, debug  # --version has a callback; --debug is looked for in `main`
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main() -> NoReturn:
    """Run the command line; every error becomes one line, with exit code 2 for wrong usage and 1 for the rest."""
    # Before anything is done: what is opened next would get the number of the closed stream.
    if not open_streams():
        _exit_with("error: standard output is closed; send it to a file, or to /dev/null", 1)
    if logging.lastResort:  # prints the warnings of commands that have no handler of their own
        logging.lastResort.setFormatter(NoticeFormatter())
    raise_when_asked_to_stop()
    if not sys.warnoptions and "--debug" not in sys.argv:
        warnings.simplefilter("ignore")  # those of libraries are for programmers
    try:
        code = _run(sys.argv[1:])
        flush_output()  # here, where an error still becomes a message
    except _UsageError as error:
        _exit_with(f"error: {_usage(error)}", 2)
    except (KeyboardInterrupt, typer.Abort) as stop:
        _exit_with("stopped", stop.exit_code if isinstance(stop, Stopped) else 130)
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        _exit_with(f"error: {_reason(error)}", 1)
    raise SystemExit(code)


def _run(arguments: list[str]) -> int:
    """Run a command and return its exit code; unlike typer's own `main`, it lets every exception pass."""
    if any(re.fullmatch("|--[a-z-]+=", argument) for argument in arguments):  # as a path, "" is the current folder
        raise typer.BadParameter("an argument is empty; give it a value, or leave it out")
    command = in_plain_words(typer.main.get_command(app))
    if _COMPLETION in os.environ:  # a shell asks what could come next
        command.main(prog_name="distill")
    try:
        with command.make_context("distill", arguments) as context:
            command.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    return 0


def _usage(error: Any) -> str:
    """The parser's message, and the help to read."""
    from distill.schema import plain

    message = plain(error.format_message()).removeprefix("Invalid value: ").rstrip(".")
    command = error.ctx.command_path if error.ctx else "distill"
    return f"{message[:1].lower()}{message[1:]}; see `{command} --help`"


def _reason(error: Exception) -> str:
    match error:
        case DistillError():
            return error.worded(COMMAND_LINE)
        case MemoryError():
            return "out of memory; try a smaller --batch-size or fewer, shorter files"
        case BrokenPipeError():
            return "the program reading the output has gone away"
        case OSError(filename=None):  # not about a file, so about writing to a stream
            return f"the output cannot be written: {error.strerror or error}"
        case OSError():
            return f"{error.filename}: {error.strerror}"
    return f"unexpected {type(error).__name__}: {error} (a fault in distill; `distill --debug …` shows where)"


def _exit_with(message: str, code: int) -> NoReturn:
    with suppress(OSError):  # the message is about that very error, or about something worse
        flush_output()
    say(message)
    raise SystemExit(code)
