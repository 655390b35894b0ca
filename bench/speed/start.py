"""Start-up time of commands, against starting Python and against importing torch."""

import subprocess
import sys
from collections.abc import Iterator
from functools import partial

from bench.shared.rows import Row
from bench.speed.timing import Call, Setting, comparison, interleaved, milliseconds, ratios

_COMMANDS = {
    "nothing": ("-c", "pass"),
    "import distill": ("-c", "import distill"),
    "distill --help": ("-m", "distill", "--help"),
    "import torch": ("-c", "import torch"),
}


def start(setting: Setting) -> Iterator[Row]:
    """Fresh Python processes in turn."""
    calls: dict[str, Call] = {name: partial(run_python, *command) for name, command in _COMMANDS.items()}
    interleaved(calls, 1)  # fills the system's file cache
    times = interleaved(calls, setting.repetitions)
    for name in ("import distill", "distill --help"):
        for other, measure in (
            ("nothing", "times as long as python -c pass"),
            ("import torch", "times as long as import torch"),
        ):
            beside = milliseconds({each: times[each] for each in (name, other)})
            yield comparison("start", name, measure, ratios(times[name], times[other]), beside)


def run_python(*arguments: str) -> str:
    """Run Python in a new process and return its output."""
    return subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True).stdout
