"""Data for the pictures on the page: outlines of waveforms, mels as PNG, maps of code usage."""

import io
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import soundfile

from distill.audio.recording import Samples
from distill.errors import AudioError

if TYPE_CHECKING:
    from torch import Tensor

    from distill.audio.spectrogram import AudioSpectrogram, SpectrogramConfig


_SILENT, _LOUDEST = -1.0, 0.6  # values of a mel in decibels between which a picture has its colours


def outline(samples: Samples, parts: int) -> list[float]:
    """The peaks of `parts` equal parts of samples `[S]` or `[S, C]`, each in [0, 1]."""
    loudness = np.abs(samples) if samples.ndim == 1 else np.abs(samples).max(axis=1)
    edges = np.linspace(0, len(loudness), parts, endpoint=False).astype(int)
    # With fewer samples than parts, edges coincide, and reduceat takes the one sample there.
    peaks = np.maximum.reduceat(loudness, edges) if len(loudness) else np.zeros(parts)
    return [round(float(peak), 3) for peak in np.clip(peaks, 0, 1)]


def mel_picture(mel: "Tensor") -> bytes:
    """A PNG of a mel `[M, T]` in decibels, one pixel per value, low bands at the bottom."""
    from matplotlib.image import imsave

    buffer = io.BytesIO()
    imsave(buffer, mel.cpu().numpy(), cmap="magma", vmin=_SILENT, vmax=_LOUDEST, origin="lower", format="png")
    return buffer.getvalue()


def mel_levels(mel: "Tensor") -> npt.NDArray[np.uint8]:
    """Values of a mel in decibels, of any shape, from 0, silence, to 255, the loudest that a picture shows."""
    share = (mel.cpu().numpy() - _SILENT) / (_LOUDEST - _SILENT)
    return np.round(255 * share.clip(0, 1)).astype(np.uint8)


def mel_of_preview(path: Path, config: dict[str, Any]) -> bytes:
    """A PNG of a preview's mel, made with these settings of a spectrogram; raises `AudioError`."""
    import torch

    from distill.audio.spectrogram import SpectrogramConfig, mark_end

    # Not in a worker process, as with files from elsewhere: distill wrote this one, and the training needs the cores.
    try:
        samples, _ = soundfile.read(path, dtype="float32")
    except (OSError, soundfile.SoundFileError) as error:
        raise AudioError(f"{path.name}: this preview cannot be read") from error
    spectrogram = _spectrogram(SpectrogramConfig(**config))
    mel = spectrogram.waveform_to_mel(mark_end(torch.from_numpy(samples))[None, None])
    return mel_picture(spectrogram.decibels(mel)[0, 0])


@lru_cache(maxsize=4)  # its filters are not made again for every preview, while a training needs the cores
def _spectrogram(config: "SpectrogramConfig") -> "AudioSpectrogram":
    from distill.audio.spectrogram import AudioSpectrogram

    return AudioSpectrogram(config)


def code_tints(codebooks: "Tensor") -> list[list[list[float]]]:
    """A hue and a strength in [0, 1] for each code of `[Q, K, D]`: like hues for codes that point in like directions.

    Both are ranks, so that every level uses all hues and strengths.
    """
    return [_tints(codebook).tolist() for codebook in codebooks]


def _tints(codebook: "Tensor") -> "Tensor":
    import torch
    from torch.nn import functional as F

    directions = F.pad(F.normalize(codebook.double(), dim=1), (0, 1))  # one more: a plane needs two, codes may have one
    directions = directions - directions.mean(dim=0)
    plane = directions @ torch.linalg.eigh(directions.T @ directions)[1][:, -2:]  # in which they differ most
    y, x = (plane / plane.square().mean(dim=0).sqrt().clamp(min=1e-9)).T
    ranks = torch.stack([torch.atan2(y, x), codebook.norm(dim=1)], dim=1).argsort(dim=0).argsort(dim=0)
    return (ranks / len(codebook) * 1000).round() / 1000


def usage_bytes(counts: list[list[list[int]]]) -> bytes:
    """Code counts `[E][Q][K]` as one byte each, on a log scale from 0 for unused to 255 for the level's maximum."""
    if not counts:
        return b""
    level = np.log1p(np.asarray(counts, np.float64))
    most = level.max(axis=2, keepdims=True)
    scaled: bytes = np.round(255 * level / np.maximum(most, 1e-9)).astype(np.uint8).tobytes()
    return scaled
