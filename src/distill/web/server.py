"""The server of `distill web`: a socket, a token, and an orderly end."""

import secrets
import socket
import threading
import webbrowser
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from pathlib import Path

import uvicorn

from distill.errors import ConfigError
from distill.home import default_runs_dir, home
from distill.library.catalog import ModelLibrary
from distill.signals import stopping_in_order
from distill.storage import temporary_folder
from distill.web.app import create_app
from distill.web.folders import Folders
from distill.web.guard import own_hosts
from distill.web.run_queue import RunQueue
from distill.web.state import AppState
from distill.web.tray import Tray

_HERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # where this machine reaches a server that listens on all addresses
_GRACE_S = 2  # for requests under way when the server is stopped


def serve(host: str, port: int, models_dir: Path, open_page: bool, say: Callable[[str], None]) -> None:
    """Serve the web app until Ctrl-C, SIGTERM or SIGHUP, then stop a training that is going on, with its checkpoint.

    Raises `ConfigError` when the address cannot be used, `StorageError`.
    """
    with listen(host, port) as listener, temporary_folder(home() / "cache") as work:
        port = listener.getsockname()[1]  # the one that was free, if 0 was asked for
        state = AppState(
            library=ModelLibrary(models_dir),
            folders=Folders(home() / "collections"),
            runs=RunQueue(default_runs_dir()),
            work=work,
            tray=Tray(home() / "kept"),
        )
        state.library.forget_discarded()
        state.tray.forget_removed()
        token = secrets.token_urlsafe(24)
        # Cookies do not tell ports apart, so each server needs a name of its own for its.
        app = create_app(state, token, own_hosts(host, port), cookie=f"distill-{port}")
        server = PageServer(
            uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=_GRACE_S), state
        )
        with stopping_in_order(server.stop), closing(state.runs):
            here = _HERE.get(host, host)
            shown_host = f"[{here}]" if ":" in here else here
            _announce(f"http://{shown_host}:{port}/?token={token}", len(state.runs.jobs()), open_page, say)
            server.run(sockets=[listener])
            state.folders.close()  # a scan must not hold up the end
            with suppress(OSError):  # the terminal may be what has gone
                _say_what_remains(state.runs, say)


def _announce(address: str, queued: int, open_page: bool, say: Callable[[str], None]) -> None:
    """Say where the page is, and open it; the socket is listening by now."""
    say(f"distill is running at {address}\nPress Ctrl-C to stop it; a training in progress can be resumed later.")
    if queued:
        say("continuing 1 queued run" if queued == 1 else f"continuing {queued} queued runs")
    if open_page:
        # In a thread, because some browsers return only when they are closed.
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()


def _say_what_remains(runs: RunQueue, say: Callable[[str], None]) -> None:
    if jobs := runs.jobs():
        then = "will wait until distill is started again" if runs.is_persistent else "will be forgotten"
        say("stopping the training, with a checkpoint …" + (f"; {len(jobs) - 1} more {then}" if jobs[1:] else ""))


class PageServer(uvicorn.Server):
    """A server that ends open event streams before it stops, because they would hold it up."""

    def __init__(self, config: uvicorn.Config, state: AppState) -> None:
        super().__init__(config)
        self._app_state = state

    def stop(self) -> None:
        """Have the server end soon."""
        self.should_exit = True

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        """Leave the signals to `serve`: uvicorn would repeat them at its end, and SIGTERM would end the process."""
        return nullcontext()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams, then the server."""
        self._app_state.closing.set()
        await super().shutdown(sockets)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at an address, at any free port if it is 0; raises `ConfigError` if that is impossible."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only if the protocol is named; without it, each response would wait 40 ms for the next.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        # Or a restart has to wait for the same port; on Windows it has not, and two servers could share one.
        option = getattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_REUSEADDR)
        listener.setsockopt(socket.SOL_SOCKET, option, 1)
        listener.bind((host, port))
        listener.listen()  # here, where a port that is taken is found out, and before the address is told
    except OSError as error:
        listener.close()
        reason = error.strerror or error
        raise ConfigError(f"cannot serve at {host}, port {port}: {reason}", "choose another port") from error
    return listener
