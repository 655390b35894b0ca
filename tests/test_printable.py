"""Whatever stands in a file from a stranger, nothing of it acts on the terminal."""

import json
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import torch

from distill.paths import printable, printable_lines
from support.commands import Said, run
from support.models import save_rvq_vae, small_rvq_vae

ACTS = "\x1b[31mred\r\x08\x9b2J\u202egnp\u2066\u200f\u061c\ufeff\U000e0041\x07\x00\u2028"


def acting(text: str) -> set[str]:
    """The characters that do something instead of being seen, but for line ends."""
    return {char for char in text if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") and char != "\n"}


@pytest.fixture(scope="module")
def model(narrow_nets: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_rvq_vae(small_rvq_vae(), tmp_path_factory.mktemp("models"), dataset_name="kit")


def everywhere(value: Any, text: str) -> Any:
    """The same, with `text` in each string that means nothing to a reader, keys included."""
    if isinstance(value, dict):
        return {name: everywhere(item, text) for name, item in value.items()}
    return text + value if isinstance(value, str) else value


@pytest.fixture
def hostile(model: Path, tmp_path: Path) -> Path:
    """A library with a model that has such text wherever there can be any."""
    content = torch.load(model, weights_only=True)
    content["metadata"] = everywhere(content["metadata"] | {"model_id": "abc", "distill_version": "0"}, ACTS)
    content["training_config"] = {ACTS: ACTS}
    content["codebook_health_snapshot"] = {
        f"{ACTS}{name}": level for name, level in content["codebook_health_snapshot"].items()
    }
    folder = tmp_path / "models"
    folder.mkdir()
    torch.save(content, folder / "kick.distill")
    for part in ("version", "model_type", "metadata", "spectrogram_config", "vqvae_config", "format"):
        torch.save(content | {part: {ACTS: ACTS}}, folder / f"bad {part}.distill")
    torch.save(content | {"model_type": f"vae{ACTS}"[:60]}, folder / "odd.distill")
    torch.save({f"{ACTS}{name}": item for name, item in content.items()}, folder / "keys.distill")
    shutil.copy(model, folder / f"{ACTS.replace('/', '').replace(chr(0), '')}.distill")
    return folder


def assert_harmless(said: Said) -> None:
    assert acting(said.out) == set(), said.out
    assert acting(said.err) == set(), said.err


def test_no_command_lets_text_of_a_model_act_on_the_terminal(hostile: Path, tmp_path: Path) -> None:
    listed = run("models", "list", "--models-dir", hostile)
    assert_harmless(listed)
    assert "\\x1b[31mred" in run("models", "show", hostile / "kick.distill").out
    names = [path.stem for path in hostile.glob("*.distill")]
    for path in hostile.glob("*.distill"):
        assert_harmless(run("models", "show", path))
        assert_harmless(run("export", path, "-o", tmp_path / "out.safetensors", "--overwrite"))
        assert_harmless(run("import", path, "--models-dir", tmp_path / "imported"))
        assert_harmless(run("models", "delete", path))
        assert_harmless(run("reconstruct", path, tmp_path / "none.wav", "-o", tmp_path / "out"))
    assert_harmless(run("models", "show", f"{ACTS}kick", "--models-dir", hostile))
    assert_harmless(run("models", "rename", hostile / "kick.distill", f"{ACTS[:8]}snare", "--models-dir", hostile))
    assert_harmless(run("models", "delete", hostile / "odd.distill", "--yes"))
    assert names


def test_no_command_lets_text_of_a_run_act_on_the_terminal(tmp_path: Path) -> None:
    record = {"format": "distill_run", "family": "vqvae", "duration_s": 1.0, "config": {}, "files": []}
    for part in ("family", "model_name", "dataset_name", "files", "config", "model_path", "models_dir"):
        given = {"files": [ACTS], "config": {ACTS: ACTS}}.get(part, ACTS)
        folder = tmp_path / part
        folder.mkdir()
        (folder / "run.json").write_text(json.dumps(record | {"model_name": "", "dataset_name": ""} | {part: given}))
        said = run("train", "--resume", folder)
        assert_harmless(said)
        assert said.code == 1


def test_what_acts_is_written_out_and_all_else_stays_as_it_is() -> None:
    assert acting(printable(ACTS)) == set()
    assert printable("a\nb\x1b[0m\u202e") == "a\\nb\\x1b[0m\\u202e"
    assert printable_lines("a\nb\r") == "a\nb\\r"
    for text in ("Trommeln 🥁", "👩\u200d🚀", "می\u200cخواهم", "音", "naïve [x]"):
        assert printable(text) == text
