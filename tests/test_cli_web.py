"""`distill web` on the command line: an address with a key, a warning where it is due, an orderly end."""

import contextlib
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from distill.web.server import listen
from support.commands import Said, run
from support.decoders import let_worker
from support.running import Started
from support.sounds import write_collection
from support.waiting import PATIENCE_S, until

WEB = ("web", "--no-browser", "--port", "0")
ADDRESS = re.compile(r"http://\S+token=\S+")


def address_of(running: Started) -> str:
    """The address that a `distill web` prints."""
    running.wait_for("token=")
    return ADDRESS.findall(running.out())[0]


def stop(running: Started, number: signal.Signals = signal.SIGINT) -> Said:
    """What a `distill web` has said when Ctrl-C, or another signal, has ended it."""
    running.kill(number)
    return running.end()


@contextlib.contextmanager
def browser(address: str) -> Iterator[tuple[httpx.Client, httpx.URL]]:
    """A client that was let in, and where."""
    at = httpx.URL(address)
    headers = {"Origin": f"http://{at.netloc.decode()}"}
    with httpx.Client(headers=headers, timeout=PATIENCE_S) as client:
        client.get(address)
        yield client, at


def test_the_printed_address_opens_the_page_and_ctrl_c_ends_it(home: Path) -> None:
    command = [sys.executable, "-m", "distill", *WEB]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1) as process:
        said = ""
        while not (found := ADDRESS.search(said)):
            line = process.stdout.readline()
            assert line, process.stderr.read()
            said += line
        with browser(found[0]) as (client, at):
            page = client.get(found[0])
            assert (page.status_code, "<title>distill</title>" in page.text) == (200, True)
            assert client.get(at.join("/api/models")).json() == []
        assert "warning" not in said
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert (process.returncode, err) == (0, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_training_that_is_going_on_is_stopped_with_a_checkpoint(
    start: Any, home: Path, tmp_path: Path, number: signal.Signals
) -> None:
    web = start(*WEB)
    with browser(address_of(web)) as (client, at):
        path = str(write_collection(tmp_path / "sounds"))
        key = client.post(at.join("/api/collections"), json={"path": path}).json()["id"]
        until(lambda: client.get(at.join(f"/api/collections/{key}")).json()["state"] == "ready")
        wishes = {"collection": key, "settings": {"max_epochs": 100_000, "batch_size": 4}}
        run = client.post(at.join("/api/runs"), json=wishes).json()["id"]
        until((home / "runs" / run / "events.jsonl").exists)
    assert list((home / "cache").iterdir())
    code, out, err = stop(web, number)
    assert (code, err) == (0, "")
    assert "with a checkpoint" in out
    assert list((home / "cache").iterdir()) == []
    assert list((home / "runs" / run / "checkpoints").glob("*.pt"))


def test_a_folder_that_is_being_looked_through_does_not_hold_up_the_end(start: Any, tmp_path: Path) -> None:
    folder = write_collection(tmp_path / "sounds", 2)
    web = start(*WEB, before=partial(let_worker, "if 'tone_01' in path: time.sleep(600)"))
    with browser(address_of(web)) as (client, at):
        key = client.post(at.join("/api/collections"), json={"path": str(folder)}).json()["id"]
        until(lambda: client.get(at.join(f"/api/collections/{key}")).json()["done"] == 1)
        assert client.get(at.join(f"/api/collections/{key}")).json()["state"] == "scanning"
    assert stop(web)[0::2] == (0, "")


def test_an_address_that_others_can_reach_needs_a_word_and_brings_a_warning(start: Any) -> None:
    web = start(*WEB, "--host", "0.0.0.0")
    address = httpx.URL(address_of(web))
    port = address.port
    assert address.host == "127.0.0.1"  # which opens here
    assert "can be reached from other machines" in " ".join(web.out().split())
    assert httpx.get(f"http://127.0.0.1:{port}/api/about", timeout=PATIENCE_S).status_code == 401
    foreign = {"Host": f"evil.example:{port}"}
    assert httpx.get(f"http://127.0.0.1:{port}/", headers=foreign, timeout=PATIENCE_S).status_code == 421
    assert stop(web).code == 0


def test_a_port_in_use_is_one_line(home: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        said = run(*WEB[:-1], taken.getsockname()[1])
    assert (said.code, said.err.count("\n")) == (1, 1)
    assert "choose another port" in said.err
    assert "in use" in said.err


def test_connections_are_taken_before_the_address_is_told() -> None:
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        pass


@pytest.mark.parametrize("host", ["no.such.host.example", "999.1.1.1"])
def test_an_impossible_host_is_one_line(home: Path, host: str) -> None:
    said = run(*WEB, "--host", host)
    assert said.code == 1
    assert said.err.startswith("error: cannot serve at")
