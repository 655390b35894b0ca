"""How near new sounds come to copies of those that a prior was trained on.

Windows of sounds are known by how strong their bands are and how these change, and compared with those of the training
sounds. What is usual is what real sounds have: each of them is held out in turn, and the nearest tenth of their windows
is how near two sounds of the collection come by themselves. All are heard as the model plays them, so that what it
cannot reproduce does not pass for invention.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from distill.training.metrics import USUALLY_COPIED

_WINDOW_S = 0.5  # half overlapping
_BANDS = 32
_COMPONENTS = 16
_SILENT = -0.95  # of the values from -1 to 1 of a mel: where nothing is louder, all sounds are alike


@dataclass(frozen=True)
class Originals:
    """What training sounds are like: the features `[N, 16]` of their windows, and how near to them only copies come."""

    frames: int  # of a window
    mean: Tensor
    basis: Tensor
    windows: Tensor
    near: float

    @classmethod
    def of(cls, trained: Sequence[Tensor], held_out: Sequence[Tensor], frame_rate: float) -> Self | None:
        """Those of mels `[M, T]` linear in decibels, or None where there is too little to say what is usual."""
        frames = max(2, round(_WINDOW_S * frame_rate))
        sounds, others = ([_features(mel, frames) for mel in mels] for mels in (trained, held_out))
        raw, unheard = _joined(sounds), _joined(others)
        if len(raw) < 1 / USUALLY_COPIED:
            return None
        owner = torch.repeat_interleave(torch.tensor([len(sound) for sound in sounds]))
        mean, scale = raw.mean(dim=0), raw.std(dim=0).clamp(min=1e-3)
        components = torch.linalg.svd((raw - mean) / scale, full_matrices=False).Vh[:_COMPONENTS].T
        basis = components / scale[:, None]
        windows = (raw - mean) @ basis
        between = torch.cdist(windows, windows).masked_fill(owner[:, None] == owner, torch.inf)
        usual = torch.cat([between, torch.cdist((unheard - mean) @ basis, windows)]).amin(dim=1)
        return cls(frames, mean, basis, windows, float(usual.quantile(USUALLY_COPIED)))

    def copied(self, made: Sequence[Tensor]) -> float:
        """The share (0 to 1) of the windows of mels `[M, T]`, linear in decibels, that are near copies."""
        raw = _joined([_features(mel, self.frames) for mel in made])
        nearest = torch.cdist((raw - self.mean) @ self.basis, self.windows).amin(dim=1)
        return float((nearest < self.near).double().mean()) if len(raw) else 0.0


def _features(mel: Tensor, frames: int) -> Tensor:
    """Mean, deviation and mean step of 32 bands in each window of a mel `[M, T]` that is heard: float64 `[N, 96]`."""
    bands = F.adaptive_avg_pool1d(mel.cpu().double().T, _BANDS).T
    bands = F.pad(bands, (0, max(0, frames - bands.shape[1])), value=-1.0)
    windows = bands.unfold(1, frames, frames // 2).movedim(0, 1)  # [N, bands, frames]
    parts = windows.mean(dim=-1), windows.std(dim=-1), windows.diff(dim=-1).abs().mean(dim=-1)
    return torch.cat(parts, dim=-1)[windows.amax(dim=(1, 2)) > _SILENT]


def _joined(features: Sequence[Tensor]) -> Tensor:
    return torch.cat([torch.zeros(0, 3 * _BANDS, dtype=torch.float64), *features])
