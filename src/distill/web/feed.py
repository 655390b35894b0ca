"""A run's log as server-sent events: all there is so far, then every three seconds what has come."""

import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from anyio import to_thread

_ASK_S = 1.0  # whether anybody listens still: the end of the server waits for that
_ASKS = 3  # between two looks at the log: the page draws when something comes, and the cores are the training's
_KEEP_ALIVE = 8  # polls without news
_BATCH = 400  # entries of one message
_OVER = {"finished", "interrupted", "failed", "gone"}

Entry = dict[str, Any]


@dataclass
class Tail:
    """Reads the new entries of a file of JSON lines that others append to, and at times replace by a shorter one."""

    path: Path
    _file: int = 0
    _offset: int = 0
    _rest: bytes = field(default=b"")

    def read(self) -> tuple[list[Entry], bool]:
        """The entries since the last call, and whether they begin anew because the file is another."""
        try:
            with self.path.open("rb") as file:
                status = self.path.stat()
                anew = self._offset > 0 and (status.st_ino != self._file or status.st_size < self._offset)
                if anew:
                    self._offset, self._rest = 0, b""
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return [], False
        self._file, self._offset = status.st_ino, self._offset + len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [json.loads(line) for line in lines if line], anew


@dataclass
class Feed:
    """The server-sent events of a run: `restart`, batches of log entries, `state` on change."""

    tail: Tail
    state: Callable[[], Entry]
    annotate: Callable[[list[Entry]], list[Entry]]
    over: bool = False  # nothing more is to come
    _shown: Entry | None = None
    _quiet: int = 0
    _begun: bool = False

    def news(self) -> Iterator[str]:
        """The messages to send since the last call."""
        entries, anew = self.tail.read()
        if anew or not self._begun:
            yield _message([], "restart")
        self._begun = True
        shown = _latest(entries)
        for start in range(0, len(shown), _BATCH):
            yield _message(self.annotate(shown[start : start + _BATCH]))
        if entries and all("step" in entry for entry in entries):
            self._quiet = 0
        else:
            yield from self._state(quiet=not entries)

    def _state(self, quiet: bool) -> Iterator[str]:
        """The state, for it changes where there are no steps."""
        self._quiet = self._quiet + 1 if quiet else 0
        if (now := self.state()) != self._shown:
            self._shown = now
            yield _message(now, "state")
        else:
            self.over = quiet and now["state"] in _OVER
            if self._quiet % _KEEP_ALIVE == _KEEP_ALIVE - 1:
                yield ": still here\n\n"


async def messages(feed: Feed, disconnected: Callable[[], Awaitable[bool]]) -> AsyncIterator[str]:
    """The messages of `feed`, until it is over or the page has `disconnected`: a browser allows few connections."""
    for turn in itertools.count():
        if feed.over or await disconnected():
            return
        if turn % _ASKS == 0:
            for message in await to_thread.run_sync(lambda: list(feed.news())):
                yield message
        await anyio.sleep(_ASK_S)


def entries_from(path: Path, start: int) -> list[Entry]:
    """The entries of a file of JSON lines from that number on; the ones before are not looked at."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[start:-1]]


def _latest(entries: list[Entry]) -> list[Entry]:
    """The entries, of steps in a row the last: the page says where the run is, and draws what epochs tell."""
    following = [*entries[1:], {}]
    return [entry for entry, after in zip(entries, following) if not ("step" in entry and "step" in after)]


def _message(data: Any, kind: str | None = None) -> str:
    event = f"event: {kind}\n" if kind else ""
    return f"{event}data: {json.dumps(data)}\n\n"
