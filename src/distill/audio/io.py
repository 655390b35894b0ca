"""Reading sound files to float waveforms, with a reason for every file that cannot be read, and writing them."""

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from distill.audio.limits import AudioLimits
from distill.audio.reader import AudioReader
from distill.audio.recording import Recording, Samples
from distill.errors import ConfigError
from distill.storage import atomic_write

BITS = {"16": "PCM_16", "24": "PCM_24", "32f": "FLOAT"}  # of a sample in a file, and libsndfile's name for them

_STEPS = 32_766  # of 16 bits to full scale, less one for the dither


def read_recording(path: Path, limits: AudioLimits | None = None) -> Recording:
    """Decode the file at `path`; raises `AudioError` with the reason when that is impossible."""
    with AudioReader(limits) as reader:
        return reader.read(path)


def read_waveform(path: Path, sample_rate: int, limits: AudioLimits | None = None) -> Samples:
    """Decode the file at `path` to mono float32 `[frames]` in [-1, 1] at `sample_rate` Hz; raises `AudioError`."""
    return read_recording(path, limits).mono(sample_rate)


def write_wav(path: Path | str, samples: Samples, sample_rate: int, *, bits: str = "24") -> Path:
    """Write float `[frames]` or `[frames, channels]` to a WAV file, as `wav_bytes` says; also raises `StorageError`."""
    atomic_write(Path(path), wav_bytes(samples, sample_rate, bits=bits))
    return Path(path)


def wav_bytes(samples: Samples, sample_rate: int, *, bits: str = "24") -> bytes:
    """Float `[frames]` or `[frames, channels]` as the content of a WAV file, clipped to [-1, 1].

    `bits` is 16, 24 or 32f, which is float; 16 has dither, the same every time. Raises `ConfigError` for others.
    """
    if bits not in BITS:
        raise ConfigError(f"bits is {bits}", f"it must be {', '.join(BITS)}")
    buffer = io.BytesIO()
    # Clipped here, because samples beyond full scale would wrap round.
    clipped = np.clip(samples, -1.0, 1.0)
    content = _dithered(clipped) if bits == "16" else clipped
    soundfile.write(buffer, content, sample_rate, format="WAV", subtype=BITS[bits])
    return buffer.getvalue()


def _dithered(samples: Samples) -> npt.NDArray[np.int16]:
    """Samples in steps of 16 bits, with triangular dither where they are not silent, so that softer ones are heard."""
    noise = np.random.default_rng(0).random((2, *samples.shape), np.float32)
    steps = samples * np.float32(_STEPS) + np.where(samples == 0, 0, noise[0] - noise[1])
    quantized: npt.NDArray[np.int16] = np.rint(steps).astype(np.int16)
    return quantized
