"""Computing in a thread that ends afterwards, so that a training beside it is not slowed down for good.

OpenMP, which torch computes with, keeps the helper threads of a thread for as long as that thread lives. Once a process
has more of them than there are cores, libgomp's threads sleep instead of spinning while they wait for each other. A
training, whose threads do so thousands of times a second, then takes half as long again, even if all others are idle.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Result = TypeVar("Result")


def in_fresh_thread(make: Callable[[], Result], threads: int) -> Result:
    """Call `make` with `threads` threads of torch, which are gone afterwards; returns and raises what it does."""
    with ThreadPoolExecutor(1, "distill-fresh", torch.set_num_threads, (threads,)) as own:
        return own.submit(make).result()
