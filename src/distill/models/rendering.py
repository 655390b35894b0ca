"""The sound of codes that are edited: only where a change can be heard is it decoded anew."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from distill.audio.recording import Samples
from distill.audio.vocoder import PhaseSearch
from distill.models.codes import Codes

if TYPE_CHECKING:
    from distill.models.loaded_vqvae import LoadedVQModel

_CONTEXT = 16  # frames beside the changed ones, within which the new sound goes over into the old one
_LEAST_CONTEXT = 8  # fewer, as near the ends of a sound, are decoded anew as well
_NEAR = 6  # columns: changes nearer to each other than this are decoded together
_AT_ONCE = 64  # columns of a change: more would need more memory


@dataclass(frozen=True)
class Rendering:
    """Codes int64 `[W, H, Q]` and the sound float32 `[S]` of all their columns."""

    codes: Tensor
    samples: Samples


@dataclass(frozen=True)
class Change:
    """From one grid of codes to another: columns [start, stop) replace as many as `replaced` from `start` on."""

    start: int
    stop: int
    replaced: int

    def frames(self, loaded: "LoadedVQModel", columns: int) -> tuple[int, int]:
        """The frames [first, stop) of the mel of all `columns`, changed, in which the change can be heard."""
        grid, reach = loaded.model.grid, loaded.model.reach
        first = grid.hop * (self.start - grid.overlap) - reach
        return max(0, first), min(grid.frames(columns), grid.hop * self.stop + reach)


def whole_change(before: Tensor, after: Tensor) -> Change:
    """The one change from codes `[W, H, Q]` to others `[W', H, Q]`, from the first column that differs to the last."""
    most = min(len(before), len(after))
    same = (before[:most] == after[:most]).flatten(1).all(dim=1)
    start = int(same.long().cumprod(dim=0).sum())
    most -= start
    same = (before[len(before) - most :] == after[len(after) - most :]).flatten(1).all(dim=1)
    left = int(same.flip(0).long().cumprod(dim=0).sum())
    return Change(start, len(after) - left, len(before) - left - start)


@torch.no_grad()
def rendered(loaded: "LoadedVQModel", codes: Codes, before: Rendering | None = None) -> Rendering:
    """The sound of codes; where they are as `before`, so are its samples.

    The new samples continue the phases of the old ones on both sides, so that no border is heard. What is decoded in
    parts has the mel of what is decoded in one piece, but not the same phases. A vocoder that is no `PhaseSearch`
    always decodes the whole. Raises `CodesError` for codes of another model, or of too few columns.
    """
    wanted = loaded.columns_of(codes)
    if before is None or not isinstance(loaded.spectrogram.vocoder, PhaseSearch):
        return Rendering(wanted, _decoded(loaded, wanted))
    for change in _changes(before.codes, wanted):
        part = torch.cat([wanted[: change.stop], before.codes[change.start + change.replaced :]])
        before = Rendering(part, _patched(loaded, loaded.spectrogram.vocoder, part, change, before.samples))
    return before


def _decoded(loaded: "LoadedVQModel", codes: Tensor) -> Samples:
    mel = loaded.model.decode_columns(codes.unsqueeze(0))
    samples: Samples = loaded.spectrogram.mel_to_waveform(mel)[0, 0].cpu().numpy()
    return samples


def _changes(before: Tensor, after: Tensor) -> Iterator[Change]:
    """The changes that make `[W', H, Q]` of `[W, H, Q]`, one after another from the left."""
    whole = whole_change(before, after)
    replaced = whole.replaced
    for start, stop in _runs(before, after) if len(before) == len(after) else [(whole.start, whole.stop)]:
        for part in range(start, max(stop, start + 1), _AT_ONCE):
            end = min(stop, part + _AT_ONCE)
            yield Change(part, end, end - part if len(before) == len(after) else replaced)
            replaced = 0  # what is longer than a part is inserted behind it


def _runs(before: Tensor, after: Tensor) -> Iterator[tuple[int, int]]:
    """The columns [start, stop) in which `[W, H, Q]` differ from others, one run for those near to each other."""
    columns = (before != after).flatten(1).any(dim=1).nonzero().flatten().cpu()
    for run in columns.tensor_split((columns.diff() > _NEAR).nonzero().flatten() + 1):
        if len(run):
            yield int(run[0]), int(run[-1]) + 1


def _patched(loaded: "LoadedVQModel", vocoder: PhaseSearch, codes: Tensor, change: Change, samples: Samples) -> Samples:
    """The sound of `codes`, of which `samples` are the sound before the change."""
    frames, hop = loaded.model.grid.frames(len(codes)), loaded.spectrogram.config.hop_length
    first, stop = change.frames(loaded, len(codes))
    known, left = first, frames - 1 - stop  # hops on either side that stay as they are
    known, left = (hops if hops >= _LEAST_CONTEXT else 0 for hops in (known, left))
    if known == left == 0:
        return _decoded(loaded, codes)
    before = samples[max(0, known - _CONTEXT) * hop : known * hop]
    after = samples[len(samples) - left * hop :][: _CONTEXT * hop]
    begin = known - len(before) // hop
    rest = left - len(after) // hop
    mel = loaded.model.decode_frames(codes.unsqueeze(0), begin, frames - rest)
    ends = [torch.from_numpy(part).to(loaded.device)[None, None] for part in (before, after)]
    made: Samples = vocoder.between(mel, *ends)[0, 0].cpu().numpy()
    return np.concatenate([samples[: begin * hop], made, samples[len(samples) - rest * hop :]])
