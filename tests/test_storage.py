"""What distill writes is on disk whole or not at all, and settings that make no sense never get that far."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field
from pydantic.dataclasses import dataclass

from distill.errors import ConfigError, StorageError
from distill.schema import CHECKED, Checked
from distill.storage import atomic_write, atomic_write_text, safe_stem


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


def test_new_bytes_take_the_place_of_the_old(place):
    atomic_write(place, lambda file: file.write(b"new"))
    assert place.read_bytes() == b"new"
    assert list(place.parent.iterdir()) == [place]


def test_text_is_written_as_utf_8_and_folders_are_made_on_the_way(tmp_path):
    path = tmp_path / "a" / "b" / "text.txt"
    atomic_write_text(path, "Füße 🥁")
    assert path.read_bytes() == "Füße 🥁".encode()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_crash_in_the_writer_leaves_the_old_bytes_and_no_temporary_file(place, error):
    def crash(file):
        file.write(b"half")
        raise error

    with pytest.raises(error):
        atomic_write(place, crash)
    assert place.read_bytes() == b"old"
    assert list(place.parent.iterdir()) == [place]


def test_a_process_killed_while_writing_leaves_the_old_bytes(place):
    script = "import os, sys; from pathlib import Path; from distill.storage import atomic_write\n"
    script += "atomic_write(Path(sys.argv[1]), lambda file: (file.write(b'half'), file.flush(), os._exit(9)))"
    killed = subprocess.run([sys.executable, "-c", script, str(place)], check=False)
    assert killed.returncode == 9
    assert place.read_bytes() == b"old"


def test_a_failing_write_is_a_storage_error_that_names_the_file_and_the_cause(place):
    def disk_full(file):
        raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match="No space left on device") as caught:
        atomic_write(place, disk_full)
    assert str(place) in str(caught.value)
    assert place.read_bytes() == b"old"
    assert list(place.parent.iterdir()) == [place]


def test_a_failing_rename_is_a_storage_error_and_leaves_no_temporary_file(tmp_path):
    taken = tmp_path / "taken"
    (taken / "inside").mkdir(parents=True)
    with pytest.raises(StorageError) as caught:
        atomic_write(taken, lambda file: file.write(b"new"))
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
    atomic_write(place, lambda file: file.write(b"new"))
    assert place.stat().st_mode & 0o777 == 0o666 & ~mask


def test_writing_never_touches_the_umask_that_all_threads_share(place, monkeypatch):
    # os.umask can only be read by setting it: two threads that do so at once can leave it at 0 for good.
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("the umask was set"))
    atomic_write(place, lambda file: file.write(b"new"))
    assert place.read_bytes() == b"new"


def test_a_reader_sees_the_old_or_the_new_content_and_nothing_between(tmp_path):
    path = tmp_path / "busy"
    contents = {bytes([letter]) * 200_000 for letter in b"ab"}
    atomic_write(path, lambda file: file.write(b"a" * 200_000))
    seen, done = set(), threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.add(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(20):
        for content in contents:
            atomic_write(path, lambda file, content=content: file.write(content))
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
def test_a_safe_stem_leaves_room_in_a_file_name_for_a_counter_an_extension_and_a_temporary_name(name):
    assert len(safe_stem(name).encode()) + len(".._999999.distill.12345678.tmp") <= 255


@dataclass(config=CHECKED)
class Oven(Checked):
    degrees: int = Field(default=180, ge=0, le=300)
    fan: bool = False


def test_an_unknown_setting_is_told_with_the_known_ones():
    with pytest.raises(ConfigError, match="degree is not a setting of Oven; the known ones are degrees, fan"):
        Oven(degree=3)


def test_every_bad_setting_is_told_at_once():
    with pytest.raises(ConfigError, match=r"degrees is 301: .*less than or equal to 300.*; fan is 'soft'"):
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
