"""The web app on a socket of its own, in this process."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import uvicorn

from distill.library.catalog import ModelLibrary
from distill.web import feed, folders
from distill.web.app import create_app
from distill.web.folders import Folders
from distill.web.guard import own_hosts
from distill.web.run_queue import RunQueue
from distill.web.server import PageServer, listen
from distill.web.state import AppState
from distill.web.tray import Tray
from support.runs import make_runs_quick
from support.waiting import PATIENCE_S, until

TOKEN = "the-token-of-this-test"
LONG = 100_000  # epochs: no run gets to their end


@dataclass(frozen=True)
class Web:
    """A server that is up, its state, and a client that is let in."""

    state: AppState
    address: str
    client: httpx.Client

    def get(self, path: str, /, **query):
        answer = self.client.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, /, **body):
        answer = self.client.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def wait(self, path: str, /, **wanted):
        """What `path` gives, as soon as these fields of it are so; a run that is over becomes nothing else."""
        found = []

        def is_so() -> bool:
            found.append(self.get(path))
            so = all(found[-1][name] == value for name, value in wanted.items())
            assert so or "runs" not in path or found[-1]["state"] not in ("finished", "failed"), found[-1]
            return so

        until(is_so, lambda: f"{path} is {found[-1]}, not {wanted}")
        return found[-1]

    def opened(self, folder: Path):
        """The report on a folder, looked through."""
        key = self.post("/api/collections", path=str(folder))["id"]
        return self.wait(f"/api/collections/{key}", state="ready")


@contextlib.contextmanager
def web_server(home: Path) -> Iterator[Web]:
    """A server whose library, runs and uploads lie below `home`, with narrow nets and no pictures of runs.

    It looks for news ten times as often as usual, and answers a request for a folder once it has found its files.
    """
    with pytest.MonkeyPatch.context() as patch, listen("127.0.0.1", 0) as listener:
        patch.setattr(feed, "_POLL_S", 0.1)
        patch.setattr(folders, "_SOON_S", PATIENCE_S)
        make_runs_quick(patch)
        port = listener.getsockname()[1]
        state = AppState(
            ModelLibrary(home / "models"),
            Folders(home / "collections"),
            RunQueue(home / "runs"),
            home / "work",
            Tray(home / "kept"),
        )
        app = create_app(state, TOKEN, own_hosts("127.0.0.1", port), f"distill-{port}")
        options = {"log_level": "critical", "lifespan": "off", "timeout_graceful_shutdown": 2, "ws": "none"}
        server = PageServer(uvicorn.Config(app, **options), state)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        address = f"http://127.0.0.1:{port}"
        try:
            headers = {"Authorization": f"Bearer {TOKEN}"}
            with httpx.Client(base_url=address, headers=headers, timeout=PATIENCE_S) as client:
                yield Web(state, address, client)
        finally:
            server.should_exit = True
            thread.join()
            state.runs.close()
