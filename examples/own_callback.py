"""A callback of your own: ends a run once what is held out has not come out better for some epochs.

python examples/own_callback.py FOLDER
"""

import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distill.training.execution import run_training
from distill.training.metrics import VQEpochMetrics
from distill.training.request import TrainingRequest


@dataclass
class Patience:
    """Sets `enough` after so many `epochs` in a row without a lower reconstruction loss."""

    epochs: int = 10
    enough: threading.Event = field(default_factory=threading.Event)
    lowest: float = float("inf")
    waited: int = 0

    def __call__(self, event: Any) -> None:
        """Look at an event of the run, which waits meanwhile."""
        if isinstance(event, VQEpochMetrics):
            self.waited = 0 if event.val_recon_loss < self.lowest else self.waited + 1
            self.lowest = min(self.lowest, event.val_recon_loss)
            if self.waited >= self.epochs:
                self.enough.set()


def train(folder: Path, patience: Patience, **settings: Any) -> dict[str, Any]:
    """Train on a folder until it is enough; the run can be resumed."""
    request = TrainingRequest.for_folder(folder, family="vqvae", **settings)
    return run_training(request, patience, patience.enough)


if __name__ == "__main__":
    patience = Patience()
    result = train(Path(sys.argv[1]), patience)
    print(f"lowest loss {patience.lowest:.4f}; checkpoints in {result['output_dir']}")
