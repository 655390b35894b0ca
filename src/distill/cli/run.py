"""A training run as a command carries it out: on a thread, shown by a view, stopped by signals."""

import logging
import queue
import signal
from typing import TYPE_CHECKING, Any

from distill.notices import Notice, Remark
from distill.signals import EXIT_CODES, StopRequest, stopping_in_order

if TYPE_CHECKING:
    from distill.cli.views import View
    from distill.training.request import TrainingRequest
    from distill.training.runner import TrainingRunner

_POLL_S = 0.1


def run_shown(request: "TrainingRequest", json: bool) -> int:
    """Train on a background thread while this one draws and takes signals; returns the exit code."""
    from distill.training.runner import TrainingRunner

    runner, events = TrainingRunner(), queue.SimpleQueue[Any]()
    with (
        stopping_in_order(runner.cancel) as asked,
        _choose_view(request, json) as view,
        _QueueHandler(events),
    ):
        view.say(request.rate_remark)
        runner.start_request(request, events.put)
        if asked.received:  # before there was a run to cancel
            runner.cancel()
        try:
            result = _watch(runner, events, view, asked)
        except BaseException:  # the terminal is gone, or a view has a bug: the run still gets its checkpoint
            runner.cancel()
            runner.wait()
            raise
    info = view.info()
    if runner.cancelled and (info is None or info.model_path is None):  # else it was finished all the same
        view.interrupted()
        return EXIT_CODES[asked.received or signal.SIGINT]
    view.summary(result)
    return 0


def _choose_view(request: "TrainingRequest", json: bool) -> "View":
    """Choose JSON if asked for, else a live view on a terminal, and plain lines elsewhere."""
    from distill.cli.console import out
    from distill.cli.live import LiveView
    from distill.cli.views import JsonView, PlainView

    if json:
        return JsonView(request)
    return (LiveView if out.is_terminal else PlainView)(request)


def _watch(
    runner: "TrainingRunner", events: "queue.SimpleQueue[Any]", view: "View", asked: StopRequest
) -> dict[str, Any]:
    """Show events until the run is over; returns its result."""
    told = False
    while (result := runner.wait(_POLL_S)) is None:
        _drain(events, view)
        if asked.received and not told:
            view.say("stopping after this step, with a checkpoint (once more to leave at once)")
            told = True
    _drain(events, view)
    return result


def _drain(events: "queue.SimpleQueue[Any]", view: "View") -> None:
    while not events.empty():
        item = events.get()
        if isinstance(item, logging.LogRecord):
            notice = item.msg if isinstance(item.msg, Notice) else Remark(item.getMessage())
            (view.warning if item.levelno >= logging.WARNING else view.status)(notice)
        else:
            view.event(item)


class _QueueHandler(logging.Handler):
    """A log handler that puts what distill logs into the queue, in order with the events."""

    def __init__(self, events: "queue.SimpleQueue[Any]") -> None:
        super().__init__(logging.INFO)
        self._events = events

    def emit(self, record: logging.LogRecord) -> None:
        self._events.put(record)

    def __enter__(self) -> None:
        logger = logging.getLogger("distill")
        logger.addHandler(self)
        logger.setLevel(logging.INFO)
        logger.propagate = False  # the view shows it, so no handler of the root logger must print it again

    def __exit__(self, *_: object) -> None:
        logger = logging.getLogger("distill")
        logger.removeHandler(self)
        logger.setLevel(logging.NOTSET)
        logger.propagate = True
