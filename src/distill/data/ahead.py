"""The sounds of a long collection, decoded in the background while a training goes on with those that are there."""

import logging
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
from distill.data.reading import StopSignal, read_each
from distill.data.waveforms import Waveform, WaveformStore
from distill.errors import AudioError
from distill.paths import shown

logger = logging.getLogger(__name__)

_AHEAD_S = 300.0  # of sound, decoded before it is asked for
_LOOK_S = 0.1  # between looks at whether to stop
_NOTHING = np.zeros(0, np.float32)


class Awaited:
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
        assert self._pending is not None, "ask for it by `decode_ahead` first"
        start, stop, _ = part.indices(self._frames)
        waveform = self._pending.asked_for()
        if not isinstance(waveform, str):
            return waveform[start:stop]
        if not self._told:
            logger.warning("%s left out: %s", shown(self.path), waveform)
        self._told = True
        return _NOTHING

    @property
    def there(self) -> bool:
        """Whether the file was decoded."""
        return self._pending is not None and self._pending.there

    def expect(self, pending: "_Pending") -> None:
        """Say where the waveform is to come from."""
        self._pending = pending


def awaited_sounds(collection: Collection, sample_rate: int) -> tuple[Sound, ...]:
    """The usable sounds of a collection of which the headers were read; `decode_ahead` has to be asked for them."""
    usable = sorted(collection.usable, key=lambda file: file.digest)
    return tuple(
        Sound(file.path, file.digest, Awaited(file.path, max(1, round(file.duration_s * sample_rate))))
        for file in usable
    )


class Decoding:
    """Sounds being decoded in the background, for as long as somebody holds this."""


def decode_ahead(
    sounds: Sequence[Sound],
    sample_rate: int,
    limits: AudioLimits | None = None,
    cancel_event: threading.Event | None = None,
) -> Decoding:
    """Begin to decode the awaited ones among `sounds`, in this order, in the background, unless cancelled.

    So that the training has the machine, no more is decoded than it is about to need.
    """
    decoding, stop = Decoding(), StopSignal(cancel_event)
    weakref.finalize(decoding, stop.set)
    queue, begin = _Queue(stop, round(_AHEAD_S * sample_rate)), 0
    for sound in sounds:
        if isinstance(sound.waveform, Awaited) and not sound.waveform.there:
            sound.waveform.expect(queue.add(sound.path, begin))
            begin += len(sound.waveform)
    if begin:
        work = threading.Thread(target=queue.decode, args=(sample_rate, limits), name="distill-ahead")
        work.daemon = True  # a process that ends does not wait for sounds
        work.start()
    return decoding


class _Pending:
    """What will have become of a file: its waveform, the reason why there is none, or what ended the decoding."""

    def __init__(self, queue: "_Queue", begin: int) -> None:
        self.begin, self._queue = begin, queue
        self.outcome = Future[Waveform | str]()

    @property
    def there(self) -> bool:
        """Whether nobody has to wait, or would in vain."""
        return self.outcome.done() and self.outcome.exception() is None

    def asked_for(self) -> Waveform | str:
        """Wait for the outcome."""
        self._queue.reach(self.begin)
        return self.outcome.result()


class _Queue:
    """Files to be decoded one after the other, as far as a little beyond the last one that was asked for."""

    def __init__(self, stop: threading.Event, frames_ahead: int) -> None:
        self._stop, self._frames_ahead = stop, frames_ahead
        self._files: dict[Path, _Pending] = {}
        self._reached = 0  # where the last one asked for begins, were all one after the other
        self._asked = threading.Condition()

    def add(self, path: Path, begin: int) -> _Pending:
        """One more file, and where it begins."""
        self._files[path] = _Pending(self, begin)
        return self._files[path]

    def reach(self, begin: int) -> None:
        """Decode as far as a little beyond here."""
        with self._asked:
            self._reached = max(self._reached, begin)
            self._asked.notify()

    def decode(self, sample_rate: int, limits: AudioLimits | None) -> None:
        """Decode them all."""
        store = WaveformStore()

        def take(_: Path, recording: Recording) -> Waveform | str:
            return "silent" if is_silent(recording) else store.keep(recording.mono(sample_rate))

        try:
            with closing(read_each(list(self._files), take, limits, self._stop)) as outcomes:
                for path, found in outcomes:
                    outcome = UnreadableFile.of(path, found).reason if isinstance(found, AudioError) else found
                    self._files[path].outcome.set_result(outcome)
                    self._wait_until_needed(self._files[path].begin)
        except Exception as error:  # those who wait have to hear of it
            for pending in self._files.values():
                if not pending.outcome.done():
                    pending.outcome.set_exception(error)

    def _wait_until_needed(self, begin: int) -> None:
        with self._asked:
            while begin > self._reached + self._frames_ahead and not self._stop.is_set():
                self._asked.wait(_LOOK_S)
