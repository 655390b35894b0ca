"""A collection of sound files: the usable ones, and the others with the reason why they are left out."""

import hashlib
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import numpy as np

from distill.audio.rates import LOWEST_RATE, USUAL_RATE
from distill.audio.recognition import is_sound_file
from distill.audio.recording import Recording, peak_of
from distill.audio.suffixes import AUDIO_SUFFIXES
from distill.data.levels import Heard, Level, dbfs
from distill.data.waveforms import Waveform
from distill.errors import AudioError, CollectionError, RaiseLimit, Remedy, Vocabulary, worded
from distill.paths import printable

SHORT_S = 0.05
_FULL_SCALE = 0.9999
_CLIPPED_SAMPLES = 8  # so many samples at full scale in one file are no accident

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class SoundFile:
    """The report on one readable file."""

    path: Path
    digest: str  # of the decoded sound (`content_digest`); of the file where only its header was read
    format: str
    sample_rate: int  # Hz
    channels: int
    duration_s: float
    peak: float  # NaN where only the header was read; then none of the following is known yet, but for `short`
    clipped: bool
    short: bool
    truncated: bool
    level: Level = Level.HEARD
    heard_peak: float = math.nan  # of what a model hears
    heard_rate: int = 0  # Hz at which it was judged
    unfinished: bool = False  # the header gives no length, or too little
    cancels: bool = False  # the channels cancel each other out
    offset: bool = False  # a constant offset (DC) was taken off
    duplicate_of: Path | None = None

    @property
    def notes(self) -> list[str]:
        """The oddities of the file in words, most important first; of an unusable file the first is the reason."""
        said = {
            self._level_note: self.level is not Level.HEARD,
            f"duplicate of {printable(self.duplicate_of or '')}": self.duplicate_of is not None,
            "truncated: the header promises more": self.truncated,
            "unfinished: the header gives no length, or too little; all that is there is used": self.unfinished,
            "channels cancel out: some were turned round before they were mixed": self.cancels,
            "DC offset: taken off": self.offset,
            "very short": self.short,
            "clipped": self.clipped,
        }
        return [words for words, holds in said.items() if holds]

    @property
    def _level_note(self) -> str:
        peak = f"its peak is at {dbfs(self.heard_peak):.0f} dBFS"
        return {
            Level.RAISED: f"very quiet: {peak}, so its level is raised",
            Level.QUIET: f"very quiet: {peak}",
            Level.INAUDIBLE: f"nothing audible: all of it lies above {self.heard_rate / 2000:g} kHz, half of the "
            "model's rate",
        }.get(self.level, self.level.value)

    @property
    def remedy(self) -> Remedy | str:
        """What would make an unusable file usable, if anything."""
        return RaiseLimit("min_dbfs", f"{math.floor(dbfs(self.heard_peak))}") if self.level is Level.QUIET else ""

    @property
    def usable(self) -> bool:
        """True if training uses the file: it is loud enough, and no earlier file has the same content."""
        return self.level in (Level.HEARD, Level.RAISED) and self.duplicate_of is None


@dataclass(frozen=True)
class UnreadableFile:
    """A file that could not be decoded, with the reason and a remedy."""

    path: Path
    reason: str
    remedy: Remedy | str = ""

    @classmethod
    def of(cls, path: Path, error: AudioError) -> Self:
        """The file at `path` that a reader refused."""
        # Without the path, which a display has beside the reason.
        return cls(path, error.reason.removeprefix(f"{printable(path)}: "), error.remedy)

    def worded(self, vocabulary: Vocabulary) -> str:
        """The reason and the remedy in one sentence, the latter in the words of `vocabulary`."""
        return worded(self.reason, self.remedy, vocabulary)


@dataclass(frozen=True)
class Sound:
    """One sound: mono float32 `[frames]` in [-1, 1], identified by its content, not by its path."""

    path: Path
    digest: str
    waveform: Waveform


@dataclass(frozen=True)
class Collection:
    """The reports on some sound files, in the order of their paths."""

    files: tuple[SoundFile, ...]
    unreadable: tuple[UnreadableFile, ...]
    sounds: tuple[Sound, ...] | None = field(default=None, repr=False)  # the usable ones, by digest, where kept
    sample_rate: int | None = None  # Hz, of `sounds`

    @property
    def usable(self) -> tuple[SoundFile, ...]:
        """The files that training uses."""
        return tuple(file for file in self.files if file.usable)

    @property
    def left_out(self) -> tuple[UnreadableFile, ...]:
        """The files that training does not use, each with the reason, in the order of their paths."""
        unused = (UnreadableFile(file.path, file.notes[0], file.remedy) for file in self.files if not file.usable)
        return tuple(sorted([*self.unreadable, *unused], key=lambda file: file.path))

    @property
    def duration_s(self) -> float:
        """Seconds of sound in the readable files."""
        return sum(file.duration_s for file in self.files)

    @property
    def common_rate(self) -> int | None:
        """The rate in Hz of all usable files, if they have the same and models can be trained at it."""
        rates = {file.sample_rate for file in self.usable}
        only = rates.pop() if len(rates) == 1 else 0
        return only if LOWEST_RATE <= only <= USUAL_RATE else None

    def count(self, what: Callable[[SoundFile], object]) -> dict[str, int]:
        """The number of readable files with each value of `what`, most frequent first."""
        return {str(value): n for value, n in Counter(map(what, self.files)).most_common()}


@dataclass(frozen=True)
class Found:
    """The visible files of a folder: the sound files, sorted by path, and the number of others of each suffix."""

    sounds: tuple[Path, ...]
    others: Mapping[str, int]

    @property
    def passed_over(self) -> str:
        """The other files in words; empty where there are none."""
        kinds = ", ".join(f"{suffix or 'without a suffix'} ({count})" for suffix, count in self.others.items())
        return f"not sound files, and passed over: {printable(kinds)}" if kinds else ""


def find_audio_files(folder: Path) -> list[Path]:
    """The sound files that `find_sounds` finds; raises `CollectionError` when there is none."""
    return list(find_sounds(folder).sounds)


def find_sounds(folder: Path) -> Found:
    """Look for sound files in a folder and those below it; raises `CollectionError` when there is none.

    Files are recognised by their suffix or their first bytes. Folders that may not be opened are included, so that
    reading reports them.
    """
    try:
        there = folder.exists()
    except OSError as error:
        raise CollectionError(
            f"{printable(folder)[:100]}: {error.strerror}", "give the folder that holds your sounds"
        ) from error
    if not there:
        raise CollectionError(f"{printable(folder)}: no such folder", "give the folder that holds your sounds")
    if not folder.is_dir():
        raise CollectionError(f"{printable(folder)} is a file", "give the folder that holds your sounds")
    closed: list[OSError] = []
    found: list[Path] = []
    others = Counter[str]()
    for place, folders, names in os.walk(folder, onerror=closed.append):
        folders[:] = [name for name in folders if not name.startswith(".")]  # in place: `os.walk` skips the others
        for path in (Path(place, name) for name in names if not name.startswith(".")):
            if is_sound_file(path):
                found.append(path)
            elif not path.is_dir():  # a link to one is among the names
                others[path.suffix.lower()] += 1
    found += [Path(error.filename) for error in closed]
    contents = Found(tuple(sorted(found)), dict(others.most_common()))
    if not found:
        kinds = " ".join(sorted(suffix.removeprefix(".") for suffix in AUDIO_SUFFIXES))
        passed_over = f"; {contents.passed_over}" if others else ""
        raise CollectionError(f"{printable(folder)}: no audio files in it (looked for {kinds}){passed_over}")
    return contents


def collected(
    outcomes: Iterable[tuple[Path, SoundFile | AudioError]],
    total: int,
    progress: Progress | None,
    same: Callable[[Path, Path], bool] | None = None,
) -> Collection:
    """The collection of `total` files, in order; files with one digest are copies, if `same` does not deny it."""
    files: list[SoundFile] = []
    unreadable: list[UnreadableFile] = []
    originals: dict[str, list[Path]] = {}
    for done, (path, file) in enumerate(outcomes, start=1):
        if isinstance(file, AudioError):
            unreadable.append(UnreadableFile.of(path, file))
        else:
            alike = originals.setdefault(file.digest, [])  # several where digests of probed files collide
            original = next((earlier for earlier in alike if same is None or same(earlier, path)), None)
            if original is None:
                alike.append(path)
            files.append(replace(file, duplicate_of=original))
        if progress:
            progress(done, total)
    return Collection(tuple(files), tuple(unreadable))


def describe(path: Path, recording: Recording, heard: Heard) -> SoundFile:
    """The report on a decoded file, of which a model hears `heard`."""
    peak = peak_of(recording.samples)
    clipped = int((np.abs(recording.samples) >= _FULL_SCALE).sum()) if peak >= _FULL_SCALE else 0
    duration = len(recording.samples) / recording.sample_rate
    return SoundFile(
        path=path,
        digest=content_digest(recording),
        format=recording.format,
        sample_rate=recording.sample_rate,
        channels=recording.samples.shape[1],
        duration_s=duration,
        peak=peak,
        clipped=clipped >= _CLIPPED_SAMPLES,
        short=duration < SHORT_S,
        truncated=recording.truncated,
        level=heard.level,
        heard_peak=heard.peak,
        heard_rate=heard.sample_rate,
        unfinished=recording.unfinished,
        cancels=recording.cancels,
        offset=recording.has_offset,
    )


def content_digest(recording: Recording) -> str:
    """SHA-256 of the decoded samples and their rate: a copy has the same under any name and in any lossless format."""
    digest = hashlib.sha256(f"{recording.sample_rate}".encode())
    digest.update(np.ascontiguousarray(recording.samples).data)
    return digest.hexdigest()
