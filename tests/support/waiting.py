"""Waiting for what has to come: on a busy machine it comes late, so there is no hurry, and one limit for all."""

import time
from collections.abc import Callable

PATIENCE_S = 300.0  # only so that nobody waits for ever: no test depends on what it is


def until(true: Callable[[], object], otherwise: Callable[[], object] = lambda: "nothing came of it") -> None:
    """Return once `true()` is so; `otherwise()` says what there was instead."""
    ends = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < ends, otherwise()
        time.sleep(0.01)
