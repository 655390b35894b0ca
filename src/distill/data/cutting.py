"""Long recordings cut into sounds: where they are silent, or into equal lengths."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from distill.audio.io import write_wav
from distill.audio.limits import AudioLimits
from distill.audio.recording import Recording
from distill.data.collection import SHORT_S, UnreadableFile
from distill.data.levels import is_silent
from distill.data.reading import read_each
from distill.errors import AudioError, CollectionError, ConfigError, CutRecordings
from distill.storage import portable_name

_SHORTEST_S = 0.1  # that can be asked for
_STEP_S = 0.01  # for each of which there is a level
_GAP_S = 0.25  # of silence, at least, between two sounds
_LEAD_S = 0.01  # kept before a sound
_TAIL_S = 0.1  # kept after it, where it still fades
_ABOVE_FLOOR = 3.0  # times the level that nine tenths of a recording exceed: what is louder sounds
_FAINTEST, _LOUDEST = 0.01, 0.1  # of the peak: bounds of the level from which something sounds

Span = tuple[int, int]


@dataclass(frozen=True)
class Cut:
    """The WAV files that recordings were cut into, and the recordings that could not be read."""

    pieces: tuple[Path, ...]
    unreadable: tuple[UnreadableFile, ...]


def cut_recordings(
    recordings: Sequence[Path],
    folder: Path,
    seconds: float | None = None,
    *,
    limits: AudioLimits | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Cut:
    """Cut recordings at their silences, or every so many `seconds`, into WAV files in `folder`, named after them.

    Raises `ConfigError`, `StorageError`, and `CollectionError` if there are not at least two pieces; then none is left.
    """
    if seconds is not None and not _SHORTEST_S <= seconds < float("inf"):  # which NaN would not pass
        raise ConfigError(f"pieces of {seconds:g} seconds", f"they must be at least {_SHORTEST_S:g} seconds long")
    stems = _stems(recordings)

    def take(path: Path, recording: Recording) -> list[Path]:
        spans = _silent_cuts(recording) if seconds is None else _equal_cuts(recording, seconds)
        return [
            write_wav(folder / f"{stems[path]}_{number:03d}.wav", recording.samples[start:stop], recording.sample_rate)
            for number, (start, stop) in enumerate(spans, start=1)
        ]

    pieces: list[Path] = []
    unreadable: list[UnreadableFile] = []
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    with closing(read_each(recordings, take, limits)) as outcomes:
        for done, (path, outcome) in enumerate(outcomes, start=1):
            if isinstance(outcome, AudioError):
                unreadable.append(UnreadableFile.of(path, outcome))
            else:
                pieces += outcome
            if progress:
                progress(done, len(recordings))
    if len(pieces) < 2:
        for piece in pieces:
            piece.unlink()
        for place in made:
            place.rmdir()
        what = "silence to cut at was found" if seconds is None else f"recording is longer than {seconds:g} seconds"
        raise CollectionError(f"no {what}, so there would be too few sounds to train on", CutRecordings())
    return Cut(tuple(pieces), tuple(unreadable))


def _stems(recordings: Sequence[Path]) -> dict[Path, str]:
    """A name for each recording, the folder's name before it where two would be alike, whatever their case."""
    plain = {path: portable_name(path.stem) for path in recordings}
    times = Counter(stem.casefold() for stem in plain.values())
    stems: dict[Path, str] = {}
    taken: set[str] = set()
    for path, stem in plain.items():
        name = stem if times[stem.casefold()] == 1 else f"{portable_name(path.parent.name)}_{stem}_{path.suffix[1:]}"
        names = (name, *(f"{name}_{number}" for number in range(2, 2 + len(plain))))
        stems[path] = next(name for name in names if name.casefold() not in taken)
        taken.add(stems[path].casefold())
    return stems


def _equal_cuts(recording: Recording, seconds: float) -> list[Span]:
    """Spans of frames, each so many `seconds` long, and at the end what is left, unless it is very short."""
    step, end = max(1, round(seconds * recording.sample_rate)), len(recording.samples)
    bounds = [*range(0, end, step), end]
    return [span for span in pairwise(bounds) if span[1] - span[0] >= SHORT_S * recording.sample_rate]


def _silent_cuts(recording: Recording) -> list[Span]:
    """Spans of frames in which something sounds, with silence between them."""
    if is_silent(recording):
        return []
    step, end = round(_STEP_S * recording.sample_rate), len(recording.samples)
    loud = np.abs(recording.centred).max(axis=1)
    levels = np.maximum.reduceat(loud, range(0, end, step))
    threshold = np.clip(_ABOVE_FLOOR * np.percentile(levels, 10), _FAINTEST * levels.max(), _LOUDEST * levels.max())
    sounding = np.flatnonzero(levels >= threshold)
    borders = np.flatnonzero(np.diff(sounding) * _STEP_S > _GAP_S) + 1
    lead, tail = (round(seconds * recording.sample_rate) for seconds in (_LEAD_S, _TAIL_S))
    spans = [
        (max(0, int(group[0]) * step - lead), min(end, (int(group[-1]) + 1) * step + tail))
        for group in np.split(sounding, borders)
    ]
    return [span for span in spans if span[1] - span[0] - lead - tail >= SHORT_S * recording.sample_rate]
