"""Fresh processes to measure in, and their peak memory."""

import multiprocessing
import resource
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

import torch

_Parameters = ParamSpec("_Parameters")
_Returned = TypeVar("_Returned")

_STATUS = Path("/proc/self/status")


def in_fresh_process(
    function: Callable[_Parameters, _Returned], *args: _Parameters.args, **kwargs: _Parameters.kwargs
) -> _Returned:
    """Call a module's function in a new process, so that nothing that ran before affects it."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        return executor.submit(function, *args, **kwargs).result()


def peak_memory(device: torch.device) -> int:
    """Peak bytes of this process so far: on the GPU for a CUDA device, else resident memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if _STATUS.exists():  # on Linux, getrusage starts from the peak of the parent process
        lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
