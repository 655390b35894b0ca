"""Fixtures that all tests share: one thread, a home of their own, small sounds, small nets."""

import itertools
import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import HealthCheck, settings

from distill.audio.worker_process import WorkerProcess
from support.decoders import decoders_kept
from support.models import NARROW
from support.running import start as start
from support.runs import make_runs_quick, run_with_prior
from support.sounds import RATE, write_collection
from support.web_server import Web, web_server

# Two workers on two cores: a second thread in each would only make them wait for each other.
torch.set_num_threads(1)

# How long an example may take says something of the machine alone. A fixture of one test serves all of its examples.
settings.register_profile(
    "tests", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
settings.load_profile("tests")

# Where it is set, every process that a test starts would compile all of distill again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A shell that starts the tests in the background has them ignore Ctrl-C, and so would the commands that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


COUNTED = "counted: "


@pytest.fixture
def counted(record_property: Callable[[str, object], None]) -> Callable[[str, int], None]:
    """`counted(what, number)`: so many kills, mutants or requests of this test are in the totals at the end."""
    return lambda what, number: record_property(f"{COUNTED}{what}", number)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    totals: Counter[str] = Counter()
    for report in itertools.chain.from_iterable(terminalreporter.stats.values()):
        if getattr(report, "when", "") == "call":  # not again for what comes before and after the test
            totals.update({name: number for name, number in report.user_properties if name.startswith(COUNTED)})
    for what, number in sorted(totals.items()):
        terminalreporter.write_line(f"{number:>8,} {what.removeprefix(COUNTED)}")


@pytest.fixture(scope="session", autouse=True)
def kept_decoders() -> Iterator[None]:
    """Decoders are kept from one test to the next: to start one takes longer than most tests."""
    with decoders_kept():
        yield


@pytest.fixture(scope="module")
def own_decoders() -> Iterator[None]:
    """Every reader starts and ends its decoder, as it does for a user."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distill.audio.reader.WorkerProcess", WorkerProcess)
        yield


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing a test does reaches the user's own library."""
    folder = tmp_path / "home"
    monkeypatch.setenv("DISTILL_HOME", str(folder))
    return folder


@pytest.fixture
def write_sound(tmp_path: Path) -> Callable[..., Path]:
    """`write_sound(name, samples, rate=48000, **soundfile_options)` → path below `tmp_path / "sounds"`."""

    def write(name: str, samples: np.ndarray, rate: int = RATE, **options: object) -> Path:
        path = tmp_path / "sounds" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, samples, rate, **options)
        return path

    return write


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """A folder with six short tones."""
    return write_collection(tmp_path / "collection")


@pytest.fixture(scope="module")
def narrow_nets() -> Iterator[None]:
    """Nets that are quickly trained and saved."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distill.models.blocks.WIDTHS", NARROW)
        yield


@pytest.fixture(scope="module")
def quick_runs() -> Iterator[None]:
    """Runs with narrow nets, a short start, and no picture at the end."""
    with pytest.MonkeyPatch.context() as patch:
        make_runs_quick(patch)
        yield


# The page's server


@pytest.fixture
def web(home: Path) -> Iterator[Web]:
    """A server of the page, whose library is in `home`."""
    with web_server(home) as web:
        yield web


@pytest.fixture(scope="module")
def made(quick_runs: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run with a prior, and the library of one model that it ended in."""
    base = tmp_path_factory.mktemp("made")
    run_with_prior(base)
    return base


@pytest.fixture
def bells(web: Web, made: Path) -> str:
    """The address of the library's only model, which has a prior."""
    shutil.copytree(made / "models", web.state.library.folder, dirs_exist_ok=True)
    return f"/api/models/{web.get('/api/models')[0]['id']}"
