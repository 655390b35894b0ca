"""Multi-resolution STFT distance between two sounds: the loss of Parallel WaveGAN (Yamamoto et al. 2020, eq. 4 to 6).

For windows of 2048, 1024 and 512 samples, Hann, hop a quarter, with magnitudes X and X' of original and reconstruction:
spectral convergence ‖X - X'‖ / ‖X‖ (Frobenius) plus the mean of |ln X - ln X'|; then the mean over the windows.
Magnitudes are clamped at √1e-7, as in the authors' code. Both sounds are mono at 48 kHz and compared over the shorter
length; a length that differs by more than 0.1 s is an error. 0 for identical sounds; lower is better.
"""

import torch
from torch import Tensor

from bench.quality.mel_distance import RATE

WINDOWS = (2048, 1024, 512)
_MIN_MAGNITUDE = 1e-7**0.5


def stft_distance(original: Tensor, reconstruction: Tensor) -> float:
    """Distance of a reconstruction `[S']` from the original `[S]`; raises `ValueError` when their lengths differ."""
    if abs(len(original) - len(reconstruction)) > RATE // 10:
        raise ValueError(f"lengths differ: {len(original) / RATE:.2f} s and {len(reconstruction) / RATE:.2f} s")
    length = min(len(original), len(reconstruction))
    return sum(_one_window(original[:length], reconstruction[:length], window) for window in WINDOWS) / len(WINDOWS)


def _one_window(original: Tensor, reconstruction: Tensor, window: int) -> float:
    """Spectral convergence plus log-magnitude distance at one window length."""
    true, found = _magnitude(original, window), _magnitude(reconstruction, window)
    convergence = torch.linalg.norm(true - found) / torch.linalg.norm(true)
    return float(convergence + (true.log() - found.log()).abs().mean())


def _magnitude(sound: Tensor, window: int) -> Tensor:
    """STFT magnitude `[F, T]` of `[S]`, padded to at least one window."""
    padded = torch.nn.functional.pad(sound, (0, max(0, window - len(sound))))
    hann = torch.hann_window(window)
    return torch.stft(padded, window, window // 4, window=hann, return_complex=True).abs().clamp(min=_MIN_MAGNITUDE)
