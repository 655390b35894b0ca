"""Small sounds, made on the spot."""

from pathlib import Path

import numpy as np
import soundfile

RATE = 48_000


def tone(frequency: float, seconds: float, decay: float = 6.0, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """A decaying tone with a little noise: float32 `[frames]`, peak about 0.5."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).normal(scale=0.02, size=len(time))
    return ((np.sin(2 * np.pi * frequency * time) * 0.45 + noise) * np.exp(-decay * time)).astype(np.float32)


def write_collection(folder: Path, count: int = 6, rate: int = RATE) -> Path:
    """`count` short different tones, 0.2 to 0.5 s."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        sound = tone(110 * 2 ** (number / 3), 0.2 + 0.3 * number / max(1, count - 1), rate=rate, seed=number)
        soundfile.write(folder / f"tone_{number:02d}.wav", sound, rate, subtype="PCM_24")
    return folder
