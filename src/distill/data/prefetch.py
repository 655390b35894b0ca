"""Prefetching: the sounds of a long collection are decoded in the background while training uses those decoded."""

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
from distill.data.collection import Collection, Sound, UnreadableFile, describe
from distill.data.levels import heard
from distill.data.reading import AnyEvent, read_each
from distill.data.waveforms import Waveform, WaveformStore
from distill.errors import AudioError, ResumeRun, StorageError
from distill.notices import FileLeftOut
from distill.paths import printable

logger = logging.getLogger(__name__)

_AHEAD_S = 300.0  # of sound, decoded before it is requested
_POLL_S = 0.1  # between checks whether to stop
_NO_SAMPLES = np.zeros(0, np.float32)


class PrefetchedWaveform:
    """A `Waveform` as long as its file's header says; reading a part of it waits until the file is decoded.

    A file that turns out silent or damaged gives no samples, which is logged once.
    """

    def __init__(self, path: Path, frames: int) -> None:
        self.path, self._frames = path, frames
        self._warned = False
        self._pending: _Pending | None = None

    def __len__(self) -> int:
        return self._frames

    def __getitem__(self, part: slice, /) -> Samples:
        """Samples float32 `[frames]`, fewer where the file is shorter; raises `Cancelled`, `StorageError`."""
        assert self._pending is not None, "ask for it by `start_prefetch` first"
        start, stop, _ = part.indices(self._frames)
        waveform = self._pending.request()
        if not isinstance(waveform, UnreadableFile):
            return waveform[start:stop]
        if not self._warned:
            logger.warning(FileLeftOut(printable(self.path), waveform.reason, waveform.remedy))
        self._warned = True
        return _NO_SAMPLES

    @property
    def decoded(self) -> bool:
        """True once the file is decoded."""
        return self._pending is not None and self._pending.decoded

    def set_pending(self, pending: "_Pending") -> None:
        """Set the pending decoding that will give the samples."""
        self._pending = pending


def prefetched_sounds(collection: Collection, sample_rate: int) -> tuple[Sound, ...]:
    """The usable sounds of a collection of which only the headers were read; `start_prefetch` decodes them."""
    usable = sorted(collection.usable, key=lambda file: file.digest)
    # At least one sample long, or a sound would have no chunk.
    return tuple(
        Sound(file.path, file.digest, PrefetchedWaveform(file.path, max(1, round(file.duration_s * sample_rate))))
        for file in usable
    )


class Prefetch:
    """The handle of a decoding in the background, which goes on for as long as this object is referenced."""


def start_prefetch(
    sounds: Sequence[Sound],
    sample_rate: int,
    limits: AudioLimits | None = None,
    cancel_event: threading.Event | None = None,
) -> Prefetch:
    """Begin to decode those of `sounds` that are not decoded yet, in this order, in the background, until cancelled.

    Decoding stays only a little ahead of what training requests, so that training has the machine to itself.
    """
    decoding, stop = Prefetch(), AnyEvent(cancel_event)
    # The thread must reference neither this handle nor the waveforms, or decoding would go on after the run.
    weakref.finalize(decoding, stop.set)
    window, begin = _Window(round(_AHEAD_S * sample_rate)), 0
    todo = dict[Path, _Pending]()
    for sound in sounds:
        if isinstance(sound.waveform, PrefetchedWaveform) and not sound.waveform.decoded:
            todo[sound.path] = _Pending(begin, window)
            sound.waveform.set_pending(todo[sound.path])
            begin += len(sound.waveform)
    if todo:
        work = (todo, window, sample_rate, limits, stop)
        threading.Thread(target=_decode, args=work, name="distill-ahead", daemon=True).start()
    return decoding


class _Pending:
    """The pending outcome for a file: its waveform, the reason why there is none, or the error that ended decoding."""

    def __init__(self, begin: int, window: "_Window") -> None:
        self.begin, self._window = begin, window
        self.outcome = Future[Waveform | UnreadableFile]()

    @property
    def decoded(self) -> bool:
        """True once the file is decoded; after a failure of the decoding it stays False."""
        return self.outcome.done() and self.outcome.exception() is None

    def request(self) -> Waveform | UnreadableFile:
        """Request the outcome and wait for it."""
        self._window.extend(self.begin)
        return self.outcome.result()


class _Window:
    """The position up to which sounds, laid end to end, are decoded: a little beyond the last one requested."""

    def __init__(self, frames_ahead: int) -> None:
        self._frames_ahead, self._requested = frames_ahead, 0
        self._changed = threading.Condition()

    def extend(self, begin: int) -> None:
        """Move on, for the sound that begins at sample `begin` was requested."""
        with self._changed:
            self._requested = max(self._requested, begin)
            self._changed.notify()

    def wait_for(self, begin: int, stop: threading.Event) -> None:
        """Return when sounds that begin at sample `begin` are to be decoded, or `stop` is set."""
        with self._changed:
            # With a timeout: nobody notifies the condition when `stop` is set.
            while begin > self._requested + self._frames_ahead and not stop.is_set():
                self._changed.wait(_POLL_S)


def _decode(
    todo: dict[Path, _Pending], window: _Window, sample_rate: int, limits: AudioLimits | None, stop: threading.Event
) -> None:
    """Decode the files and settle their outcomes, one after the other."""
    store = WaveformStore()

    def take(path: Path, recording: Recording) -> Waveform | UnreadableFile:
        sound = heard(recording, sample_rate, limits)
        if sound.usable:
            return store.keep(sound.at(sample_rate))
        file = describe(path, recording, sound)
        return UnreadableFile(path, file.notes[0], file.remedy)

    try:
        with closing(read_each(list(todo), take, limits, stop)) as outcomes:
            for path, found in outcomes:
                outcome = _unreadable(path, found) if isinstance(found, AudioError) else found
                pending = todo.pop(path)
                pending.outcome.set_result(outcome)
                window.wait_for(pending.begin, stop)
    except Exception as error:  # raised again in the threads that wait
        for pending in todo.values():
            pending.outcome.set_exception(error.with_traceback(None))  # whose frames would keep the sounds alive


def _unreadable(path: Path, error: AudioError) -> UnreadableFile:
    """The outcome for a file that gives no sound; raises `StorageError` for one that is no longer there."""
    # A disk that was removed must not pass for silence: the run ends, and can be resumed once the files are back.
    if not os.access(path, os.R_OK):
        raise StorageError(
            f"{printable(path)} was there when the run began, and can no longer be read", ResumeRun("bring it back")
        ) from error
    return UnreadableFile.of(path, error)
