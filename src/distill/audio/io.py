"""Sound files to float waveforms and back, block by block, with a reason for every file that cannot be read."""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from distill.errors import AudioError
from distill.storage import atomic_write

Samples = npt.NDArray[np.float32]

LIBSNDFILE_SUFFIXES = frozenset({".wav", ".flac", ".aif", ".aiff", ".aifc", ".ogg", ".oga", ".opus", ".mp3"})
PYAV_SUFFIXES = frozenset({".m4a", ".mp4", ".aac"})
AUDIO_SUFFIXES = LIBSNDFILE_SUFFIXES | PYAV_SUFFIXES

_STREAMED = 0x7FFF0000  # bytes: what a program writes as the length when it does not know it yet
_BLOCK = 1 << 18  # frames; never allocated from a header, which may claim anything


@dataclass(frozen=True)
class Recording:
    """A decoded file: `samples` float32 `[frames, channels]` at `sample_rate` Hz, as the file has them."""

    samples: Samples
    sample_rate: int
    format: str
    declared_frames: int

    @property
    def truncated(self) -> bool:
        """Whether the header promised at least 0.1 s more than could be decoded."""
        return self.declared_frames - len(self.samples) > 0.1 * self.sample_rate

    def mono(self, sample_rate: int) -> Samples:
        """Float32 `[frames]` at `sample_rate` Hz: the mean of the channels, scaled down if it exceeds ±1."""
        mixed = self.samples.mean(axis=1, dtype=np.float32)
        resampled = np.asarray(soxr.resample(mixed, self.sample_rate, sample_rate), dtype=np.float32)
        resampled = resampled if len(resampled) else mixed[:1]  # a few frames at a high rate: keep one
        peak = float(np.abs(resampled).max(initial=0.0))
        return resampled / np.float32(peak) if peak > 1 else resampled


def read_recording(path: Path) -> Recording:
    """Decode the file at `path`; raises `AudioError` with the reason when there is no sound to be had."""
    try:
        if not path.is_file():
            raise AudioError(f"{path}: no such file")
        if path.stat().st_size == 0:
            raise AudioError(f"{path}: the file is empty")
    except OSError as error:
        raise AudioError(f"{path}: {error.strerror or error}") from error
    recording = _read_pyav(path) if path.suffix.lower() in PYAV_SUFFIXES else _read_libsndfile(path)
    if len(recording.samples) == 0:
        raise AudioError(f"{path}: the file holds no audio frames")
    if not np.isfinite(recording.samples).all():
        raise AudioError(f"{path}: the file holds samples that are not numbers (NaN or infinity)")
    return recording


def read_waveform(path: Path, sample_rate: int) -> Samples:
    """Decode the file at `path` to mono float32 `[frames]` in [-1, 1] at `sample_rate` Hz; raises `AudioError`."""
    return read_recording(path).mono(sample_rate)


def _read_libsndfile(path: Path) -> Recording:
    try:
        with soundfile.SoundFile(path) as file:
            blocks = list(_blocks(file))
            samples = np.concatenate(blocks)
            declared = _declared_frames(file, len(samples))
            return Recording(samples, file.samplerate, file.format, declared)
    except (soundfile.SoundFileError, RuntimeError, ValueError) as error:
        raise AudioError(f"{path}: not readable as audio ({_reason(error)})") from error
    except OSError as error:
        raise AudioError(f"{path}: {error.strerror or error}") from error


def _blocks(file: soundfile.SoundFile) -> Iterator[Samples]:
    yield np.zeros((0, file.channels), dtype=np.float32)
    while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
        yield block


def _declared_frames(file: soundfile.SoundFile, decoded: int) -> int:
    """How many frames the header promises; libsndfile cuts WAV and AIFF to what is there, and notes it in passing."""
    cut = re.search(r"(?:data|SSND) : (\d+) \(should be (\d+)\)", file.extra_info)
    if cut is None or int(cut[1]) >= _STREAMED:
        return decoded if cut else min(file.frames, 1 << 62)
    return round(decoded * int(cut[1]) / max(1, int(cut[2])))


def _reason(error: Exception) -> str:
    text = str(getattr(error, "error_string", None) or error).rstrip(".").removeprefix("Error : ")
    return "no sound format that is known" if "not a regular file" in text else text


def _read_pyav(path: Path) -> Recording:
    try:
        import av
    except ImportError:
        raise AudioError(f"{path}: {path.suffix} files need the extra: pip install 'distill-audio[m4a]'") from None
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise AudioError(f"{path}: there is no audio in it")
            stream = container.streams.audio[0]
            to_float = av.AudioResampler(format="fltp")
            frames = [out for frame in container.decode(stream) for out in to_float.resample(frame)]
            blocks = [np.zeros((0, stream.channels), np.float32), *(frame.to_ndarray().T for frame in frames)]
            samples = np.concatenate(blocks).astype(np.float32)
            return Recording(samples, int(stream.rate), "M4A", len(samples))
    except (av.FFmpegError, ValueError) as error:
        raise AudioError(f"{path}: not readable as audio ({error})") from error


def write_wav(path: Path, samples: Samples, sample_rate: int) -> Path:
    """Write float `[frames]` to a 24-bit WAV file, clipped to [-1, 1]; raises `StorageError`."""
    clipped = np.clip(samples, -1.0, 1.0)
    buffer = io.BytesIO()
    soundfile.write(buffer, clipped, sample_rate, format="WAV", subtype="PCM_24")
    atomic_write(path, buffer.getbuffer())
    return path
