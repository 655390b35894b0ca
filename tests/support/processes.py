"""Processes of a test's own: forked from this one, with all that it knows, or fresh ones that know nothing of it."""

import multiprocessing
import os
import signal
import tempfile
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from torch.distributed import TCPStore

Say = Callable[[object], None]

# Forked from a server that has done nothing but import: that alone takes six seconds of a process. The console is not
# among the modules, for it decides once and for all whether it is on a terminal.
FRESH = multiprocessing.get_context("forkserver")
FRESH.set_forkserver_preload(["torch._dynamo", "matplotlib.figure", "distill.training.runner", "rich.live", "pytest"])


def in_fresh_process(target: Callable[..., object], *arguments: object) -> tuple[int, str]:
    """The exit code and the errors of `target(*arguments)` in a process of its own; a module has to hold `target`."""
    with tempfile.NamedTemporaryFile() as errors:
        process = FRESH.Process(target=_telling, args=(errors.name, target, arguments))
        process.start()
        process.join()
        return process.exitcode or 0, Path(errors.name).read_text()


def _telling(errors: str, target: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    os.dup2(os.open(errors, os.O_WRONLY), 2)
    target(*arguments)


@dataclass(frozen=True)
class Forked:
    """A forked process at work."""

    pid: int
    pipe: TextIO

    def end(self) -> tuple[int, list[str]]:
        """Its exit code, negative for the signal that killed it, and the lines that it has said."""
        with self.pipe:
            said = self.pipe.read().splitlines()
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]), said


def fork(work: Callable[[Say], object]) -> Forked:
    """`work(say)` in a forked process."""
    reading, writing = os.pipe()

    def say(word: object) -> None:
        os.write(writing, f"{word}\n".encode())

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking: the other threads are none of the child's
        child = os.fork()
    if child == 0:
        code = 1
        try:
            work(say)
            code = 0
        except BaseException:
            say(traceback.format_exc())
        finally:
            os._exit(code)
    os.close(writing)
    return Forked(child, os.fdopen(reading))


def in_child(work: Callable[[Say], object]) -> list[str]:
    """The lines that `work` said in a forked process, up to its end or to when it was killed."""
    code, said = fork(work).end()
    assert code in (0, -signal.SIGKILL), "\n".join(said)
    return said


def in_ranks(count: int, work: Callable[[Say], object]) -> list[tuple[int, list[str]]]:
    """`work(say)` in so many forked processes, which find each other as those of `torchrun` do; how each ended."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "WORLD_SIZE": str(count)}
    agent = {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}

    def as_rank(number: int) -> Callable[[Say], object]:
        def begin(say: Say) -> object:
            os.environ.update(place | agent | {"RANK": str(number), "LOCAL_RANK": str(number)})
            return work(say)

        return begin

    ranks = [fork(as_rank(number)) for number in range(count)]
    return [rank.end() for rank in ranks]
