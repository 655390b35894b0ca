"""Goes on with stopped runs in a process that never saw their first parts: run folders, and where to stop, on stdin."""

import json
import sys
from pathlib import Path

import torch

from distill.models import blocks
from distill.training import loop, vae_loop
from distill.training.execution import run_training
from distill.training.request import TrainingRequest
from support.models import NARROW
from support.runs import models_of, no_picture
from support.stops import AtEvent


def go_on(folder: Path, stop: dict[str, int] | None) -> None:
    request = TrainingRequest.resume(folder, models_dir=models_of(folder))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with AtEvent("StepMetrics", **(stop or {"epoch": -1})).laid() as options:
        run_training(request, **options)
    assert torch.equal(before, torch.get_rng_state()), "torch's random numbers were moved"


if __name__ == "__main__":
    torch.set_num_threads(1)
    blocks.WIDTHS = NARROW
    loop.draw_vqvae_run = vae_loop.draw_vae_run = no_picture
    for name, place in json.load(sys.stdin):
        go_on(Path(name), place)
