"""What asks a process to stop: it stops in order the first time, and at once the second."""

import os
import signal

import pytest

from distill.signals import Stopped, raise_when_asked_to_stop, stopping_in_order
from support.processes import fork


def in_child(work) -> int:
    return fork(work).end()[0]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_command_is_ended_as_by_ctrl_c_and_tidies_up(number, code):
    def work(say) -> None:
        raise_when_asked_to_stop()
        try:
            os.kill(os.getpid(), number)
        except Stopped as stop:
            os._exit(stop.exit_code)

    assert in_child(work) == code


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_asks_and_the_second_ends_at_once(number):
    def work(say) -> None:
        asked = []
        with stopping_in_order(lambda: asked.append(1)) as request:
            os.kill(os.getpid(), number)
            assert (asked, request.received) == ([1], number)
            os.kill(os.getpid(), signal.SIGTERM)
        say("still here")

    assert in_child(work) == 143


def test_a_command_under_nohup_outlives_its_terminal():
    def work(say) -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        raise_when_asked_to_stop()
        os.kill(os.getpid(), signal.SIGHUP)
        with stopping_in_order(lambda: os._exit(1)):
            os.kill(os.getpid(), signal.SIGHUP)

    assert in_child(work) == 0


def test_afterwards_the_signals_are_whose_they_were():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    with stopping_in_order(lambda: None):
        assert signal.getsignal(signal.SIGTERM) != before[signal.SIGTERM]
    assert {number: signal.getsignal(number) for number in before} == before
