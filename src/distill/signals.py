"""The signals that ask a process to stop: Ctrl-C, SIGTERM of a service manager, SIGHUP of a closed terminal."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
if hasattr(signal, "SIGHUP"):  # not on Windows
    EXIT_CODES[signal.SIGHUP] = 129


class Stopped(KeyboardInterrupt):
    """SIGTERM or SIGHUP, raised where Ctrl-C would raise its base class."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = EXIT_CODES[signal.Signals(number)]


def raise_when_asked_to_stop() -> None:
    """From now on SIGTERM and SIGHUP end what the main thread does as Ctrl-C does: all that is temporary is removed."""
    for number in _listened_to() - {signal.SIGINT}:  # for which Python does it
        signal.signal(number, _raise_stopped)


def _raise_stopped(number: int, frame: FrameType | None) -> None:
    del frame
    raise Stopped(number)


class StopRequest:
    """What was asked of a process while `stopping_in_order` has the signals."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None  # the first one


@contextmanager
def stopping_in_order(stop: Callable[[], object]) -> Iterator[StopRequest]:
    """While the body runs, the first signal calls `stop` in the main thread; the second ends the process at once."""
    request = StopRequest()

    def on_signal(number: int, frame: FrameType | None) -> None:
        del frame
        if request.received is not None:
            os._exit(EXIT_CODES[signal.Signals(number)])
        request.received = signal.Signals(number)
        stop()

    before = {number: signal.signal(number, on_signal) for number in _listened_to()}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _listened_to() -> set[signal.Signals]:
    # `nohup` has SIGHUP ignored, so that a command outlives its terminal.
    return {number for number in EXIT_CODES if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN}
