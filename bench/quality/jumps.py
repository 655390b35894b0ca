"""How far training jumps: the greatest rise of the validation reconstruction loss from one epoch to the next.

    python -m bench.quality.jumps DIR --epochs 60 --seeds 5     a line for each seed, 0 to 4

A rise of 1.00 is none. Each training has a process of its own and is the default one, but for epochs and seed, and that
no prior follows.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from bench.shared.markdown import table
from bench.shared.processes import in_fresh_process
from distill.training.execution import run_training
from distill.training.request import TrainingRequest


@dataclass(frozen=True)
class Rise:
    """A loss over that of the epoch before it; `epoch` counts from 1, as people do."""

    times: float
    epoch: int


def greatest_rise(losses: Sequence[float]) -> Rise:
    """The greatest rise in a row of losses, one for each epoch; raises `ValueError` for fewer than two."""
    rises = [Rise(after / before, epoch) for epoch, (before, after) in enumerate(pairwise(losses), start=2)]
    return max(rises, key=lambda rise: rise.times)


def losses_of(folder: Path, epochs: int, seed: int) -> list[float]:
    """Train on a folder: the validation reconstruction loss of each epoch."""
    with tempfile.TemporaryDirectory() as name:
        places = {"models_dir": Path(name, "models"), "output_dir": Path(name, "run")}
        request = TrainingRequest.for_folder(folder, **places, max_epochs=epochs, seed=seed, with_prior=False)
        curves: dict[str, list[float]] = run_training(request)["metrics_history"].get_loss_curves()
    return curves["recon_losses"]


def main() -> None:
    """Train with each seed and print its row; then all of them as a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    args = parser.parse_args()
    if args.epochs < 2:
        parser.error("a rise takes two epochs")
    rows = []
    for seed in range(args.seeds):
        losses = in_fresh_process(losses_of, args.folder, args.epochs, seed)
        rise = greatest_rise(losses)
        rows.append([f"{seed}", f"{rise.times:.3f}", f"{rise.epoch}", f"{min(losses):.5f}", f"{losses[-1]:.5f}"])
        print(f"seed {seed} done", file=sys.stderr, flush=True)
    print(table(["seed", "greatest rise, times", "in epoch", "lowest loss", "last loss"], rows))


if __name__ == "__main__":
    main()
