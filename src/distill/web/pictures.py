"""What the page draws or plays: outlines of waveforms, pictures of mels, WAV files in memory."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distill.audio.recording import Samples

if TYPE_CHECKING:
    from torch import Tensor


def outline(samples: Samples, parts: int) -> list[float]:
    """The peaks of so many equal parts of mono or many-channel samples `[S]` or `[S, C]`, each in [0, 1]."""
    loudness = np.abs(samples) if samples.ndim == 1 else np.abs(samples).max(axis=1)
    edges = np.linspace(0, len(loudness), parts, endpoint=False).astype(int)
    peaks = np.maximum.reduceat(loudness, edges) if len(loudness) else np.zeros(parts)
    return [round(float(peak), 3) for peak in np.clip(peaks, 0, 1)]


def mel_picture(mel: "Tensor") -> bytes:
    """A PNG of a mel `[M, T]`, a pixel for each value, low bands at the bottom."""
    from matplotlib.image import imsave

    buffer = io.BytesIO()
    imsave(buffer, mel.cpu().numpy(), cmap="magma", vmin=-1, vmax=0.6, origin="lower", format="png")
    return buffer.getvalue()


def mel_of_file(path: Path, config: dict[str, Any]) -> bytes:
    """A PNG of the mel of a sound file, as the spectrogram with these settings sees it; raises `AudioError`."""
    import torch

    from distill.audio.io import read_waveform
    from distill.audio.spectrogram import AudioSpectrogram, SpectrogramConfig, mark_end

    spectrogram = AudioSpectrogram(SpectrogramConfig(**config))
    waveform = torch.from_numpy(read_waveform(path, spectrogram.config.sample_rate))
    return mel_picture(spectrogram.waveform_to_mel(mark_end(waveform)[None, None])[0, 0])


def usage_bytes(counts: list[list[list[int]]]) -> bytes:
    """Code counts `[E][Q][K]` as a byte each, 0 for never and 255 for the most used of a level, on a log scale."""
    if not counts:
        return b""
    level = np.log1p(np.asarray(counts, np.float64))
    most = level.max(axis=2, keepdims=True)
    scaled: bytes = np.round(255 * level / np.maximum(most, 1e-9)).astype(np.uint8).tobytes()
    return scaled
