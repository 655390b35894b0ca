"""Opening a collection: every file is read once, and its sounds are kept on demand."""

import threading
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from distill.audio.limits import AudioLimits
from distill.audio.recording import Recording
from distill.data.collection import Collection, Progress, Sound, SoundFile, collected, describe
from distill.data.prefetch import prefetched_sounds
from distill.data.probe import probe_headers
from distill.data.reading import read_each
from distill.data.waveforms import Waveform, WaveformStore


def open_collection(
    paths: Iterable[Path],
    sample_rate: int | None = None,
    *,
    progress: Progress | None = None,
    limits: AudioLimits | None = None,
    cancel_event: threading.Event | None = None,
    on_recording: Callable[[Path, Recording], None] | None = None,
) -> Collection:
    """Decode sound files and report on each; with `sample_rate`, in Hz, their usable sounds are kept at that rate.

    If sounds are kept and the collection is long, only headers are read, and the sounds are decoded during training
    (`distill.data.prefetch`). `progress(done, total)` is called after each file, `on_recording` with each recording, in
    threads. Raises `Cancelled` soon after `cancel_event` is set, `StorageError` when there is no room for the sounds.
    """
    todo = list(paths)
    if sample_rate is not None:
        probed = probe_headers(todo, progress, limits, cancel_event)
        if probed is not None:
            return replace(probed, sounds=prefetched_sounds(probed, sample_rate))
    store, kept = WaveformStore(), dict[Path, Waveform]()

    def take(path: Path, recording: Recording) -> SoundFile:
        if on_recording:
            on_recording(path, recording)
        file = describe(path, recording)
        if sample_rate is not None and not file.silent:
            # Here, in the thread that read it: waiting for its turn, a whole recording would take far more memory.
            kept[path] = store.keep(recording.mono(sample_rate))
        return file

    with closing(read_each(todo, take, limits, cancel_event)) as outcomes:
        collection = collected(outcomes, len(todo), progress)
    if sample_rate is None:
        return collection
    # By digest, so that a run does not depend on the names of the files.
    usable = sorted(collection.usable, key=lambda file: file.digest)
    return replace(collection, sounds=tuple(Sound(file.path, file.digest, kept[file.path]) for file in usable))
