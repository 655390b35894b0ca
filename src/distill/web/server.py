"""The server of `distill web`: a socket, a token, and an orderly end."""

import secrets
import socket
import tempfile
import threading
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import uvicorn

from distill.errors import ConfigError
from distill.home import default_runs_dir, home
from distill.library.catalog import ModelLibrary
from distill.web.app import create_app
from distill.web.folders import Folders
from distill.web.guard import own_hosts
from distill.web.run_queue import RunQueue
from distill.web.state import AppState

_GRACE_S = 2  # for requests under way when the server is stopped


def serve(host: str, port: int, models_dir: Path, open_page: bool, say: Callable[[str], None]) -> None:
    """Serve the web app until Ctrl-C, then stop a training that is going on, with its checkpoint.

    Raises `ConfigError` when the address cannot be used.
    """
    with listen(host, port) as listener, tempfile.TemporaryDirectory(prefix="distill-") as work:
        port = listener.getsockname()[1]  # the one that was free, if 0 was asked for
        state = AppState(
            library=ModelLibrary(models_dir),
            folders=Folders(home() / "collections"),
            runs=RunQueue(default_runs_dir()),
            work=Path(work),
        )
        state.library.forget_discarded()
        token = secrets.token_urlsafe(24)
        # Cookies do not tell ports apart, so each server needs a name of its own for its.
        app = create_app(state, token, own_hosts(host, port), cookie=f"distill-{port}")
        shown_host = f"[{host}]" if ":" in host else host
        address = f"http://{shown_host}:{port}/?token={token}"
        say(f"distill is running at {address}\nPress Ctrl-C to stop it; a training in progress can be resumed later.")
        if jobs := state.runs.jobs():
            say("continuing 1 queued run" if len(jobs) == 1 else f"continuing {len(jobs)} queued runs")
        if open_page:
            # In a thread, because some browsers return only when they are closed.
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        server = PageServer(
            uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=_GRACE_S), state
        )
        with suppress(KeyboardInterrupt):  # uvicorn raises it again after its own end
            server.run(sockets=[listener])
        state.folders.close()  # a scan must not hold up the end
        if jobs := state.runs.jobs():
            then = "will wait until distill is started again" if state.runs.is_persistent else "will be forgotten"
            say("stopping the training, with a checkpoint …" + (f"; {len(jobs) - 1} more {then}" if jobs[1:] else ""))
        state.runs.close()


class PageServer(uvicorn.Server):
    """A server that ends open event streams before it stops, because they would hold it up."""

    def __init__(self, config: uvicorn.Config, state: AppState) -> None:
        super().__init__(config)
        self._app_state = state

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams, then the server."""
        self._app_state.closing.set()
        await super().shutdown(sockets)


def listen(host: str, port: int) -> socket.socket:
    """Bind a socket to an address, at any free port if it is 0; raises `ConfigError` when that is impossible."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only if the protocol is named; without it, each response would wait 40 ms for the next.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # or a restart has to wait for the same port
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        reason = error.strerror or error
        raise ConfigError(f"cannot serve at {host}, port {port}: {reason}", "choose another port") from error
    return listener
