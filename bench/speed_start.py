"""How soon a command is there, against Python with nothing to do and against importing torch."""

import subprocess
import sys
from collections.abc import Iterator
from functools import partial

from rows import Row
from speed_turns import Call, Setting, comparison, in_turn, milliseconds, ratios

_COMMANDS = {
    "nothing": ("-c", "pass"),
    "import distill": ("-c", "import distill"),
    "distill --help": ("-m", "distill", "--help"),
    "import torch": ("-c", "import torch"),
}


def start(setting: Setting) -> Iterator[Row]:
    """Fresh processes in turn."""
    ways: dict[str, Call] = {name: partial(run, *command) for name, command in _COMMANDS.items()}
    in_turn(ways, 1)  # so that the files are in the system's cache
    times = in_turn(ways, setting.repetitions)
    for name in ("import distill", "distill --help"):
        for other, measure in (
            ("nothing", "times as long as python -c pass"),
            ("import torch", "times as long as import torch"),
        ):
            beside = milliseconds({which: times[which] for which in (name, other)})
            yield comparison("start", name, measure, ratios(times[name], times[other]), beside)


def run(*arguments: str) -> str:
    """What Python prints when it is called so."""
    return subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True).stdout
