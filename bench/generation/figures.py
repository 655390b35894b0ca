"""Figures of a set of sounds, compared with the sounds that a model was trained on.

As a set: windows of 0.5 s, half overlapping, each known by mean, deviation and mean absolute step of 32 log-mel bands,
projected on 16 principal components of the training windows'. MMD is unbiased, with the kernel exp(-d² / median), times
1000. Precision and coverage have k = 5. Copying is the share of windows nearer to a training window than the nearest
tenth of the held-out ones are.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bench.quality.artefacts import texture_and_flutter
from bench.quality.mel_distance import RATE, mel_filters

_WINDOW, _HOP = RATE // 2, RATE // 4
_N_FFT, _STEP, _BANDS = 2048, 512, 32
_COMPONENTS = 16
_NEIGHBOURS = 5
_FILTERS = mel_filters(_N_FFT, _BANDS)
_ATTACK = round(0.03 * RATE)


@dataclass(frozen=True)
class SetFigures:
    """How a set of sounds compares with the training sounds, and what its sounds are like."""

    mmd: float  # times 1000
    two_sample: float  # accuracy of the nearest neighbour: 0.5 cannot be told apart
    precision: float
    coverage: float
    copying: float
    texture: float  # median change from frame to frame, over the training sounds' own
    flutter: float
    attack: float  # share of the sounds with their loudest 10 ms, within 6 dB, in the first 30 ms
    ends_silent: float  # share of the sounds whose last 5 ms are 40 dB below their peak
    peak: float  # dB of full scale, the loudest
    loudness: float  # dB, median, over the training sounds'
    seconds: float  # median length


@dataclass(frozen=True)
class Reference:
    """The training sounds and the held-out ones, with their windows as features."""

    train: Sequence[Tensor]
    test: Sequence[Tensor]
    mean: Tensor
    scale: Tensor
    basis: Tensor
    train_windows: Tensor
    test_windows: Tensor

    @classmethod
    def of(cls, train: Sequence[Tensor], test: Sequence[Tensor]) -> "Reference":
        """The reference for sounds `[S]` at 48 kHz."""
        raw = features(train)
        mean, scale = raw.mean(dim=0), raw.std(dim=0).clamp(min=1e-3)
        basis = torch.linalg.svd((raw - mean) / scale, full_matrices=False).Vh[:_COMPONENTS].T
        train_windows, test_windows = (((features(sounds) - mean) / scale) @ basis for sounds in (train, test))
        return cls(train, test, mean, scale, basis, train_windows, test_windows)

    def windows(self, sounds: Sequence[Tensor]) -> Tensor:
        """Features `[N, 16]` of the windows of sounds."""
        return ((features(sounds) - self.mean) / self.scale) @ self.basis


def features(sounds: Iterable[Tensor]) -> Tensor:
    """Features float64 `[N, 96]` of all windows of sounds `[S]`."""
    return torch.stack([_of_window(window) for sound in sounds for window in _windows(sound)])


def log_mel(sound: Tensor) -> Tensor:
    """32 log-mel bands `[32, T]` of a sound `[S]`, a frame every 10.7 ms."""
    padded = torch.nn.functional.pad(sound, (0, max(0, _N_FFT - len(sound))))
    spectrum = torch.stft(padded, _N_FFT, _STEP, window=torch.hann_window(_N_FFT), return_complex=True).abs()
    return (_FILTERS.to(spectrum.dtype) @ spectrum).clamp(min=1e-5).log()


def _windows(sound: Tensor) -> list[Tensor]:
    padded = torch.nn.functional.pad(sound, (0, max(0, _WINDOW - len(sound))))
    return [padded[start : start + _WINDOW] for start in range(0, len(padded) - _WINDOW + 1, _HOP)]


def _of_window(window: Tensor) -> Tensor:
    log = log_mel(window).double()
    return torch.cat([log.mean(dim=1), log.std(dim=1), log.diff(dim=1).abs().mean(dim=1)])


def mmd(first: Tensor, second: Tensor) -> float:
    """The unbiased squared maximum mean discrepancy of `[N, D]` and `[M, D]`, times 1000 (Gretton et al. 2012)."""
    between = torch.cdist(first, second).square()
    median = between.median()
    within = [(-(torch.cdist(one, one).square()) / median).exp() for one in (first, second)]
    means = [(kernel.sum() - len(kernel)) / (len(kernel) * (len(kernel) - 1)) for kernel in within]
    return 1000 * float(means[0] + means[1] - 2 * (-between / median).exp().mean())


def two_sample(first: Tensor, second: Tensor, seed: int = 0) -> float:
    """The accuracy of a nearest neighbour in telling equally many of two sets apart (Lopez-Paz and Oquab 2017)."""
    count = min(len(first), len(second))
    draw = np.random.default_rng(seed)
    both = torch.cat([part[torch.from_numpy(draw.permutation(len(part))[:count])] for part in (first, second)])
    distance = torch.cdist(both, both).fill_diagonal_(torch.inf)
    label = torch.arange(len(both)) < count
    return float((label[distance.argmin(dim=1)] == label).double().mean())


def precision_and_coverage(real: Tensor, made: Tensor) -> tuple[float, float]:
    """Precision (Kynkäänniemi et al. 2019) and coverage (Naeem et al. 2020) of `made` `[M, D]`."""
    within = torch.cdist(real, real).kthvalue(min(_NEIGHBOURS + 1, len(real)), dim=1).values
    inside = torch.cdist(real, made) <= within[:, None]
    return float(inside.any(dim=0).double().mean()), float(inside.any(dim=1).double().mean())


def copying(reference: Reference, made: Tensor) -> float:
    """The share of windows nearer to a training window than the nearest tenth of the held-out windows are."""
    nearest = torch.cdist(reference.test_windows, reference.train_windows).min(dim=1).values
    threshold = nearest.quantile(0.1)
    return float((torch.cdist(made, reference.train_windows).min(dim=1).values < threshold).double().mean())


def measured(reference: Reference, sounds: Sequence[Tensor]) -> SetFigures:
    """All figures of a set of sounds `[S]`."""
    made = reference.windows(sounds)
    precision, coverage = precision_and_coverage(reference.train_windows, made)
    changes, usual = (
        np.nanmedian([texture_and_flutter(one) for one in part], axis=0) for part in (sounds, reference.train)
    )
    loudness, usual_loudness = (float(np.median([_level(one) for one in part])) for part in (sounds, reference.train))
    return SetFigures(
        mmd=mmd(reference.train_windows, made),
        two_sample=two_sample(reference.train_windows, made),
        precision=precision,
        coverage=coverage,
        copying=copying(reference, made),
        texture=float(changes[0] / usual[0]),
        flutter=float(changes[1] / usual[1]),
        attack=float(np.mean([_attack_at_once(one) for one in sounds])),
        ends_silent=float(np.mean([_ends_silent(one) for one in sounds])),
        peak=20 * float(np.log10(max(float(one.abs().max()) for one in sounds))),
        loudness=loudness - usual_loudness,
        seconds=float(np.median([len(one) for one in sounds])) / RATE,
    )


def _level(sound: Tensor) -> float:
    return 10 * float(np.log10(float(sound.square().mean()) + 1e-12))


def _attack_at_once(sound: Tensor) -> bool:
    frame = RATE // 100
    padded = torch.nn.functional.pad(sound, (0, -len(sound) % frame))
    energy = padded.view(-1, frame).square().sum(dim=1)
    return bool(energy[: _ATTACK // frame].max() >= energy.max() / 4)


def _ends_silent(sound: Tensor) -> bool:
    return bool(sound[-RATE // 200 :].abs().max() <= sound.abs().max() / 100)
