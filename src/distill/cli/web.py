"""`distill web`: the web app on this machine."""

from typing import Annotated

import typer

from distill.cli.options import ModelsDir

_PORT = 8713
_ELSEWHERE = (
    "warning: {host} can be reached from other machines. Whoever sees the address below, or listens in on the network "
    "(nothing is encrypted), can read your library, and folders of sounds on this machine, and can start trainings."
)


def web(
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on; 0 takes any free one.")] = _PORT,
    host: Annotated[
        str, typer.Option(help="The address to listen on; any other than the default lets other machines in.")
    ] = "127.0.0.1",
    models_dir: ModelsDir = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
) -> None:
    """Open the web app: import sounds, train, watch, listen and keep models, in a browser on this machine."""
    from distill.cli.console import out
    from distill.home import default_models_dir
    from distill.web.guard import is_loopback
    from distill.web.server import serve

    if not is_loopback(host):
        out.print(_ELSEWHERE.format(host=host), style="yellow", markup=False, highlight=False)
    serve(
        host,
        port,
        models_dir or default_models_dir(),
        browser,
        lambda line: out.print(line, markup=False, highlight=False, soft_wrap=True),
    )
