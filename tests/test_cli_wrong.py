"""Wrong invocations: one line on stderr, exit code 1 or 2, and nothing else happens; where it matters, in a process."""

import os
import pty
import select
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from support.commands import run, tree
from support.decoders import distill_whose_worker
from support.models import write_model
from support.sounds import write_collection
from support.waiting import until

LONG = "x" * 10_000
HUGE = str(10**30)


@dataclass(frozen=True)
class Wrong:
    """A command line ({w} is the world, {t} the test's own folder), how it ends, and what it is to name."""

    command: str
    code: int
    names: str
    more: tuple[str | bytes, ...] = ()  # arguments that a command line cannot hold
    env: dict[str, str] = field(default_factory=dict)
    streams: str = ""  # a shell's redirections
    process: bool = False  # of its own, as it has for other arguments, environments and streams than the usual ones

    @property
    def needs_process(self) -> bool:
        return self.process or bool(self.more or self.env or self.streams)


TRAIN, KIT = "train {w}/kit", "generate kit -o {t}/made"
LIBRARY = "--models-dir {w}/models"
ELSEWHERE = {"DISTILL_HOME": "{w}/notes.txt"}

WRONG = {
    # missing
    "no folder to inspect": Wrong("inspect", 2, "missing argument", process=True),
    "neither folder nor resume": Wrong("train", 2, "FOLDER"),
    "no sounds": Wrong("reconstruct kit -o {t}/made", 2, "files"),
    "no place for the result": Wrong("reconstruct kit {w}/kit", 2, "--output-dir"),
    "no new name": Wrong("models rename kit", 2, "name"),
    "an option without its value": Wrong(f"{TRAIN} --models-dir", 2, "--models-dir"),
    "half of a pair": Wrong(f"{KIT} --interpolate a.wav", 2, "--interpolate"),
    "a missing folder": Wrong("inspect {w}/nowhere", 1, "no such folder", process=True),
    "a missing sound": Wrong("reconstruct kit {w}/nowhere.wav -o {t}/made", 1, "nowhere.wav: no such file"),
    "a missing model": Wrong("models show nowhere", 1, "no model 'nowhere'"),
    "a missing model file": Wrong("models delete {w}/nowhere.distill --yes", 1, "nowhere.distill"),
    # unknown
    "an unknown command": Wrong("compose", 2, "compose"),
    "an unknown command for models": Wrong("models sho", 2, "`distill models --help`"),
    "an unknown option": Wrong("inspect {w}/kit --frobnicate", 2, "--frobnicate"),
    "an argument too many": Wrong("inspect {w}/kit {w}/empty", 2, "empty"),
    "an unknown order": Wrong("models list --sort age", 2, "--sort"),
    "an unknown device": Wrong(f"{TRAIN} --device tpu", 2, "--device"),
    # conflicting
    "folder and resume": Wrong(f"{TRAIN} --resume {{w}}/run", 2, "not both"),
    "epochs and minutes": Wrong(f"{TRAIN} --epochs 1 --minutes 1", 2, "--epochs or --minutes"),
    "resume with a setting": Wrong("train --resume {w}/run --seed 1", 2, "--resume"),
    "a vae with levels": Wrong(f"{TRAIN} --model vae --rvq-levels 3", 2, "--rvq-levels"),
    "a walk of so many": Wrong(f"{KIT} --interpolate a.wav b.wav -n 2", 2, "--interpolate"),
    # no number, or none that can be
    "minutes nan": Wrong(f"{TRAIN} --minutes nan", 2, "--minutes", process=True),
    "minutes without end": Wrong(f"{TRAIN} --minutes inf", 2, "--minutes"),
    "minutes beyond any number": Wrong(f"{TRAIN} --minutes 1e400", 2, "--minutes"),
    "commitment weight nan": Wrong(f"{TRAIN} --commitment-weight nan", 2, "--commitment-weight"),
    "learning rate -inf": Wrong(f"{TRAIN} --learning-rate -inf", 2, "--learning-rate"),
    "seconds nan": Wrong(f"{KIT} --seconds nan", 2, "--seconds"),
    "an amount nan": Wrong(f"{KIT} --set brightness=nan", 2, "brightness=nan"),
    "no amount": Wrong(f"{KIT} --set brightness", 2, "NAME=AMOUNT"),
    "a rate too low": Wrong(f"{TRAIN} --rate 8000", 2, "--rate"),
    "a rate too high": Wrong(f"{TRAIN} --rate 96000", 2, "--rate"),
    "resume with a rate": Wrong("train --resume {w}/run --rate 44100", 2, "--resume"),
    "a huge batch": Wrong(f"{TRAIN} --batch-size {HUGE}", 2, "--batch-size"),
    "a huge seed": Wrong(f"{TRAIN} --seed {HUGE}", 2, "--seed"),
    "more digits than Python reads": Wrong(f"{TRAIN} --epochs {'9' * 5000}", 2, "--epochs"),
    "a huge number of sounds": Wrong(f"{KIT} -n {HUGE}", 2, "--count"),
    "five levels": Wrong("reconstruct kit {w}/kit -o {t}/made --levels 5", 2, "--levels"),
    "a cut at no number": Wrong(f"{TRAIN} --cut often", 2, "--cut often"),
    "half an epoch": Wrong(f"{TRAIN} --epochs 0.5", 2, "--epochs"),
    # odd words
    "an empty folder name": Wrong("inspect", 2, "empty", more=("",)),
    "an empty option": Wrong("models list --models-dir=", 2, "empty"),
    "a long folder name": Wrong(f"inspect {LONG}", 1, "File name too long"),
    "a long model name": Wrong(f"models show {LONG} {LIBRARY}", 1, "File name too long"),
    "a long library name": Wrong(f"models list --models-dir {{t}}/{LONG}", 1, "File name too long"),
    "a folder name that is not UTF-8": Wrong("inspect", 1, r"\udcff: no such folder", more=(b"\xff",)),
    "a model that is not UTF-8": Wrong("models show", 1, r"\udcff", more=(b"\xff",)),
    "a command that is not UTF-8": Wrong("", 2, r"\udcff", more=(b"\xff",)),
    "a number that is not UTF-8": Wrong(f"{TRAIN} --epochs", 2, "--epochs", more=(b"\xff",)),
    "a name of several lines": Wrong("inspect", 1, r"a\nb\x1b[31m: no such", more=("a\nb\x1b[31m",)),
    # not what it should be
    "a file as the folder": Wrong("inspect {w}/notes.txt", 1, "notes.txt is a file"),
    "a pipe as the folder": Wrong("inspect {w}/pipe", 1, "pipe is a file"),
    "a pipe as the model": Wrong("models show {w}/pipe.distill", 1, "pipe.distill: not a file"),
    "a text as the model": Wrong("models show {w}/notes.txt", 1, "notes.txt: not a"),
    "a folder as the model": Wrong("models delete {w}/kit --yes", 1, "no model"),
    "a file as the library": Wrong("models rebuild --models-dir {w}/notes.txt", 1, "notes.txt is a file"),
    "a library below a file": Wrong("models list --models-dir {w}/notes.txt/models", 1, "notes.txt is a file"),
    "a file as the home": Wrong("models list", 1, "notes.txt is a file", env=ELSEWHERE),
    "a model in a home that is a file": Wrong("models show kit", 1, "notes.txt is a file", env=ELSEWHERE),
    "two models of one name": Wrong(f"models delete twin --yes {LIBRARY}", 1, "by its id: id-one, id-two"),
    # no way to say it, or to ask
    "delete without a terminal": Wrong(f"models delete kit {LIBRARY}", 1, "--yes", process=True),
    "delete with nothing to read from": Wrong(f"models delete kit {LIBRARY}", 1, "--yes", streams="<&-"),
    "a closed output": Wrong(f"models list {LIBRARY}", 1, "standard output is closed", streams=">&-"),
    "a full output": Wrong(f"models list {LIBRARY}", 1, "No space left", streams=">/dev/full"),
    "a full output for the help": Wrong("--help", 1, "No space left", streams=">/dev/full"),
    "a terminal that can do nothing": Wrong("inspect {w}/nowhere", 1, "no such folder", env={"TERM": "dumb"}),
    "a terminal of one column": Wrong("inspect {w}/nowhere", 1, "no such folder", env={"COLUMNS": "1"}),
    "a terminal of ASCII": Wrong("inspect nöwhere", 1, r"n\xf6where", env={"PYTHONIOENCODING": "ascii"}),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sounds, a library, and things that are neither; tests only read it."""
    world = tmp_path_factory.mktemp("world")
    write_collection(world / "kit", 2)
    for name, about in {"kit": {}, "one": {"name": "twin"}, "two": {"name": "twin"}}.items():
        write_model(world / "models" / f"{name}.distill", **about)
    (world / "empty").mkdir()
    (world / "notes.txt").write_text("neither folder nor model")
    for name in ("pipe", "pipe.distill"):
        os.mkfifo(world / name)
    distill("models", "list", "--models-dir", world / "models", cwd=world)  # which makes the index
    return world


def distill(
    *arguments: object, cwd: Path, env: dict[str, str] | None = None, streams: str = ""
) -> "subprocess.CompletedProcess[bytes]":
    """Run `distill ARGUMENTS` in a shell with these redirections."""
    words = [word if isinstance(word, bytes) else os.fsencode(str(word)) for word in arguments]
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {streams}', "sh", sys.executable, "-m", "distill", *words],
        cwd=cwd,
        env={**os.environ, "DISTILL_HOME": str(cwd / "home"), **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_wrong_invocation_is_one_line_and_nothing_else(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: Wrong
) -> None:
    if "/dev/full" in wrong.streams and not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    places = {"w": world, "t": tmp_path}
    words = [word.format(**places) for word in shlex.split(wrong.command)]
    env = {name: value.format(**places) for name, value in wrong.env.items()}
    before = tree(world, tmp_path)
    monkeypatch.chdir(tmp_path)
    if wrong.needs_process:
        done = distill(*words, *wrong.more, cwd=tmp_path, env=env, streams=wrong.streams)
        code, out, error = done.returncode, done.stdout.decode(), done.stderr.decode()
    else:
        code, out, error = run(*words)
    assert code == wrong.code, error
    assert out == ""
    assert error.startswith("error: "), error
    assert error.count("\n") == 1, error
    assert wrong.names in error
    assert len(error) < 1000
    assert not any(foreign in error for foreign in ("Traceback", "a fault in distill", "Errno"))
    assert tree(world, tmp_path) == before


def test_there_are_at_least_forty_of_them() -> None:
    assert len(WRONG) >= 40


# Names that are no text


def test_a_sound_and_a_model_whose_names_are_not_utf8_are_listed(tmp_path: Path) -> None:
    sounds, models = write_collection(tmp_path / "kit", 1), tmp_path / "models"
    (sounds / "tone_00.wav").rename(sounds / os.fsdecode(b"t\xf6n.wav"))
    write_model(models / "kit.distill").rename(models / os.fsdecode(b"k\xeft.distill"))
    for command in (["inspect", sounds], ["inspect", sounds, "--json"]):
        said = distill(*command, cwd=tmp_path)
        assert (said.returncode, said.stderr) == (0, b"")
        assert rb"t\udcf6n.wav" in said.stdout
    said = distill("models", "show", "kit", "--models-dir", models, cwd=tmp_path)
    assert (said.returncode, said.stderr) == (0, b"")
    assert rb"k\udceft.distill" in said.stdout


# Ctrl-C, typed into a terminal


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Our end and theirs."""
    ends = pty.openpty()
    yield ends
    for end in ends:
        os.close(end)


def read_until(handle: int, text: bytes, keys: bytes = b"") -> bytes:
    """What is shown up to `text`; `keys` are pressed every second, for Python can miss a Ctrl-C as its prompt opens."""
    screen = b""
    while text not in screen:
        os.write(handle, keys)
        while text not in screen and select.select([handle], [], [], 1)[0]:
            screen += os.read(handle, 1024)
    return screen


@pytest.mark.parametrize(("keys", "code", "says"), [(b"\x03", 130, b"stopped"), (b"n\n", 1, b"'kit' was not deleted")])
def test_what_is_not_confirmed_is_not_deleted(
    tmp_path: Path, terminal: tuple[int, int], keys: bytes, code: int, says: bytes
) -> None:
    ours, theirs = terminal
    model = write_model(tmp_path / "models" / "kit.distill")
    command = [sys.executable, "-m", "distill", "models", "delete", "kit", "--models-dir", model.parent]
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, preexec_fn=lambda: os.login_tty(os.dup(theirs))
    ) as process:
        read_until(ours, b"?")
        assert read_until(ours, says, keys)
    assert process.returncode == code
    assert model.is_file()


def test_ctrl_c_while_sounds_are_read_is_one_line(tmp_path: Path) -> None:
    sounds = write_collection(tmp_path / "kit", 2)
    says_so_and_sleeps = f"pathlib.Path({str(tmp_path / 'begun')!r}).touch(); time.sleep(600)"
    command = [*distill_whose_worker(says_so_and_sleeps), "inspect", str(sounds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        until((tmp_path / "begun").exists)
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == b"stopped\n"
    assert process.returncode == 130
