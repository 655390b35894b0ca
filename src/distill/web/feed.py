"""A run's log as server-sent events: all there is so far, then what comes, as often as a screen can show it."""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from anyio import to_thread

_POLL_S = 0.2
_STATE_POLLS = 3  # without news, the state of the run is looked up that often
_KEEP_ALIVE = 75  # polls without news
_REPLAYED_STEPS = 1500  # more do not show in a curve
_BATCH = 400  # entries of one message

Entry = dict[str, Any]


@dataclass
class Tail:
    """What is new in a file of JSON lines that others append to, and at times replace by a shorter one."""

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


async def messages(
    log: Path, state: Callable[[], Entry], dressed: Callable[[Entry], Entry], gone: Callable[[], Any]
) -> AsyncIterator[str]:
    """Server-sent events of a run until the page is `gone`: `restart`, batches of log entries, `state` on change."""
    tail, shown_state, quiet = Tail(log), None, 0
    yield _message([], "restart")
    first = True
    while not await gone():
        entries, anew = await to_thread.run_sync(tail.read)
        if anew:
            yield _message([], "restart")
        quiet = 0 if entries else quiet + 1
        for start in range(0, len(entries := _thinned(entries) if first or anew else entries), _BATCH):
            yield _message([dressed(entry) for entry in entries[start : start + _BATCH]])
        first = False
        if (entries or quiet % _STATE_POLLS == 0) and (now := await to_thread.run_sync(state)) != shown_state:
            shown_state = now
            yield _message(now, "state")
        elif quiet % _KEEP_ALIVE == _KEEP_ALIVE - 1:
            yield ": still here\n\n"
        await anyio.sleep(_POLL_S)


def _thinned(entries: list[Entry]) -> list[Entry]:
    """The entries with so few steps left that a page can draw them at once."""
    steps = sum("step" in entry for entry in entries)
    every = max(1, -(-steps // _REPLAYED_STEPS))
    kept, seen = [], 0
    for entry in entries:
        seen += "step" in entry
        if "step" not in entry or seen % every == 0:
            kept.append(entry)
    return kept


def _message(data: Any, kind: str | None = None) -> str:
    event = f"event: {kind}\n" if kind else ""
    return f"{event}data: {json.dumps(data)}\n\n"
