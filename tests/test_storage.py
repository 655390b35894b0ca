"""What distill writes is on disk whole or not at all, and settings that make no sense never get that far."""

import errno
import itertools
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field
from pydantic.dataclasses import dataclass

from distill.errors import ConfigError, StorageError
from distill.schema import VALIDATED, Validated
from distill.storage import append_text, atomic_write, atomic_write_text, remove_orphans, safe_stem
from support.faults import FaultyOS, fail, fall_short, kill


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A file with old content, alone in its folder."""
    path = tmp_path / "kept" / "file.bin"
    path.parent.mkdir()
    path.write_bytes(b"old")
    return path


@pytest.fixture
def umask():
    """`umask(mask)` sets the process's mask for one test."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def in_child(work: Callable[[], None]) -> int:
    """Do `work` in a forked process; its exit status, negative for the signal that ended it."""
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_new_bytes_take_the_place_of_the_old(place):
    atomic_write(place, b"new")
    assert files(place.parent) == {"file.bin": b"new"}


def test_text_is_written_as_utf_8_and_folders_are_made_on_the_way(tmp_path):
    path = tmp_path / "a" / "b" / "text.txt"
    atomic_write_text(path, "Füße 🥁")
    assert path.read_bytes() == "Füße 🥁".encode()


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EACCES])
def test_whichever_system_call_fails_the_file_is_the_old_or_the_new_one_and_nothing_else_is_left(
    place, monkeypatch, number
):
    for at in itertools.count():
        place.write_bytes(b"old")
        faulty = FaultyOS(at, fail(number))
        monkeypatch.setattr("distill.storage.os", faulty)
        with suppress(StorageError):
            atomic_write(place, b"new" * 1000)
        monkeypatch.undo()
        left = files(place.parent)
        # Once renamed the new file stands, though a failing sync of the folder is told.
        assert left in ({"file.bin": b"old"}, {"file.bin": b"new" * 1000}), (at, faulty.struck)
        if not faulty.struck:
            assert left == {"file.bin": b"new" * 1000}
            assert at > 8
            return


def test_a_write_that_falls_short_is_gone_on_with(place, monkeypatch):
    monkeypatch.setattr("distill.storage.os", FaultyOS(1, fall_short))
    atomic_write(place, b"new" * 1000)
    assert place.read_bytes() == b"new" * 1000


def test_a_disk_that_gives_back_other_bytes_is_told(place, monkeypatch):
    def lie(faulty, name, arguments):
        return b"x" * len(os.read(*arguments))

    monkeypatch.setattr("distill.storage.os", FaultyOS(0, lie, calls=("read",)))
    with pytest.raises(StorageError, match="what was read back differs"):
        atomic_write(place, b"new")
    assert files(place.parent) == {"file.bin": b"old"}


def test_killed_in_any_system_call_the_file_is_the_old_or_the_new_one(place, monkeypatch):
    for at in itertools.count():
        place.write_bytes(b"old")
        monkeypatch.setattr("distill.storage.os", FaultyOS(at, kill))
        ended = in_child(lambda: atomic_write(place, b"new" * 1000))
        monkeypatch.undo()
        assert place.read_bytes() in (b"old", b"new" * 1000)
        if ended == 0:
            assert place.read_bytes() == b"new" * 1000
            break
    assert files(place.parent) == {"file.bin": b"new" * 1000}  # what the killed left is gone with the next write


def test_only_half_written_files_whose_writer_is_gone_are_cleared_away(tmp_path, place, monkeypatch):
    monkeypatch.setattr("distill.storage.os", FaultyOS(3, kill))
    in_child(lambda: atomic_write(place, b"new"))
    monkeypatch.undo()
    (orphan,) = (path for path in place.parent.iterdir() if path != place)
    host, pid, rest = orphan.name.removeprefix(".distill-").split("-")
    kept = [
        place.parent / f".distill-{host}-{os.getpid()}-{rest}",  # being written
        place.parent / f".distill-{int(host, 16) ^ 1:08x}-{pid}-{rest}",  # by another machine
        place.parent / ".mine.tmp",
        place.parent / ".distill-notes.tmp",
    ]
    for path in kept:
        path.write_bytes(b"kept")
    remove_orphans(place.parent)
    assert set(place.parent.iterdir()) == {place, *kept}


def test_a_line_that_cannot_be_added_whole_is_not_added(place, monkeypatch):
    def half(faulty, name, arguments):
        os.write(arguments[0], arguments[1][:2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("distill.storage.os", FaultyOS(0, half, calls=("write",)))
    with pytest.raises(StorageError, match="No space left on device"):
        append_text(place, "line\n")
    monkeypatch.undo()
    assert place.read_bytes() == b"old"
    append_text(place, "line\n")
    assert place.read_bytes() == b"oldline\n"


def test_a_full_disk_is_told_with_what_was_needed_and_what_is_free(place, monkeypatch):
    monkeypatch.setattr("distill.storage.os", FaultyOS(1, fail(errno.ENOSPC)))
    with pytest.raises(StorageError, match=r"No space left on device \(2\.5 MB needed, [\d,.]+ MB free\); free some"):
        atomic_write(place, bytes(2_500_000))


def test_a_failing_rename_is_a_storage_error_and_leaves_no_temporary_file(tmp_path):
    taken = tmp_path / "taken"
    (taken / "inside").mkdir(parents=True)
    with pytest.raises(StorageError) as caught:
        atomic_write(taken, b"new")
    assert str(taken) in str(caught.value)
    assert list(tmp_path.iterdir()) == [taken]


def test_a_file_where_a_folder_should_be_is_a_storage_error(place):
    with pytest.raises(StorageError, match=r"file\.bin"):
        atomic_write_text(place / "below", "new")
    assert place.read_bytes() == b"old"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_permissions_are_those_of_any_new_file(place, umask, mask):
    umask(mask)
    atomic_write(place, b"new")
    assert place.stat().st_mode & 0o777 == 0o666 & ~mask


def test_writing_never_touches_the_umask_that_all_threads_share(place, monkeypatch):
    # os.umask can only be read by setting it: two threads that do so at once can leave it at 0 for good.
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("the umask was set"))
    atomic_write(place, b"new")
    assert place.read_bytes() == b"new"


def test_a_reader_sees_the_old_or_the_new_content_and_nothing_between(tmp_path):
    path = tmp_path / "busy"
    contents = {bytes([letter]) * 200_000 for letter in b"ab"}
    atomic_write(path, b"a" * 200_000)
    seen, done = set(), threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.add(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(20):
        for content in contents:
            atomic_write(path, content)
    done.set()
    reader.join()
    assert seen <= contents


@given(st.text(max_size=300))
def test_a_safe_stem_is_one_visible_file_name_whatever_the_text(name):
    stem = safe_stem(name)
    assert stem
    assert Path(stem).name == stem
    assert not stem.startswith(".")
    assert not set(stem) & set('/\\:*?"<>|\0\n')


@given(st.text(alphabet="音ä𝒳x", min_size=100, max_size=200))
def test_a_safe_stem_leaves_room_in_a_file_name_for_a_counter_and_an_extension(name):
    assert len(safe_stem(name).encode()) + len("_999999.distill") <= 255


@dataclass(config=VALIDATED)
class Oven(Validated):
    degrees: int = Field(default=180, ge=0, le=300)
    fan: bool = False


def test_an_unknown_setting_is_told_with_the_known_ones():
    with pytest.raises(ConfigError, match="degree is not a setting of Oven; the known ones are degrees, fan"):
        Oven(degree=3)


def test_every_bad_setting_is_told_at_once():
    with pytest.raises(ConfigError, match=r"degrees is 301: it should be at most 300; fan is 'soft'"):
        Oven(degrees=301, fan="soft")


@pytest.mark.parametrize("value", [10**5000, "x" * 10**6], ids=["huge", "long"])
def test_a_complaint_about_a_very_large_value_is_short(value):
    with pytest.raises(ConfigError, match="degrees is ") as caught:
        Oven(degrees=value)
    assert len(str(caught.value)) < 500


def test_a_bad_assignment_is_refused_and_the_old_value_stays():
    oven = Oven()
    with pytest.raises(ConfigError, match="degrees"):
        oven.degrees = 301
    assert oven == Oven(degrees=180)
    oven.degrees = 200
    assert oven == Oven(degrees=200)
