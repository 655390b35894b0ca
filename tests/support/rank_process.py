"""One process of a run, as `torchrun` starts it: `rank_process.py FOLDER OUTPUT FAMILY BATCH new|resume KILL_AT`."""

import os
import signal
import sys
from pathlib import Path

import torch

from distill.data.collection import find_audio_files
from distill.errors import TrainingError
from distill.training.config import TrainingConfig, VQVAEConfig
from distill.training.loop import train, train_vqvae
from distill.training.step import TrainStep


def main(folder: Path, output: Path, family: str, batch_size: int, resume: bool, kill_at: int) -> None:
    torch.set_num_threads(1)
    shared = {"batch_size": batch_size, "max_epochs": 3, "augmentation_copies": 2, "dropout": 0.0}
    if kill_at >= 0 and int(os.environ["RANK"]) == 1:
        kill_in_step(kill_at)
    options = {"models_dir": output.parent / "models", "resume_from": output if resume else None}
    if family == "vqvae":
        train_vqvae(VQVAEConfig(codebook_size=16, **shared), find_audio_files(folder), output, **options)
    else:
        train(TrainingConfig(**shared), find_audio_files(folder), output, **options)


def kill_in_step(number: int) -> None:
    """The process ends in the middle of its n-th step, as if the machine had been switched off."""
    usual, steps = TrainStep.launch, iter(range(number, -1, -1))

    def take(*arguments):
        if next(steps) == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return usual(*arguments)

    TrainStep.launch = take


if __name__ == "__main__":
    folder, output, family, batch_size, resume, kill_at = sys.argv[1:]
    try:
        main(Path(folder), Path(output), family, int(batch_size), resume == "resume", int(kill_at))
        sys.stdout.flush()
        os._exit(0)  # as the command line does it
    except TrainingError as error:
        sys.exit(f"TrainingError: {error}")
