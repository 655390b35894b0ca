"""Faults that a listener would complain of, in figures: each is 1, or 0 dB, where a sound is like its original.

    python -m bench.quality.artefacts ORIGINALS RECONSTRUCTIONS     medians over two folders, files matched by stem

A mel distance rewards a blur: it cannot tell a living noise from a frozen one, nor a smooth tone from one that jumps a
little six times a second. Both sounds are mono at 48 kHz and compared over the shorter length.
"""

import argparse
import sys
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from bench.quality.mel_distance import FILTERS, RATE, mel_filters, read_mono

_WINDOW, _HOP, _FLOOR = 2048, 512, 1e-5
_BANDS = mel_filters(_WINDOW, 128)
_MS = RATE // 1000
_LOUD = 3  # decades of magnitude below the loudest cell
_PERIODS = range(6, 41)  # frames of 10.7 ms after which a grid could repeat
_RISE = 10**1.2  # of the power: 12 dB


@dataclass(frozen=True)
class Artefacts:
    """The faults of one reconstruction, NaN where a sound is too short or too smooth to show one."""

    loud: float  # mean |dB| error of 150 mel bands, weighted by the original's energy
    texture: float  # median change from frame to frame in what is loud, over the original's: below 1 is frozen
    flutter: float  # excess of that change at regular moments, over the original's: the seams of a grid
    attack: float  # share of the energy around the sharpest onset in its first 5 ms, over the original's
    pre_echo: float  # dB: energy in the 20 ms before that onset against the 20 ms after it, over the original's
    level: float  # dB: loudness, over the original's
    tone: float  # dB: spectral flatness from 1 to 8 kHz, over the original's: above 0 noisier, below 0 metallic


def artefacts(original: Tensor, reconstruction: Tensor) -> Artefacts:
    """The faults of a reconstruction `[S']` of a sound `[S]`."""
    length = min(len(original), len(reconstruction))
    first, second = (pad(sound[:length], (0, max(0, _WINDOW - length))) for sound in (original, reconstruction))
    spectra = _spectrum(first), _spectrum(second)
    before, after = (sound.double().numpy() for sound in (first, second))
    texture, flutter = _changes(*spectra)
    attack, pre_echo = _onset_figures(before, after)
    audible = spectra[0].square().sum(dim=0) > spectra[0].square().sum(dim=0).max() * 1e-4
    return Artefacts(
        loud=_loud_error(*spectra),
        texture=texture,
        flutter=flutter,
        attack=attack,
        pre_echo=pre_echo,
        level=10 * float(np.log10((np.square(after).mean() + 1e-12) / (np.square(before).mean() + 1e-12))),
        tone=_flatness(spectra[1], audible) - _flatness(spectra[0], audible),
    )


def medians(found: Iterable[Artefacts]) -> dict[str, float]:
    """The median of each figure over the sounds that show it, by name; without those that none shows."""
    table = np.array([[getattr(one, field.name) for field in fields(Artefacts)] for one in found])
    shown = {field.name: row[np.isfinite(row)] for field, row in zip(fields(Artefacts), table.T)}
    return {name: float(np.median(values)) for name, values in shown.items() if len(values)}


def _spectrum(sound: Tensor) -> Tensor:
    return torch.stft(sound, _WINDOW, _HOP, window=torch.hann_window(_WINDOW), return_complex=True).abs()


def _loud_error(first: Tensor, second: Tensor) -> float:
    a, b = ((FILTERS[_WINDOW] @ spectrum).clamp(min=_FLOOR) for spectrum in (first, second))
    return float((a.square() * 20 * (b.log10() - a.log10()).abs()).sum() / a.square().sum())


def _changes(first: Tensor, second: Tensor) -> tuple[float, float]:
    """Texture and flutter."""
    a, b = ((_BANDS @ spectrum).clamp(min=_FLOOR).log10() for spectrum in (first, second))
    loud = a > a.max() - _LOUD
    before, after = _flux(a, loud), _flux(b, loud)
    if len(before) < 4 * _PERIODS.start:
        return float("nan"), float("nan")
    return float(np.median(after) / max(np.median(before), 1e-6)), _regularity(after) / _regularity(before)


def texture_and_flutter(sound: Tensor) -> tuple[float, float]:
    """The change of a sound `[S]` from frame to frame, and its regularity: texture and flutter are ratios of these."""
    padded = pad(sound, (0, max(0, _WINDOW - len(sound))))
    mel = (_BANDS @ _spectrum(padded)).clamp(min=_FLOOR).log10()
    change = _flux(mel, mel > mel.max() - _LOUD)
    if len(change) < 4 * _PERIODS.start:
        return float("nan"), float("nan")
    return float(np.median(change)), _regularity(change)


def _flux(mel: Tensor, loud: Tensor) -> np.ndarray:
    """Mean change from each frame to the next in the loud cells, where there are enough of them."""
    heard = loud[:, 1:] & loud[:, :-1]
    count = heard.sum(dim=0)
    change = ((mel[:, 1:] - mel[:, :-1]).abs() * heard).sum(dim=0) / count.clamp(min=1)
    flux: np.ndarray = change[count >= 8].numpy()
    return flux


def _regularity(change: np.ndarray) -> float:
    """The largest mean change at one phase of one period, over the mean at the others (geometric means)."""
    logs, best = np.log(np.maximum(change, 1e-4)), 1.0
    for period in _PERIODS:
        repeats = len(logs) // period
        if repeats < 4:
            break
        phases = logs[: repeats * period].reshape(repeats, period).mean(axis=0)
        others = (phases.sum() - phases) / (period - 1)
        best = max(best, float(np.exp((phases - others).max())))
    return best


def _onset_figures(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """Attack and pre-echo."""
    at = _onset(before)
    if at is None:
        return float("nan"), float("nan")
    shares = [_energy(sound, 0, 5, at) / _energy(sound, -5, 20, at) for sound in (before, after)]
    early = [
        max(10 * float(np.log10(_energy(sound, -20, -1, at) / _energy(sound, 0, 20, at))), -60.0)
        for sound in (before, after)
    ]
    return shares[1] / shares[0], early[1] - early[0]


def _onset(sound: np.ndarray) -> int | None:
    """The sample of the sharpest rise of the envelope in steps of 1 ms, if it is of 12 dB at least."""
    envelope = np.square(sound[: len(sound) // _MS * _MS].reshape(-1, _MS)).mean(axis=1) + 1e-10
    sums = np.concatenate([[0.0], np.cumsum(np.concatenate([np.full(20, 1e-10), envelope]))])
    steps = np.arange(max(0, len(envelope) - 20))
    later = (sums[steps + 25] - sums[steps + 20]) / 5
    rise = np.where(later > 1e-6, later / ((sums[steps + 18] - sums[steps]) / 18), 0.0)
    return int(rise.argmax()) * _MS if len(rise) and rise.max() > _RISE else None


def _energy(sound: np.ndarray, start: int, stop: int, at: int) -> float:
    """Energy from `start` to `stop` ms about a sample."""
    begin, end = (max(0, at + ms * _MS) for ms in (start, stop))
    return float(np.square(sound[begin:end]).sum()) + 1e-9


def _flatness(spectrum: Tensor, frames: Tensor) -> float:
    low, high = (round(hz * _WINDOW / RATE) for hz in (1000, 8000))
    power = spectrum[low:high, frames].square() + 1e-10
    return float((10 * (power.log10().mean(dim=0) - power.mean(dim=0).log10())).median()) if frames.any() else np.nan


def main() -> int:
    """Print the medians over the two folders given on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("originals", type=Path, metavar="ORIGINALS")
    parser.add_argument("reconstructions", type=Path, metavar="RECONSTRUCTIONS")
    args = parser.parse_args()
    originals = {path.stem: path for path in sorted(args.originals.rglob("*")) if path.is_file()}
    made = {path.stem: path for path in sorted(args.reconstructions.rglob("*.wav")) if path.stem in originals}
    if not made:
        print("no file is in both folders", file=sys.stderr)
        return 1
    found = medians(artefacts(read_mono(originals[stem]), read_mono(path)) for stem, path in made.items())
    print(f"files {len(made)}  " + "  ".join(f"{name} {value:.2f}" for name, value in found.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
