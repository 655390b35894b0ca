"""What all tests share: one thread, a home of their own, and small sounds made on the spot."""

import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

RATE = 48_000

# Two workers on two cores: a second thread in each would only make them wait for each other.
torch.set_num_threads(1)

# A shell that starts the tests in the background has them ignore Ctrl-C, and so would the commands that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing a test does reaches the user's own library."""
    folder = tmp_path / "home"
    monkeypatch.setenv("DISTILL_HOME", str(folder))
    return folder


def tone(frequency: float, seconds: float, decay: float = 6.0, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """A decaying tone with a little noise: float32 `[frames]`, peak about 0.5."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).normal(scale=0.02, size=len(time))
    return ((np.sin(2 * np.pi * frequency * time) * 0.45 + noise) * np.exp(-decay * time)).astype(np.float32)


@pytest.fixture
def write_sound(tmp_path: Path) -> Callable[..., Path]:
    """`write_sound(name, samples, rate=48000, **soundfile_options)` → path below `tmp_path / "sounds"`."""

    def write(name: str, samples: np.ndarray, rate: int = RATE, **options: object) -> Path:
        path = tmp_path / "sounds" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, samples, rate, **options)
        return path

    return write


def write_collection(folder: Path, count: int = 6) -> Path:
    """`count` short different tones, 0.2 to 0.5 s."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        sound = tone(110 * 2 ** (number / 3), 0.2 + 0.3 * number / max(1, count - 1), seed=number)
        soundfile.write(folder / f"tone_{number:02d}.wav", sound, RATE, subtype="PCM_24")
    return folder


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """A folder with six short tones."""
    return write_collection(tmp_path / "collection")
