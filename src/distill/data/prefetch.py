"""The sounds of a long collection, decoded in the background while a training goes on with those that are there."""

import logging
import os
import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path

import numpy as np

from distill.audio.limits import AudioLimits
from distill.audio.recording import Recording, Samples
from distill.data.collection import Collection, Sound, UnreadableFile, is_silent
from distill.data.reading import AnyEvent, read_each
from distill.data.waveforms import Waveform, WaveformStore
from distill.errors import AudioError, ResumeRun, StorageError
from distill.notices import FileLeftOut
from distill.paths import printable

logger = logging.getLogger(__name__)

_AHEAD_S = 300.0  # of sound, decoded before it is asked for
_LOOK_S = 0.1  # between looks at whether to stop
_NOTHING = np.zeros(0, np.float32)


class PrefetchedWaveform:
    """A `Waveform` as long as its file's header says; who asks for a part of it waits until the file was decoded.

    Of a file that turns out silent or damaged there is nothing to be had, which is logged once.
    """

    def __init__(self, path: Path, frames: int) -> None:
        self.path, self._frames = path, frames
        self._told = False
        self._pending: _Pending | None = None

    def __len__(self) -> int:
        return self._frames

    def __getitem__(self, part: slice, /) -> Samples:
        """Raises what ended the decoding: `Cancelled`, `StorageError`."""
        assert self._pending is not None, "ask for it by `start_prefetch` first"
        start, stop, _ = part.indices(self._frames)
        waveform = self._pending.asked_for()
        if not isinstance(waveform, UnreadableFile):
            return waveform[start:stop]
        if not self._told:
            logger.warning(FileLeftOut(printable(self.path), waveform.reason, waveform.remedy))
        self._told = True
        return _NOTHING

    @property
    def there(self) -> bool:
        """True once the file was decoded."""
        return self._pending is not None and self._pending.there

    def expect(self, pending: "_Pending") -> None:
        """Say where the waveform is to come from."""
        self._pending = pending


def prefetched_sounds(collection: Collection, sample_rate: int) -> tuple[Sound, ...]:
    """The usable sounds of a collection of which the headers were read; `start_prefetch` has to be asked for them."""
    usable = sorted(collection.usable, key=lambda file: file.digest)
    return tuple(
        Sound(file.path, file.digest, PrefetchedWaveform(file.path, max(1, round(file.duration_s * sample_rate))))
        for file in usable
    )


class Prefetch:
    """Sounds being decoded in the background, for as long as somebody holds this."""


def start_prefetch(
    sounds: Sequence[Sound],
    sample_rate: int,
    limits: AudioLimits | None = None,
    cancel_event: threading.Event | None = None,
) -> Prefetch:
    """Begin to decode the awaited ones among `sounds`, in this order, in the background, unless cancelled.

    So that the training has the machine, little more is decoded than it is about to need.
    """
    decoding, stop = Prefetch(), AnyEvent(cancel_event)
    weakref.finalize(decoding, stop.set)
    reach, begin = _Window(round(_AHEAD_S * sample_rate)), 0
    todo = dict[Path, _Pending]()
    for sound in sounds:
        if isinstance(sound.waveform, PrefetchedWaveform) and not sound.waveform.there:
            todo[sound.path] = _Pending(begin, reach)
            sound.waveform.expect(todo[sound.path])
            begin += len(sound.waveform)
    if todo:
        work = (todo, reach, sample_rate, limits, stop)
        threading.Thread(target=_decode, args=work, name="distill-ahead", daemon=True).start()
    return decoding


class _Pending:
    """The outcome for a file, in time: its waveform, the reason why there is none, or what ended the decoding."""

    def __init__(self, begin: int, reach: "_Window") -> None:
        self.begin, self._reach = begin, reach
        self.outcome = Future[Waveform | UnreadableFile]()

    @property
    def there(self) -> bool:
        """True once the file was decoded; until then it has to be waited for, after a failure in vain."""
        return self.outcome.done() and self.outcome.exception() is None

    def asked_for(self) -> Waveform | UnreadableFile:
        """Wait for the outcome."""
        self._reach.extend(self.begin)
        return self.outcome.result()


class _Window:
    """The reach of the decoding of sounds, were they one after the other: a little beyond the last one asked for."""

    def __init__(self, frames_ahead: int) -> None:
        self._frames_ahead, self._asked_for = frames_ahead, 0
        self._changed = threading.Condition()

    def extend(self, begin: int) -> None:
        """A sound that begins here was asked for."""
        with self._changed:
            self._asked_for = max(self._asked_for, begin)
            self._changed.notify()

    def wait_for(self, begin: int, stop: threading.Event) -> None:
        """Return when sounds that begin here are to be decoded, or `stop` is set."""
        with self._changed:
            while begin > self._asked_for + self._frames_ahead and not stop.is_set():
                self._changed.wait(_LOOK_S)


def _decode(
    todo: dict[Path, _Pending], reach: _Window, sample_rate: int, limits: AudioLimits | None, stop: threading.Event
) -> None:
    """Settle what is pending, file by file."""
    store = WaveformStore()

    def take(path: Path, recording: Recording) -> Waveform | UnreadableFile:
        return UnreadableFile(path, "silent") if is_silent(recording) else store.keep(recording.mono(sample_rate))

    try:
        with closing(read_each(list(todo), take, limits, stop)) as outcomes:
            for path, found in outcomes:
                outcome = _unreadable(path, found) if isinstance(found, AudioError) else found
                pending = todo.pop(path)
                pending.outcome.set_result(outcome)
                reach.wait_for(pending.begin, stop)
    except Exception as error:  # those who wait have to hear of it
        for pending in todo.values():
            pending.outcome.set_exception(error.with_traceback(None))  # in which the sounds are


def _unreadable(path: Path, error: AudioError) -> UnreadableFile:
    """The outcome for a file without sound; raises `StorageError` where it cannot be read any more, as it could be."""
    if not os.access(path, os.R_OK):
        raise StorageError(
            f"{printable(path)} was there when the run began, and cannot be read any more", ResumeRun("bring it back")
        ) from error
    return UnreadableFile.of(path, error)
