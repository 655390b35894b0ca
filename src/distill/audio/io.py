"""Reading sound files to float waveforms, with a reason for every file that cannot be read, and writing them."""

import io
from pathlib import Path

import numpy as np
import soundfile

from distill.audio.limits import AudioLimits
from distill.audio.reader import AudioReader
from distill.audio.recording import Recording, Samples
from distill.storage import atomic_write


def read_recording(path: Path, limits: AudioLimits | None = None) -> Recording:
    """Decode the file at `path`; raises `AudioError` with the reason when that is impossible."""
    with AudioReader(limits) as reader:
        return reader.read(path)


def read_waveform(path: Path, sample_rate: int, limits: AudioLimits | None = None) -> Samples:
    """Decode the file at `path` to mono float32 `[frames]` in [-1, 1] at `sample_rate` Hz; raises `AudioError`."""
    return read_recording(path, limits).mono(sample_rate)


def write_wav(path: Path, samples: Samples, sample_rate: int) -> Path:
    """Write float `[frames]` or `[frames, channels]` to a 24-bit WAV file, clipped to ±1; raises `StorageError`."""
    atomic_write(path, wav_bytes(samples, sample_rate))
    return path


def wav_bytes(samples: Samples, sample_rate: int) -> bytes:
    """Float `[frames]` or `[frames, channels]` as the content of a 24-bit WAV file, clipped to [-1, 1]."""
    buffer = io.BytesIO()
    # Clipped here, because samples beyond full scale would wrap round.
    soundfile.write(buffer, np.clip(samples, -1.0, 1.0), sample_rate, format="WAV", subtype="PCM_24")
    return buffer.getvalue()
