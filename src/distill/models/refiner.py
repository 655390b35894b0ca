"""The part of a decoder that is not linear: it corrects each value of a decoded mel by those around it.

What codes or latents leave out makes what is loud too soft, and what is soft beside it too loud, and by how much can
be told from the surroundings. Nothing here has a constant term, so silence is 0 and stays 0, and what is learnt at one
level holds at others (Mohan et al. 2020).
"""

import torch.nn.functional as F
from torch import Tensor, nn

REACH = 6  # frames on either side that a value depends on
_WIDTH = 96
_BLOCKS = 3
_KERNEL = 1 + 2 * (REACH // _BLOCKS)


class Refiner(nn.Module):
    """A correction of float `[B, 1, M, T]`, with silence at 0; it starts as none."""

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.narrow = nn.Conv1d(bands, _WIDTH, 1, bias=False)
        self.blocks = nn.Sequential(*(_Block(_WIDTH) for _ in range(_BLOCKS)))
        self.widen = nn.Conv1d(_WIDTH, bands, 1, bias=False)
        nn.init.zeros_(self.widen.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Correct float `[B, 1, M, T]`; nothing is softer than silence."""
        correction: Tensor = self.widen(self.blocks(self.narrow(x.squeeze(1))))
        return F.relu(x + correction.unsqueeze(1))


class _Block(nn.Module):
    """A residual block over time, each channel by itself, then over channels (Liu et al. 2022, without its norm)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(width, width, _KERNEL, padding=_KERNEL // 2, groups=width, bias=False),
            nn.Conv1d(width, 2 * width, 1, bias=False),
            nn.GELU(),
            nn.Conv1d(2 * width, width, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Add the block's correction to float `[B, C, T]`."""
        correction: Tensor = self.body(x)
        return x + correction
