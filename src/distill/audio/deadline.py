"""The deadline of a worker process: a limit on its time in total, and on its time without progress."""

import threading

from distill.errors import AudioError, Cancelled, DistillError

TICK_S = 0.1

_START_S = 60.0  # enough for a first start from a cold disk, under a virus scanner
_FILE_S = 60.0  # in total, and without progress: a disk may spin up, and a busy machine lets the process wait its turn
_BYTES_PER_S = 250e3  # low, because several files are read from one disk at once
_SOUND_PER_S = 60.0  # slower than any decoder on any machine that could train
_LIKELY = "the file is damaged, or its disk is very slow"
_ADVICE = "convert it to WAV, or copy it to this machine"


class Deadline:
    """A limit on time, counted in ticks: the clock runs on while distill is suspended (Ctrl-Z, a laptop's lid)."""

    def __init__(self, total_s: float, stall_s: float, cancel_event: threading.Event | None) -> None:
        self._total_s, self._stall_s, self._cancel_event = total_s, stall_s, cancel_event
        self._elapsed_s = self._silent_s = 0.0
        self.error: DistillError | None = None  # the reason, once the time is up

    @classmethod
    def for_start(cls, cancel_event: threading.Event | None) -> "Deadline":
        """The deadline of a process that is starting."""
        return cls(_START_S, _START_S, cancel_event)

    @classmethod
    def for_file(cls, size: int, cancel_event: threading.Event | None) -> "Deadline":
        """The deadline for a file of `size` bytes; decoded sound extends it, a header does not."""
        return cls(_FILE_S + size / _BYTES_PER_S, _FILE_S, cancel_event)

    def report_progress(self, sound_s: float = 0.0) -> None:
        """Note the arrival of a message with `sound_s` seconds of sound."""
        self._silent_s = 0.0
        self._total_s += sound_s / _SOUND_PER_S

    def tick(self) -> None:
        """Count `TICK_S` seconds."""
        self._elapsed_s += TICK_S
        self._silent_s += TICK_S
        if self._cancel_event is not None and self._cancel_event.is_set():
            self.error = Cancelled("stopped while reading sounds")
        elif self._silent_s > self._stall_s:
            self.error = AudioError(f"gave up: no progress for {self._stall_s:.0f} s; {_LIKELY}", _ADVICE)
        elif self._elapsed_s > self._total_s:
            self.error = AudioError(f"gave up: not decoded after {self._total_s:.0f} s; {_LIKELY}", _ADVICE)
