"""Computing in a thread of its own, which ends with it, so that a training beside it is not slowed for good.

OpenMP, with which torch computes, keeps the helpers of a thread for as long as the thread lives. Once a process has
more of them than there are cores, all its threads wait for each other asleep instead of awake (libgomp). A training,
whose threads wait for each other thousands of times a second, then takes half as long again, though all others rest.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Result = TypeVar("Result")


def in_fresh_thread(make: Callable[[], Result], threads: int) -> Result:
    """Call `make` with so many threads, which are gone afterwards; returns its result, raises what it raises."""
    with ThreadPoolExecutor(1, "distill-apart", torch.set_num_threads, (threads,)) as own:
        return own.submit(make).result()
