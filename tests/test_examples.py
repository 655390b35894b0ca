"""The examples do what they say, from a folder of sounds on."""

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import distill
from distill.library.catalog import ModelLibrary
from distill.training.run_folder import RunFolder

SMALL = {"codebook_size": 16, "augmentation_copies": 1}
EXAMPLES = Path(__file__).parent.parent / "examples"


def example(name: str) -> ModuleType:
    return __import__(f"examples.{name}", fromlist=["*"])


@pytest.mark.usefixtures("quick_runs")
def test_a_callback_of_ones_own_ends_a_run_and_its_log_is_a_table(collection: Path, tmp_path: Path) -> None:
    own, reader = example("own_callback"), example("read_events")
    patience = own.Patience(epochs=1)
    patience.lowest = 0.0  # which no epoch comes below
    own.train(collection, patience, output_dir=tmp_path / "run", models_dir=tmp_path / "models", max_epochs=50, **SMALL)
    assert len(RunFolder(tmp_path / "run").events()) < 50
    table = reader.epochs(tmp_path / "run")
    assert list(table.index) == [0]
    assert 0 < table["level_0.utilization"][0] <= 1
    assert table["val_recon_loss"][0] > 0


@pytest.mark.usefixtures("quick_runs")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of TensorBoard's own
def test_a_run_is_seen_in_tensorboard(collection: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    callback = example("tensorboard_callback").ToTensorBoard(tmp_path / "board")
    distill.train(collection, callback=callback, output_dir=tmp_path / "run", max_epochs=2, with_prior=False, **SMALL)
    callback.writer.close()
    seen = EventAccumulator(str(tmp_path / "board")).Reload()
    assert [value.step for value in seen.Scalars("val_loss")] == [0, 1]
    assert 0 < seen.Scalars("level_0/utilization")[0].value <= 1


@pytest.mark.slow
def test_the_family_is_trained_as_a_program_of_its_own(collection: Path, home: Path) -> None:
    said = subprocess.run(
        [sys.executable, EXAMPLES / "own_family.py", collection], capture_output=True, text=True, check=True
    )
    assert "collection: loss" in said.stdout
    assert [entry.model_type for entry in ModelLibrary(home / "models").entries()] == ["profiles"]


@pytest.mark.slow
def test_the_notebook_runs_from_its_first_cell_to_its_last_and_holds_no_outputs(tmp_path: Path) -> None:
    path = EXAMPLES / "first_model.ipynb"
    source = path.read_text()
    assert '"output_type"' not in source
    assert "minutes=1," in source
    program = (
        "import sys, nbformat, nbclient\n"
        "notebook = nbformat.reads(sys.stdin.read(), 4)\n"
        "nbclient.NotebookClient(notebook, timeout=600).execute()\n"
        "outputs = [output for cell in notebook.cells for output in cell.get('outputs', [])]\n"
        "print([kind for output in outputs for kind in output.get('data', {})])\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", program],
        input=source.replace("minutes=1,", "minutes=0.05,"),
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert said.stdout.count("audio") + said.stdout.count("text/html") >= 10  # a player for every sound
    assert "image/png" in said.stdout
