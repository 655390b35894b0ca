"""Several processes train one model: together they do what one would with batches as many times as large."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from distill.models.persistence import load_any
from distill.training.run_folder import RunFolder
from support.sounds import write_collection

CHILD = Path(__file__).with_name("support") / "rank_process.py"
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]


def trained(
    sounds: Path, output: Path, family: str, processes: int, batch_size: int, resume: bool = False, kill_at: int = -1
) -> subprocess.CompletedProcess[str]:
    """A run of `rank_process.py` in so many processes."""
    start = [sys.executable] + ([*TORCHRUN, str(processes)] if processes > 1 else [])
    arguments = [str(sounds), str(output), family, str(batch_size), "resume" if resume else "new", str(kill_at)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "RANK": os.environ.get("RANK", "0")}
    return subprocess.run(
        [*start, str(CHILD), *arguments], capture_output=True, text=True, check=False, env=environment
    )


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
    alone = trained(sounds, tmp_path / "one" / "run", family, processes=1, batch_size=6)
    together = trained(sounds, tmp_path / "two" / "run", family, processes=2, batch_size=3)
    assert (alone.returncode, together.returncode) == (0, 0), alone.stderr + together.stderr
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
    killed = trained(sounds, output, "vqvae", processes=2, batch_size=3, kill_at=4)
    assert killed.returncode != 0
    assert "TrainingError: another process of this run has ended" in killed.stderr
    assert not (tmp_path / "models").exists()
    resumed = trained(sounds, output, "vqvae", processes=1, batch_size=3, resume=True)
    assert resumed.returncode == 0, resumed.stderr
    assert "processes 2 → 1" in " ".join(entry.get("message", "") for entry in RunFolder(output).log())
    assert len(list((tmp_path / "models").glob("*.distill"))) == 1
    epochs = [event.epoch for event in RunFolder(output).events() if type(event).__name__ == "VQEpochMetrics"]
    assert epochs == [0, 1, 2]


def test_the_command_line_trains_in_two_processes_and_only_the_first_one_speaks(
    sounds: Path, tmp_path: Path, home: Path
) -> None:
    options = ["train", str(sounds), "--epochs", "2", "--batch-size", "4", "--codebook-size", "16", "--json"]
    said = subprocess.run(
        [sys.executable, *TORCHRUN, "2", "-m", "distill", *options],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    lines = [json.loads(line) for line in said.stdout.splitlines()]
    assert [line["epoch"] for line in lines if line["event"] == "VQEpochMetrics"] == [0, 1]
    assert lines[-1]["event"] == "Summary"
    assert len(list((home / "models").glob("*.distill"))) == 1
    assert len(list((home / "runs").iterdir())) == 1
