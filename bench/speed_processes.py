"""Things measured in a process of their own, which nothing earlier has warmed or filled."""

import multiprocessing
import resource
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

import torch

_Given = ParamSpec("_Given")
_Returned = TypeVar("_Returned")

_STATUS = Path("/proc/self/status")


def alone(function: Callable[_Given, _Returned], *args: _Given.args, **kwargs: _Given.kwargs) -> _Returned:
    """Call a function of a module in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(function, *args, **kwargs).result()


def peak_memory(device: torch.device) -> int:
    """The most bytes that this process, or what it does on a GPU, has taken up so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if _STATUS.exists():  # what getrusage says there begins with the peak of the process that started this one
        lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
