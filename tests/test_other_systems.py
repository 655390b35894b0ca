"""What Windows, macOS and disks of other systems answer where Linux does as it is told."""

import errno
import io
import os
import socket
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distill.audio import decode, worker_main, worker_process
from distill.audio.limits import AudioLimits
from distill.cli.streams import open_streams
from distill.data.cutting import cut_recordings
from distill.errors import ConfigError, StorageError
from distill.home import default_models_dir
from distill.library.catalog import ModelLibrary
from distill.models.persistence import rename_model
from distill.storage import atomic_write, portable_name, safe_stem
from distill.web import server
from distill.web.folders import Folders
from support.models import save_rvq_vae, small_rvq_vae
from support.sounds import RATE, tone

Write = Callable[..., Path]


class System:
    """A module in which some names are another system's; all others are this one's."""

    def __init__(self, module: types.ModuleType, **answers: Any) -> None:
        self._module, self._answers = module, answers

    def __getattr__(self, name: str) -> Any:
        return self._answers[name] if name in self._answers else getattr(self._module, name)


def refusing(number: int, times: int = 10**6, winerror: int | None = None, real: Any = None) -> Any:
    """A system call that fails so many times before it does what `real` does."""
    left = [times]

    def call(*arguments: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            return real(*arguments, **options)
        error = OSError(number, os.strerror(number))
        if winerror is not None:
            error.winerror = winerror  # type: ignore[attr-defined]
        raise error

    return call


@pytest.fixture
def case_insensitive(monkeypatch: pytest.MonkeyPatch) -> None:
    """File names as on macOS and Windows: another case is the same file."""

    def found(path: Path) -> Path | None:
        siblings = path.parent.iterdir() if os.path.isdir(path.parent) else ()  # noqa: PTH112
        return next((one for one in siblings if one.name.casefold() == path.name.casefold()), None)

    monkeypatch.setattr(Path, "exists", lambda path, **_: found(path) is not None)
    monkeypatch.setattr(Path, "samefile", lambda path, other: found(path) == found(Path(other)))


# Files


def test_dropped_sounds_come_back_where_a_folder_cannot_take_the_place_of_another(tmp_path, monkeypatch):
    rename = Path.rename
    monkeypatch.setattr(
        Path, "rename", lambda path, to: refusing(errno.EEXIST)() if Path(to).exists() else rename(path, to)
    )
    folders = Folders(tmp_path)
    folder = folders.create("drums")
    (folder.path / "kick.wav").write_bytes(b"kick")
    again = folders.restore(folders.remove(folder.id))
    assert (again.id, [path.name for path in again.path.iterdir()]) == (folder.id, ["kick.wav"])


def test_on_windows_a_write_waits_for_programs_that_have_the_file_open(tmp_path, monkeypatch):
    path, waits = tmp_path / "library.json", []
    path.write_bytes(b"old")
    monkeypatch.setattr("distill.storage.time.sleep", waits.append)
    windows = {"name": "nt", "replace": refusing(errno.EACCES, 3, winerror=32, real=os.replace)}
    monkeypatch.setattr("distill.storage.os", System(os, **windows))
    atomic_write(path, b"new")
    assert (path.read_bytes(), len(waits)) == (b"new", 3)

    monkeypatch.setattr("distill.storage.os", System(os, name="nt", replace=refusing(errno.EACCES, winerror=32)))
    with pytest.raises(StorageError, match="close the program that has it open, then try again"):
        atomic_write(path, b"newer")
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("library.json", b"new")]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_disk_that_cannot_sync_folders_takes_files(tmp_path, monkeypatch, number):
    def fsync(handle: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{handle}"):  # noqa: PTH112
            refusing(number)()
        os.fsync(handle)

    monkeypatch.setattr("distill.storage.os", System(os, fsync=fsync))
    atomic_write(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


@pytest.mark.parametrize("answer", [("posix", errno.ENAMETOOLONG, "name"), ("nt", errno.ENOENT, "n" * 260)])
def test_a_path_that_is_too_long_is_told_with_what_to_do(tmp_path, monkeypatch, answer):
    system, number, name = answer
    monkeypatch.setattr("distill.storage.os", System(os, name=system, open=refusing(number)))
    with pytest.raises(StorageError, match="choose a shorter name, or a folder with a shorter path"):
        atomic_write(tmp_path / name, b"new")


@pytest.mark.parametrize("name", ["con", "NUL.wav", "com1", "aux .wav", 'a:b*c?"<>|d', "a/b\\c"])
def test_names_that_another_system_has_no_file_by_are_changed(name):
    devices = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}
    for plain in (portable_name(name), safe_stem(name)):
        assert not set(plain) & set('<>:"/\\|?*')
        assert plain.partition(".")[0].strip().casefold() not in devices
    assert portable_name("Kick (1), soft.wav") == "Kick (1), soft.wav"


def test_pieces_of_recordings_whose_names_differ_in_case_or_colons_alone_replace_none(tmp_path, write_sound: Write):
    names = ["a/Take.wav", "b/take.wav", "a/x:1.wav", "a/x_1.wav", "c/a/TAKE.wav"]
    recordings = [write_sound(name, tone(220, 0.5)) for name in names]
    pieces = cut_recordings(recordings, tmp_path / "cut", 0.25).pieces
    assert len({piece.name.casefold() for piece in pieces}) == len(pieces) == 2 * len(names)
    assert not any(":" in piece.name for piece in pieces)


def test_a_model_whose_new_name_differs_in_case_alone_keeps_its_file_name(case_insensitive):
    library = ModelLibrary(default_models_dir())
    save_rvq_vae(small_rvq_vae(), library.folder, "kick")
    assert rename_model(library, library.entries()[0], "Kick").name == "Kick.distill"
    assert [(entry.name, entry.file) for entry in library.entries()] == [("Kick", "Kick.distill")]


# Processes, sockets, consoles


def test_a_decoder_starts_where_there_are_no_limits_or_no_proc(monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)  # Windows
    worker_main._limit_resources()
    limits: dict[int, Any] = {}
    resource = types.SimpleNamespace(
        RLIMIT_CORE=1, RLIMIT_AS=2, RLIM_INFINITY=-1, getpagesize=lambda: 4096, setrlimit=limits.__setitem__
    )
    monkeypatch.setitem(sys.modules, "resource", resource)
    monkeypatch.setattr(worker_main, "Path", lambda path: Path("/nowhere") / path.lstrip("/"))  # macOS
    worker_main._limit_resources()
    assert limits == {1: (0, 0)}


def test_sounds_are_opened_by_name_where_descriptors_are_not_shared(write_sound: Write, monkeypatch):
    path = write_sound("a.flac", tone(440, 0.1))
    monkeypatch.setattr(decode, "os", System(os, name="nt"))
    with decode.opened(str(path), AudioLimits()) as source:
        frames = np.concatenate(list(decode.checked_blocks(source, AudioLimits())))
    assert (source.sample_rate, frames.shape) == (RATE, (RATE // 10, 1))


def test_on_windows_ctrl_c_does_not_reach_a_decoder(monkeypatch):
    started: dict[str, Any] = {}

    def popen(command: list[str], **options: Any) -> Any:
        started.update(options)
        return types.SimpleNamespace(stdin=io.BytesIO(), stdout=io.BytesIO())

    windows = System(subprocess, CREATE_NEW_PROCESS_GROUP=0x200, Popen=popen)
    monkeypatch.setattr(worker_process, "subprocess", windows)
    worker_process.WorkerProcess()
    assert started["creationflags"] == 0x200


def test_on_windows_two_servers_cannot_share_a_port(monkeypatch):
    asked = []

    class Listener(socket.socket):
        def setsockopt(self, level: int, option: int, value: Any) -> None:  # type: ignore[override]
            asked.append(option)

    windows = System(socket, SO_EXCLUSIVEADDRUSE=-5, socket=Listener)
    monkeypatch.setattr(server, "socket", windows)
    with server.listen("127.0.0.1", 0) as first, pytest.raises(ConfigError, match="choose another port"):
        server.listen("127.0.0.1", first.getsockname()[1])
    assert asked == [-5, -5]


@pytest.mark.parametrize(
    ("encoding", "shown"), [("cp1252", "a.wav -> b.wav … ##.. \\u266b"), ("ascii", "a.wav -> b.wav ... ##.. \\u266b")]
)
def test_a_console_without_the_characters_that_are_printed_shows_others(monkeypatch, encoding, shown):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
    open_streams()
    sys.stdout.write("a.wav → b.wav … ██░░ ♫")
    sys.stdout.flush()
    assert written.getvalue().decode(encoding) == shown
