"""Several processes train one model: together they do what one would with batches as many times as large."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from distill.cli.app import main
from distill.data.collection import find_audio_files
from distill.errors import TrainingError
from distill.models.persistence import load_any
from distill.training.config import TrainingConfig, VQVAEConfig
from distill.training.loop import train_vqvae
from distill.training.run_folder import RunFolder
from distill.training.step import TrainStep
from distill.training.vae_loop import train as train_vae
from support.processes import Say, in_ranks
from support.sounds import write_collection

pytestmark = pytest.mark.usefixtures("quick_runs")


def train(sounds: Path, output: Path, family: str, batch_size: int, resume: bool = False) -> None:
    """A run of three short epochs."""
    settings = {"batch_size": batch_size, "max_epochs": 3, "augmentation_copies": 2, "dropout": 0.0}
    settings["chunk_duration_s"] = 0.5
    options = {"models_dir": output.parent / "models", "resume_from": output if resume else None}
    if family == "vqvae":
        train_vqvae(VQVAEConfig(codebook_size=16, **settings), find_audio_files(sounds), output, **options)
    else:
        train_vae(TrainingConfig(**settings), find_audio_files(sounds), output, **options)


def killed_in_step(number: int) -> None:
    """This process ends in the middle of its n-th step, as if the machine had been switched off."""
    usual, steps = TrainStep.launch, iter(range(number, -1, -1))

    def launch(*arguments: Any) -> Any:
        if next(steps) == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return usual(*arguments)

    TrainStep.launch = launch


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_collection(tmp_path_factory.mktemp("sounds"), 9)


def end_of(output: Path) -> tuple[dict[str, torch.Tensor], list[dict]]:
    """The weights of the model that a run has made, and its events without their clocks."""
    (path,) = (output.parent / "models").glob("*.distill")
    log = [entry for entry in RunFolder(output).log() if "step" in entry or "val_loss" in entry]
    clocks = {"step_time_s", "eta_seconds", "elapsed_seconds"}
    return load_any(path).model.state_dict(), [{k: v for k, v in entry.items() if k not in clocks} for entry in log]


def assert_alike(one: object, other: object) -> None:
    """Equal, but for the last digits of numbers."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            assert_alike(one[name], other[name])
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=2e-3, abs=1e-5)
    else:
        assert one == other


@pytest.mark.parametrize("family", ["vqvae", "vae"])
def test_two_processes_end_with_the_model_of_one_with_twice_the_batch(
    sounds: Path, tmp_path: Path, family: str
) -> None:
    train(sounds, tmp_path / "one" / "run", family, batch_size=6)
    ended = in_ranks(2, lambda say: train(sounds, tmp_path / "two" / "run", family, batch_size=3))
    assert ended == [(0, []), (0, [])]
    (weights, log), (same, same_log) = end_of(tmp_path / "one" / "run"), end_of(tmp_path / "two" / "run")
    for name, value in weights.items():
        torch.testing.assert_close(same[name], value, rtol=1e-3, atol=2e-4, msg=lambda text, n=name: f"{n}: {text}")
    assert len(log) == len(same_log)
    for entry, other in zip(log, same_log):
        assert_alike(entry, other)


def test_a_killed_process_ends_the_run_in_order_and_another_number_of_them_goes_on(
    sounds: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"

    def work(say: Say) -> None:
        if os.environ["RANK"] == "1":
            killed_in_step(4)
        try:
            train(sounds, output, "vqvae", batch_size=3)
        except TrainingError as error:
            say(error)

    (code, said), killed = in_ranks(2, work)
    assert killed == (-signal.SIGKILL, [])
    assert code == 0
    assert "another process of this run has ended" in said[0]
    assert not (tmp_path / "models").exists()
    train(sounds, output, "vqvae", batch_size=3, resume=True)
    assert "processes 2 → 1" in " ".join(entry.get("message", "") for entry in RunFolder(output).log())
    assert len(list((tmp_path / "models").glob("*.distill"))) == 1
    epochs = [event.epoch for event in RunFolder(output).events() if type(event).__name__ == "VQEpochMetrics"]
    assert epochs == [0, 1, 2]


OPTIONS = ("--epochs", "2", "--batch-size", "4", "--codebook-size", "16", "--rvq-levels", "2", "--json")


def assert_one_has_spoken(out: str, home: Path) -> None:
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["epoch"] for line in lines if line["event"] == "VQEpochMetrics"] == [0, 1]
    assert lines[-1]["event"] == "Summary"
    (model,) = (home / "models").glob("*.distill")
    assert load_any(model).lacks == [], "the first one has trained the prior, once the others had ended"
    assert len(list((home / "runs").iterdir())) == 1


def test_the_command_line_trains_in_two_processes_and_only_the_first_one_speaks(tmp_path: Path, home: Path) -> None:
    sounds = write_collection(tmp_path / "sounds", 3)

    def work(say: Say) -> None:  # it ends its process itself
        sys.stdout = (tmp_path / f"said by {os.environ['RANK']}").open("w")
        sys.argv = ["distill", "train", str(sounds), *OPTIONS]
        main()

    assert in_ranks(2, work) == [(0, []), (0, [])]
    assert (tmp_path / "said by 1").read_text() == ""
    assert_one_has_spoken((tmp_path / "said by 0").read_text(), home)


@pytest.mark.slow
def test_so_it_does_under_torchrun(tmp_path: Path, home: Path) -> None:
    sounds = write_collection(tmp_path / "sounds", 3)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    said = subprocess.run(
        [sys.executable, *torchrun, "-m", "distill", "train", str(sounds), *OPTIONS],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    assert_one_has_spoken(said.stdout, home)
