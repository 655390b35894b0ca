"""No file, whatever is in it and whatever it is, takes distill down, holds it up or fills its memory."""

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from distill.audio import worker_process
from distill.audio.deadline import TICK_S, Deadline
from distill.audio.io import read_recording
from distill.audio.limits import AudioLimits
from distill.audio.reader import AudioReader
from distill.cli.app import app
from distill.cli.messages import COMMAND_LINE
from distill.data.collection import find_audio_files
from distill.data.opening import open_collection
from distill.errors import AudioError, Cancelled, ConfigError
from distill.paths import printable
from distill.training.request import TrainingRequest
from support.decoders import worker_that as command_of_worker_that
from support.sounds import RATE, tone
from support.waiting import until

Write = Callable[..., Path]

pytestmark = pytest.mark.usefixtures("own_decoders")

posix = pytest.mark.skipif(os.name != "posix", reason="this kind of file is there on POSIX systems only")


@pytest.fixture
def reader() -> Iterator[AudioReader]:
    with AudioReader() as reader:
        yield reader


@pytest.fixture
def good(write_sound: Write) -> Path:
    return write_sound("good.wav", tone(440, 0.1))


@pytest.fixture
def bad(write_sound: Write) -> Path:
    return write_sound("bad.wav", tone(220, 0.1))


@pytest.fixture
def worker_that(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """`worker_that(does)`: the worker does that, for files called bad, before it decodes them."""

    def replace(does: str) -> None:
        monkeypatch.setattr(worker_process, "COMMAND", command_of_worker_that(f"if 'bad' in path: {does}"))

    return replace


@pytest.fixture
def at_first_tick(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """`at_first_tick(happens)`: that happens while a file is being read."""

    def replace(happens: Callable[[], object]) -> None:
        todo, tick = [happens], Deadline.tick

        def ticked(deadline: Deadline) -> None:
            if todo:
                todo.pop()()
            tick(deadline)

        monkeypatch.setattr(Deadline, "tick", ticked)

    return replace


@contextmanager
def allowed(total_s: float, silent_s: float) -> Iterator[None]:
    """A file may take so long, whatever it holds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Deadline, "for_file", lambda size, cancel_event: Deadline(total_s, silent_s, cancel_event))
        yield


def pid(reader: AudioReader) -> int:
    return reader._worker._process.pid


def refusal(reader: AudioReader, path: Path) -> str:
    """Why the file is refused."""
    with pytest.raises(AudioError) as caught:
        reader.read(path)
    assert str(caught.value).startswith(f"{printable(path)}: ")
    return str(caught.value).removeprefix(f"{printable(path)}: ")


# Damaged files

FORMATS = {
    "pcm.wav": ("WAV", "PCM_16"),
    "float.wav": ("WAV", "FLOAT"),
    "a.flac": ("FLAC", "PCM_16"),
    "a.ogg": ("OGG", "VORBIS"),
    "a.opus": ("OGG", "OPUS"),
    "a.mp3": ("MP3", "MPEG_LAYER_III"),
    "a.aiff": ("AIFF", "PCM_24"),
}


def mutant(rng: np.random.Generator, whole: bytes, other: bytes) -> bytes:
    """`whole` with one kind of damage: noise, ones, zeros, a cut, a gap, a repetition, or another file's middle."""
    data, size = bytearray(whole), len(whole)
    start = int(rng.integers(0, min(size, rng.choice([64, 4096, size]))))
    length = int(rng.integers(1, rng.choice([4, 64, 2048])))
    for byte in rng.integers(0, size if rng.random() < 0.5 else min(size, 200), rng.integers(0, 9)):
        data[byte] = rng.integers(0, 256)
    match rng.integers(0, 8):
        case 0:
            data[start : start + length] = rng.bytes(length)
        case 1:
            data[start : start + length] = b"\xff" * length
        case 2:
            data[start : start + length] = bytes(length)
        case 3:
            del data[start:]
        case 4:
            del data[start : start + length]
        case 5:
            data[start:start] = data[start : start + length]
        case 6:
            data[start : start + length] = other[start : start + length]
    return bytes(data)


@pytest.mark.parametrize("count", [140, pytest.param(2000, marks=pytest.mark.soak)])
def test_every_damaged_file_is_decoded_or_refused_with_a_reason_in_time(
    count: int, write_sound: Write, reader: AudioReader, good: Path
) -> None:
    stereo = np.stack([tone(440, 0.4), tone(330, 0.4)], axis=1)
    originals = {
        name: write_sound(name, stereo, format=kind, subtype=subtype).read_bytes()
        for name, (kind, subtype) in FORMATS.items()
    }
    rng = np.random.default_rng(count)
    outcomes: dict[str, int] = {}
    for number in range(count):
        name = list(originals)[number % len(originals)]
        path = good.with_name(f"{number} {name}")
        path.write_bytes(mutant(rng, originals[name], originals[str(rng.choice(list(originals)))]))
        try:
            recording = reader.read(path)
            assert len(recording.samples) > 0
            assert np.isfinite(recording.mono(RATE)).all()
            outcome = "truncated" if recording.truncated else "decoded"
        except AudioError as error:
            outcome = str(error).removeprefix(f"{path}: ")
            assert len(outcome) > 10
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        path.unlink()
    assert len(outcomes) > 3
    assert not any(outcome.startswith("gave up") for outcome in outcomes)
    assert outcomes["decoded"] > count / 10
    assert len(reader.read(good).samples) > 0


# What becomes of the worker process


@pytest.mark.parametrize(
    ("does", "reason"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "crashed on it (SIGSEGV)"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "crashed on it (SIGKILL)"),
        ("os._exit(3)", "crashed on it (exit code 3)"),
        ("answers.write(b'?' * 5000)", "crashed on it"),
        ("bytearray(3 << 30)", "more memory than one file may use"),
        ("raise ZeroDivisionError('by nothing')", "not readable as audio (ZeroDivisionError: by nothing)"),
    ],
)
@posix
def test_a_fault_of_the_decoder_costs_one_file_and_no_more(
    does: str, reason: str, worker_that: Callable[[str], None], reader: AudioReader, good: Path, bad: Path
) -> None:
    worker_that(does)
    assert reason in refusal(reader, bad)
    assert reader.read(good).samples.shape == (4800, 1)
    assert reason in refusal(reader, bad)


def test_a_worker_killed_while_it_decodes_costs_that_file(
    reader: AudioReader, worker_that: Callable[[str], None], at_first_tick: Callable, good: Path, bad: Path
) -> None:
    worker_that("time.sleep(600)")
    reader.read(good)
    at_first_tick(lambda: os.kill(pid(reader), signal.SIGTERM))
    assert "crashed on it (SIGTERM)" in refusal(reader, bad)
    reader.read(good)


def test_a_worker_killed_between_two_files_costs_none(reader: AudioReader, good: Path) -> None:
    reader.read(good)
    os.kill(pid(reader), signal.SIGTERM)
    reader._worker._process.wait()
    assert len(reader.read(good).samples) == 4800


@posix
def test_a_worker_that_does_nothing_is_given_up(reader: AudioReader, good: Path) -> None:
    reader.read(good)
    os.kill(pid(reader), signal.SIGSTOP)
    with allowed(total_s=1e9, silent_s=0.5):
        assert "gave up: no progress for 0 s" in refusal(reader, good)
    reader.read(good)


def test_a_worker_that_works_on_and_on_is_given_up(
    reader: AudioReader, worker_that: Callable[[str], None], bad: Path
) -> None:
    worker_that("[worker.send_json(answers, worker.Kind.COUNTED, 0.0) for _ in iter(int, 1)]")
    with allowed(total_s=0.5, silent_s=1e9):
        assert "gave up: not decoded after 0 s" in refusal(reader, bad)


def given_up_after(deadline: Deadline, said_every_s: float = 1e9, sound_s: float = 0.0) -> int:
    """The seconds after which a worker is given up that sends a message with so much sound every so often."""
    ticks = 0
    while not deadline.error:
        ticks += 1
        deadline.tick()
        if ticks * TICK_S % said_every_s < TICK_S:
            deadline.report_progress(sound_s)
    return round(ticks * TICK_S)


@pytest.mark.parametrize(
    ("size", "said_every_s", "sound_s", "seconds"),
    [(0, 1e9, 0, 60), (10**9, 1e9, 0, 60), (0, 50, 0, 60), (10_000_000, 50, 0, 100), (0, 50, 1200, 80)],
    ids=["silent", "large but silent", "it talks", "large", "sound comes out of it"],
)
def test_a_worker_that_gets_little_of_a_busy_machine_has_a_minute_and_more_for_what_it_reads(
    size: int, said_every_s: float, sound_s: float, seconds: int
) -> None:
    assert given_up_after(Deadline.for_file(size, None), said_every_s, sound_s) == pytest.approx(seconds, abs=1)


def test_what_a_library_prints_is_not_taken_for_sound(
    reader: AudioReader, worker_that: Callable[[str], None], bad: Path
) -> None:
    worker_that("print('warning: ' * 5000, flush=True); os.write(1, b'B' * 100); os.write(2, b'x' * 10**6)")
    np.testing.assert_array_equal(reader.read(bad).samples, read_recording(bad).samples)


def test_setting_the_event_stops_the_reading_of_a_file(
    worker_that: Callable[[str], None], at_first_tick: Callable, good: Path, bad: Path
) -> None:
    worker_that("time.sleep(600)")
    cancel = threading.Event()
    with AudioReader(cancel_event=cancel) as reader:
        reader.read(good)
        at_first_tick(cancel.set)
        with pytest.raises(Cancelled, match="stopped while reading sounds"):
            reader.read(bad)
        with pytest.raises(Cancelled):
            reader.read(good)


def test_loading_a_collection_can_be_cancelled(collection: Path) -> None:
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        open_collection(find_audio_files(collection), RATE, cancel_event=cancel)


def test_a_worker_that_cannot_start_is_explained(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_process, "COMMAND", [sys.executable, "-c", "raise SystemExit(7)"])
    with AudioReader() as reader:
        assert "could not be started (exit code 7); `python -m distill.audio.worker_main`" in refusal(reader, good)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux lists them")
def test_nothing_is_left_of_a_reader(good: Path, bad: Path, worker_that: Callable[[str], None]) -> None:
    def handles() -> list[str]:
        gc.collect()
        return sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208

    def children() -> str:
        return "".join(path.read_text() for path in Path("/proc/self/task").glob("*/children"))

    worker_that("os._exit(1)")
    before = handles(), children(), threading.active_count()
    with AudioReader() as reader:
        for _ in range(2):
            reader.read(good)
            refusal(reader, bad)
        reader.read(good)
        assert str(pid(reader)) in children()
    assert (handles(), children(), threading.active_count()) == before


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks into /proc")
def test_the_worker_ends_when_the_program_that_read_is_killed(good: Path) -> None:
    script = f"""
import os, signal, pathlib
from distill.audio.reader import AudioReader
reader = AudioReader()
reader.read(pathlib.Path({str(good)!r}))
print(reader._worker._process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    worker = (
        Path("/proc") / subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout.strip()
    )
    until(lambda: not worker.exists() or b"worker" not in (worker / "cmdline").read_bytes())


def test_the_worker_starts_without_what_training_needs() -> None:
    unneeded = {"torch", "librosa", "soxr", "av", "rich", "pydantic"}
    check = f"import sys, distill.audio.worker_main; print({unneeded} & set(sys.modules) or 'none')"
    result = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "none"


# Files that are none, or not for long


@posix
def test_what_is_no_regular_file_is_named_and_never_opened(
    good: Path, reader: AudioReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = good.parent
    os.mkfifo(folder / "fifo.wav")
    (folder / "zero.wav").symlink_to("/dev/zero")
    (folder / "loop.wav").symlink_to("loop.wav")
    (folder / "gone.wav").symlink_to("nowhere.wav")
    monkeypatch.chdir(folder)  # the name of a socket must be short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket.wav")
        reasons = {file.path.name: file.reason for file in open_collection(find_audio_files(folder)).unreadable}
    assert reasons == {
        "fifo.wav": "not a regular file (a FIFO)",
        "zero.wav": "not a regular file (a device)",
        "socket.wav": "not a regular file (a socket)",
        "loop.wav": "Too many levels of symbolic links",
        "gone.wav": "a link to a file that is not there",
    }
    assert refusal(reader, folder) == "not a regular file (a folder)"


def test_a_file_that_vanishes_before_it_is_opened_is_missing(
    reader: AudioReader, worker_that: Callable[[str], None], bad: Path
) -> None:
    worker_that("os.unlink(path)")
    assert refusal(reader, bad) == "No such file or directory"


def test_a_file_that_shrinks_before_it_is_opened_is_no_sound(
    reader: AudioReader, worker_that: Callable[[str], None], bad: Path
) -> None:
    worker_that("os.truncate(path, 10)")
    assert "not readable as audio" in refusal(reader, bad)


@posix
def test_a_file_that_becomes_a_fifo_is_given_up(
    reader: AudioReader, worker_that: Callable[[str], None], bad: Path, good: Path
) -> None:
    worker_that("os.unlink(path); os.mkfifo(path)")
    reader.read(good)
    with allowed(total_s=1e9, silent_s=0.5):
        assert "gave up" in refusal(reader, bad)


def test_a_file_that_grows_is_read_as_far_as_it_went_at_first(write_sound: Write, reader: AudioReader) -> None:
    path = write_sound("growing.wav", np.zeros(3_000_000, np.float32) + 0.5)
    reader.read(path)
    done, started = threading.Event(), threading.Event()

    def grow() -> None:
        with path.open("ab") as file:
            while not done.wait(0.001):
                file.write(b"\x33" * 10_000)
                file.flush()
                started.set()

    thread = threading.Thread(target=grow)
    thread.start()
    try:
        started.wait()
        before = path.stat().st_size
        recording = reader.read(path)
        after = path.stat().st_size
        assert before <= 44 + 2 * len(recording.samples) < after
        assert recording.unfinished
    finally:
        done.set()
        thread.join()


@posix
def test_a_file_that_may_not_be_read_says_so(
    reader: AudioReader, worker_that: Callable[[str], None], bad: Path
) -> None:
    worker_that("os.geteuid() or os.seteuid(65534)")  # root may read anything
    bad.chmod(0)
    assert refusal(reader, bad) == "Permission denied"


@posix
def test_a_folder_that_may_not_be_opened_is_named(good: Path) -> None:
    with tempfile.TemporaryDirectory() as place:  # not pytest's, which is closed to others as a whole
        Path(place).chmod(0o755)
        (closed := Path(place) / "closed").mkdir(mode=0)
        user = os.geteuid()
        try:
            if user == 0:
                os.seteuid(65534)  # root may open anything
            (unreadable,) = open_collection(find_audio_files(Path(place))).unreadable
            assert (unreadable.path, unreadable.reason) == (closed, "Permission denied")
        finally:
            os.seteuid(user)
            closed.chmod(0o700)


# Names

NAMES = [
    b"new\nline.wav",
    b"tab\tand\x1b[31mred.wav",
    b"not utf-8 \xff\xfe.wav",
    b"quote ' \" \\ $(touch x).wav",
    "太鼓 🥁 é.wav".encode(),
    b"-n.wav",
    b"%s.flac",
]


@posix
def test_a_file_of_any_name_is_read_and_shown_on_one_line(good: Path) -> None:
    for number, name in enumerate(NAMES):
        kind = "FLAC" if name.endswith(b"flac") else "WAV"
        with open(os.path.join(os.fsencode(good.parent), name), "wb") as file:  # noqa: PTH118, PTH123
            soundfile.write(file, tone(110 * (number + 1), 0.1), RATE, format=kind)
    good.unlink()
    with open(os.path.join(os.fsencode(good.parent), b"bad\n\xff.wav"), "wb") as file:  # noqa: PTH118, PTH123
        file.write(b"no sound")

    collection = open_collection(find_audio_files(good.parent))
    said = CliRunner().invoke(app, ["inspect", str(good.parent)])
    as_json = CliRunner().invoke(app, ["inspect", str(good.parent), "--json"])

    assert {os.fsencode(file.path.name) for file in collection.usable} == set(NAMES)
    assert (said.exit_code, as_json.exit_code) == (0, 0)
    assert "new\\nline.wav" in said.output
    assert "\\x1b[31mred.wav" in said.output
    assert "太鼓 🥁 é.wav" in said.output
    assert "not readable: bad\\n\\udcff.wav: not readable as audio" in said.output
    assert "\x1b" not in said.output
    assert len(json.loads(as_json.output)["files"]) == len(NAMES)


@pytest.mark.parametrize(
    ("name", "text"), [("a b é 🥁.wav", "a b é 🥁.wav"), ("a\r\n\x7f\u2028\udcff", "a\\r\\n\\x7f\\u2028\\udcff")]
)
def test_only_what_would_break_a_line_is_escaped(name: str, text: str) -> None:
    assert printable(Path(name)) == text


# Samples


def test_a_sample_beyond_any_scale_is_no_sound(write_sound: Write, reader: AudioReader) -> None:
    path = write_sound("a.wav", np.full(100, 3e38, np.float32), subtype="FLOAT")
    assert "holds a sample of 3e+38, where full scale is 1" in refusal(reader, path)


def test_floats_on_the_scale_of_integers_are_scaled_down_whole(write_sound: Write, reader: AudioReader) -> None:
    sound = tone(440, 0.1)
    recording = reader.read(write_sound("a.wav", sound * 2.0**31, subtype="FLOAT"))
    np.testing.assert_allclose(recording.mono(RATE), sound / np.abs(sound).max(), atol=1e-6)


# Limits

FLAC_BLOCK = 65_535


@cache
def checksum_table(polynomial: int, bits: int) -> list[int]:
    table = []
    for value in range(256):
        value <<= bits - 8
        for _ in range(8):
            value = value << 1 ^ (polynomial if value >> (bits - 1) else 0)
            value &= (1 << bits) - 1
        table.append(value)
    return table


def checksum(data: bytes, polynomial: int, bits: int) -> bytes:
    table, value = checksum_table(polynomial, bits), 0
    for byte in data:
        value = (value << 8 & (1 << bits) - 1) ^ table[value >> (bits - 8) ^ byte]
    return value.to_bytes(bits // 8, "big")


@cache
def silent_frames(count: int) -> bytes:
    frames = []
    for number in range(count):
        head = b"\xff\xf8\x70\x08" + chr(number).encode() + (FLAC_BLOCK - 1).to_bytes(2, "big")
        frame = head + checksum(head, 0x07, 8) + bytes(3)
        frames.append(frame + checksum(frame, 0x8005, 16))
    return b"".join(frames)


def silent_flac(hours: float, claimed_frames: int | None = None, rate: int = 8_000) -> bytes:
    """A mono FLAC of zeros, 15 bytes for every eight seconds; 0 claimed frames is FLAC's way to say "unknown"."""
    blocks = round(hours * 3600 * rate / FLAC_BLOCK)
    claimed = blocks * FLAC_BLOCK if claimed_frames is None else claimed_frames
    info = FLAC_BLOCK.to_bytes(2, "big") * 2 + bytes(6) + (rate << 44 | 15 << 36 | claimed).to_bytes(8, "big")
    return b"fLaC\x80\x00\x00\x22" + info + bytes(16) + silent_frames(blocks)


def test_the_flac_of_these_tests_is_one(tmp_path: Path, reader: AudioReader) -> None:
    path = tmp_path / "silence.flac"
    path.write_bytes(silent_flac(0.1))
    recording = reader.read(path)
    assert len(recording.samples) == pytest.approx(0.1 * 3600 * 8_000, abs=FLAC_BLOCK)
    assert not recording.samples.any()
    path.write_bytes(silent_flac(0.1, claimed_frames=0))
    unknown = reader.read(path)
    assert unknown.samples.shape == recording.samples.shape
    assert not unknown.truncated


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux says how much a process ever had")
@pytest.mark.parametrize(
    ("claimed", "reason"),
    [
        (None, "claims to last 40 h; the limit is 2 h; allow it with AudioLimits(hours=40)"),
        (0, "lasts longer than the limit of 2 h; allow it with AudioLimits(hours=HOURS)"),
        (8_000, "the file goes on beyond the length given in its header"),
        (10 * 60 * 8_000, "the file goes on beyond the length given in its header"),
    ],
    ids=["true", "unknown", "a second", "ten minutes"],
)
def test_forty_hours_of_silence_are_refused_before_they_cost_256_mb(
    claimed: int | None, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "forty.flac"
    path.write_bytes(silent_flac(40 - 0.003, claimed))
    script = f"""
import pathlib, re
from distill.audio.reader import AudioReader
from distill.errors import AudioError
with AudioReader() as reader:
    try:
        reader.read(pathlib.Path({str(path)!r}))
    except AudioError as error:
        print(error)
    status = [pathlib.Path("/proc", str(who), "status").read_text() for who in ("self", reader._worker._process.pid)]
print(sum(int(re.search(r"VmHWM:\\s+(\\d+) kB", text)[1]) for text in status))
"""
    said, cost = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert said.startswith(f"{path}: {reason}")
    assert int(cost) * 1024 < 256e6


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"hours": 1e-4}, "claims to last 0.0002778 h; the limit is 0.0001 h; raise it with --limit hours=1"),
        ({"gib": 1e-4}, "claims 0.000358 GiB of samples; the limit is 0.0001 GiB; raise it with --limit gib=1"),
        ({"channels": 1}, "has 2 channels; the limit is 1; raise it with --limit channels=2"),
        ({"max_hz": 44_100}, "has a rate of 48000 Hz; the limit is 44100 Hz; raise it with --limit max_hz=48000"),
        ({"min_hz": 96_000}, "has a rate of 48000 Hz; the limit is 96000 Hz; lower it with --limit min_hz=48000"),
    ],
)
@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_what_exceeds_a_limit_is_refused_with_the_option_that_raises_it(
    limits: dict[str, float], reason: str, suffix: str, write_sound: Write
) -> None:
    path = write_sound(f"a.{suffix}", np.stack([tone(440, 1.0)] * 2, axis=1))
    with AudioReader(AudioLimits(**limits)) as reader, pytest.raises(AudioError) as caught:
        reader.read(path)
    assert caught.value.worded(COMMAND_LINE) == f"{path}: {reason}"


def test_the_limits_are_those_of_the_document() -> None:
    text = (Path(__file__).parent.parent / "docs" / "audio-files.md").read_text()
    limits = AudioLimits()
    for row in (f"`hours` | {limits.hours:g}", f"`gib` | {limits.gib:g}", f"`channels` | {limits.channels}",
                f"`min_hz` | {limits.min_hz}", f"`max_hz` | {limits.max_hz}"):  # fmt: skip
        assert f"| {row} |" in text


@pytest.mark.parametrize("bad", [{"hours": 0}, {"hours": "long"}, {"channels": 0}, {"min_hz": 400_000}, {"minutes": 3}])
def test_a_limit_that_makes_no_sense_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        AudioLimits(**bad)


@pytest.mark.parametrize("command", ["inspect {f}", "train {f}", "reconstruct model {f} -o {f}/out"])
@pytest.mark.parametrize("limit", ["minutes=3", "hours", "hours=long", "channels=0"])
def test_the_command_line_refuses_an_unknown_limit(command: str, limit: str, collection: Path) -> None:
    said = CliRunner().invoke(app, [*command.format(f=collection).split(), "--limit", limit])
    assert said.exit_code == 2
    assert "--limit" in said.output


def test_the_command_line_raises_a_limit(write_sound: Write) -> None:
    path = write_sound("slow.wav", tone(100, 1.0, rate=2000), 2000)
    assert "--limit min_hz=2000" in CliRunner().invoke(app, ["inspect", str(path.parent)]).output
    said = CliRunner().invoke(app, ["inspect", str(path.parent), "--limit", "min_hz=2000", "--limit", "hours=3"])
    assert "1 files, 1.00 s; 1 usable" in said.output


def test_a_run_keeps_its_limits_when_it_is_resumed(collection: Path, tmp_path: Path) -> None:
    request = TrainingRequest.for_folder(collection, output_dir=tmp_path / "run", audio_limits=AudioLimits(hours=48))
    assert request.audio_limits == AudioLimits(hours=48)
    facts = {
        "format": "distill_run",
        "family": "vqvae",
        "config": {},
        "files": [],
        "duration_s": 0.0,
        "models_dir": None,
        "dataset_name": "",
        "model_name": "",
    }
    (tmp_path / "run").mkdir()
    for noted, hours in (({"audio_limits": {"hours": 48.0}}, 48), ({}, 2)):
        (tmp_path / "run" / "run.json").write_text(json.dumps(facts | noted))
        assert TrainingRequest.resume(tmp_path / "run").audio_limits == AudioLimits(hours=hours)
