"""Opening a collection: every file is read once, and its sounds are kept on demand."""

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from distill.audio.limits import AudioLimits
from distill.audio.rates import USUAL_RATE
from distill.audio.recording import Recording, within_full_scale
from distill.data.collection import Collection, Progress, Sound, SoundFile, collected, describe
from distill.data.levels import Level, at_level, heard
from distill.data.prefetch import prefetched_sounds
from distill.data.probe import probe_headers
from distill.data.reading import read_each
from distill.data.waveforms import Waveform, WaveformStore

_RESAMPLERS = 4  # threads, at most


def open_collection(
    paths: Iterable[Path],
    sample_rate: int | None = None,
    *,
    usual_rate: int | None = None,
    progress: Progress | None = None,
    limits: AudioLimits | None = None,
    cancel_event: threading.Event | None = None,
    on_recording: Callable[[Path, Recording], None] | None = None,
) -> Collection:
    """Decode sound files and report on each; with a rate, in Hz, their usable sounds are kept.

    They are kept at `sample_rate`, or if only `usual_rate` is given, at the rate that they have in common or, where
    they have none, at that one. If sounds are kept and the collection is long, only headers are read, and the sounds
    are decoded during training (`distill.data.prefetch`). `progress(done, total)` is called after each file,
    `on_recording` with each recording, in threads. Raises `Cancelled` soon after `cancel_event` is set, `StorageError`
    when there is no room for the sounds.
    """
    todo = list(paths)
    keeps = sample_rate is not None or usual_rate is not None
    if keeps:
        probed = probe_headers(todo, progress, limits, cancel_event)
        if probed is not None:
            rate = _rate(probed, sample_rate, usual_rate)
            return replace(probed, sounds=prefetched_sounds(probed, rate), sample_rate=rate)
    store, kept = WaveformStore(), dict[Path, Waveform]()
    # Without a rate, as high as it may turn out to be: no sound is lost at its own.
    model_rate = sample_rate or usual_rate or USUAL_RATE

    def take(path: Path, recording: Recording) -> SoundFile:
        if on_recording:
            on_recording(path, recording)
        sound = heard(recording, model_rate, limits)
        if keeps and sound.usable:
            # Here, in the thread that read it: waiting for its turn, a whole recording would take far more memory.
            # While the common rate is not known, as it is: at that rate, most often nothing is left to be done.
            kept[path] = store.keep(sound.samples if sample_rate is None else sound.at(sample_rate))
        return describe(path, recording, sound)

    with closing(read_each(todo, take, limits, cancel_event)) as outcomes:
        collection = collected(outcomes, len(todo), progress)
    if not keeps:
        return collection
    rate = _rate(collection, sample_rate, usual_rate)
    if sample_rate is None:
        kept = _at_rate(collection.usable, kept, rate)
    # By digest, so that a run does not depend on the names of the files.
    usable = sorted(collection.usable, key=lambda file: file.digest)
    sounds = tuple(Sound(file.path, file.digest, kept[file.path]) for file in usable)
    return replace(collection, sounds=sounds, sample_rate=rate)


def _rate(collection: Collection, sample_rate: int | None, usual_rate: int | None) -> int:
    rate = sample_rate or collection.common_rate or usual_rate
    assert rate is not None
    return rate


def _at_rate(files: Iterable[SoundFile], mixed: dict[Path, Waveform], sample_rate: int) -> dict[Path, Waveform]:
    """The waveforms of `files` at `sample_rate`, as `Recording.mono` makes them of their mixes, which leave `mixed`."""
    store = WaveformStore()  # with room of its own, because each mix that is replaced leaves the other

    def convert(file: SoundFile) -> Waveform:
        waveform = mixed.pop(file.path)
        if file.heard_rate == sample_rate and file.heard_peak <= 1 and file.level is Level.HEARD:
            return waveform
        return store.keep(at_level(within_full_scale(waveform[:], file.heard_rate, sample_rate), file.level))

    with ThreadPoolExecutor(min(_RESAMPLERS, os.cpu_count() or 1), "distill-resample") as pool:
        return dict(zip([file.path for file in files], pool.map(convert, files), strict=True))
