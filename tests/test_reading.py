"""Many files are read on several cores: in order, a few at a time, and nothing goes on when nobody listens."""

import os
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from distill.audio.recording import Recording
from distill.data import reading
from distill.data.opening import open_collection
from distill.data.reading import expected_bytes, read_each
from distill.errors import AudioError, Cancelled, StorageError
from support.sounds import RATE, tone
from support.waiting import PATIENCE_S, until

pytestmark = pytest.mark.usefixtures("own_decoders")

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def three_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    monkeypatch.setattr(reading, "_READER_BYTES", 1)  # however little there is to decode


@pytest.fixture
def paths(write_sound: Write) -> list[Path]:
    return [write_sound(f"{number}.wav", tone(200 + number, 0.1)) for number in range(8)]


def frames(_: Path, recording: Recording) -> int:
    return len(recording.samples)


def test_outcomes_come_in_the_order_of_the_paths(write_sound: Write, tmp_path: Path) -> None:
    lengths = [3.0, 0.1, 0.2, 2.0, 0.3]
    paths = [write_sound(f"{seconds}.wav", tone(440, seconds)) for seconds in lengths]
    paths.insert(2, tmp_path / "gone.wav")
    found = list(read_each(paths, frames))
    assert [path for path, _ in found] == paths
    assert isinstance(found.pop(2)[1], AudioError)
    assert [outcome for _, outcome in found] == [RATE * seconds for seconds in lengths]


def test_several_are_read_at_once(paths: list[Path]) -> None:
    together = threading.Barrier(3, timeout=PATIENCE_S)

    def meet(path: Path, _: Recording) -> str:
        together.wait()
        return path.name

    assert [name for _, name in read_each(paths[:6], meet)] == [path.name for path in paths[:6]]


@pytest.mark.parametrize(("megabytes", "readers"), [(0.1, 1), (2, 2), (10, 3)])
def test_another_reader_is_started_only_where_there_is_much_to_decode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, megabytes: float, readers: int
) -> None:
    monkeypatch.setattr(reading, "_READER_BYTES", 16 << 20)
    paths = [tmp_path / f"{number}.wav" for number in range(5)]
    for path in paths:
        with path.open("wb") as file:
            file.truncate(int(megabytes * (1 << 20)))
    assert reading._useful_readers(paths) == readers
    assert reading._useful_readers([*paths, tmp_path / "gone.wav"][-1:]) == 1


def test_of_large_files_there_is_one_in_memory_at_a_time(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_LARGE_BYTES", 1)
    busy = threading.Lock()

    def alone(path: Path, _: Recording) -> str:
        assert busy.acquire(blocking=False)
        time.sleep(0.02)  # so that two would meet
        busy.release()
        return path.name

    assert len(list(read_each(paths, alone))) == len(paths)


@pytest.mark.parametrize(
    ("name", "megabytes", "large"),
    [("a.wav", 31, False), ("a.wav", 33, True), ("a.FLAC", 17, True), ("a.mp3", 2, False), ("a.ogg", 3, True)],
)
def test_how_large_a_recording_is_follows_from_file_and_kind(
    tmp_path: Path, name: str, megabytes: int, large: bool
) -> None:
    with (tmp_path / name).open("wb") as file:
        file.truncate(megabytes << 20)
    assert (expected_bytes(tmp_path / name) > reading._LARGE_BYTES) == large
    assert expected_bytes(tmp_path / "gone.wav") == 0


def test_no_more_is_read_ahead_than_there_are_readers(paths: list[Path]) -> None:
    begun = []
    with closing(read_each(paths, lambda path, _: begun.append(path))) as outcomes:
        next(outcomes)
        until(lambda: len(begun) == 3 + 1)
    assert len(begun) == 3 + 1  # who listens no more has waited for all that were asked to read


def test_no_files_are_none_read() -> None:
    assert list(read_each([], frames)) == []


def test_what_goes_wrong_with_a_recording_ends_the_reading(paths: list[Path]) -> None:
    def full(path: Path, _: Recording) -> None:
        if path == paths[3]:
            raise StorageError("no room")

    seen: list[Path] = []
    with pytest.raises(StorageError, match="no room"):
        seen.extend(path for path, _ in read_each(paths, full))
    assert seen == paths[:3]


def test_the_event_stops_all_readers(paths: list[Path]) -> None:
    cancel = threading.Event()
    with pytest.raises(Cancelled):
        list(read_each(paths, lambda *_: cancel.set(), cancel_event=cancel))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks into /proc")
def test_nothing_is_left_when_nobody_listens_any_more(paths: list[Path]) -> None:
    def children() -> str:
        return "".join(path.read_text() for path in Path("/proc/self/task").glob("*/children"))

    before = children(), threading.active_count()
    with closing(read_each(paths, frames)) as outcomes:
        next(outcomes)
        assert children() != before[0]
    assert (children(), threading.active_count()) == before


def test_a_scan_reports_alike_however_many_read(
    paths: list[Path], write_sound: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = write_sound("again.wav", tone(203, 0.1))
    todo = [*paths, again, tmp_path / "gone.wav"]
    several = open_collection(todo)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert open_collection(todo) == several
    assert several.files[-1].duplicate_of == paths[3]
