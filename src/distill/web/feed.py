"""A run's log as server-sent events: everything so far, then the news every three seconds."""

import itertools
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from anyio import to_thread

from distill.plain_files import open_plain, parse_json, read_plain

_POLL_S = 1.0  # between checks for a closed connection, for which the end of the server has to wait
_POLLS_PER_READ = 3  # of the log: the page draws when there is news, but the training needs the cores
_KEEP_ALIVE = 8  # polls without news, after which a comment is sent
_BATCH = 400  # entries of one message
_MAX_LOG = 4 << 30  # bytes
_FINAL_STATES = {"finished", "interrupted", "failed", "gone"}

Entry = dict[str, Any]


@dataclass
class Tail:
    """Reads the new entries of a file of JSON lines that is appended to, and now and then replaced by a shorter one."""

    path: Path
    _file: int = 0
    _offset: int = 0
    _rest: bytes = field(default=b"")

    def read(self) -> tuple[list[Entry], bool]:
        """Return the entries since the last call, and True if they start over because the file was replaced."""
        try:
            with open_plain(self.path, _MAX_LOG) as file:
                status = os.fstat(file.fileno())
                # A run that goes back to a checkpoint rewinds its log.
                restarted = self._offset > 0 and (status.st_ino != self._file or status.st_size < self._offset)
                if restarted:
                    self._offset, self._rest = 0, b""
                file.seek(self._offset)
                data = file.read()
        except OSError:  # not there yet; or not a log at all, in the folder of a stranger
            return [], False
        self._file, self._offset = status.st_ino, self._offset + len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")  # the last line may not be complete yet
        return entries_in(lines), restarted


@dataclass
class Feed:
    """The server-sent events of a run: `restart`, batches of log entries, and `state` when it changes."""

    tail: Tail
    state: Callable[[], Entry]
    annotate: Callable[[list[Entry]], list[Entry]]
    over: bool = False  # True if nothing more will come
    _shown: Entry | None = None
    _quiet: int = 0
    _begun: bool = False

    def news(self) -> Iterator[str]:
        """Yield the messages that have become due since the last call."""
        entries, restarted = self.tail.read()
        if restarted or not self._begun:  # a new stream as well: a browser that reconnects gets everything again
            yield _message([], "restart")
        self._begun = True
        shown = _without_superseded_steps(entries)
        for start in range(0, len(shown), _BATCH):
            yield _message(self.annotate(shown[start : start + _BATCH]))
        if entries and all("step" in entry for entry in entries):  # then the state is the same, and not looked up
            self._quiet = 0
        else:
            yield from self._state(quiet=not entries)

    def _state(self, quiet: bool) -> Iterator[str]:
        """Yield the state if it has changed, else a comment now and then; find out whether the run is over."""
        self._quiet = self._quiet + 1 if quiet else 0
        if (now := self.state()) != self._shown:
            self._shown = now
            yield _message(now, "state")
        else:
            # Over only once nothing has come in between: what the run logged last must not be lost.
            self.over = quiet and now["state"] in _FINAL_STATES
            if self._quiet % _KEEP_ALIVE == _KEEP_ALIVE - 1:
                yield ": still here\n\n"


async def messages(feed: Feed, disconnected: Callable[[], Awaitable[bool]]) -> AsyncIterator[str]:
    """Yield the messages of `feed` until it is over or the page has `disconnected`.

    A stream ends with its run, because a browser opens only a few connections to one server.
    """
    for turn in itertools.count():
        if feed.over or await disconnected():
            return
        if turn % _POLLS_PER_READ == 0:
            for message in await to_thread.run_sync(lambda: list(feed.news())):
                yield message
        await anyio.sleep(_POLL_S)


def entries_from(path: Path, start: int) -> list[Entry]:
    """The entries of a file of JSON lines from number `start` on; those before are not parsed."""
    return entries_in(lines_of(path)[start:])


def lines_of(path: Path) -> list[bytes]:
    """The complete lines of a log; none if there is no log."""
    try:
        return read_plain(path, _MAX_LOG).split(b"\n")[:-1]
    except OSError:
        return []


def entries_in(lines: list[bytes]) -> list[Entry]:
    """The entries in these lines, without what is no entry in the log of a stranger."""
    found = []
    for line in lines:
        with suppress(ValueError):
            if isinstance(entry := parse_json(line), dict):
                found.append(entry)
    return found


def _without_superseded_steps(entries: list[Entry]) -> list[Entry]:
    """The entries without steps that another follows: the page shows the latest, and draws curves from epochs only."""
    following = [*entries[1:], {}]
    return [entry for entry, after in zip(entries, following) if not ("step" in entry and "step" in after)]


def _message(data: Any, kind: str | None = None) -> str:
    event = f"event: {kind}\n" if kind else ""
    return f"{event}data: {json.dumps(data)}\n\n"
