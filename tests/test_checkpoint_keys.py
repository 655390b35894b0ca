"""Each key of a checkpoint is needed, and other circumstances than those of its run are refused or told of."""

import copy
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch

from distill.audio.settings import BEFORE
from distill.data.collection import find_audio_files
from distill.errors import CheckpointError
from distill.training import setup
from distill.training.checkpoint import list_checkpoints, read_checkpoint
from distill.training.loop import train, train_vqvae
from distill.training.run import Run
from distill.training.trainer import Trainer
from support.runs import small_config, small_vae_config
from support.sounds import RATE, tone, write_collection
from support.stops import AtEvent

pytestmark = pytest.mark.usefixtures("quick_runs")

MANY = {"model_state", "best_weights", "state"}  # where a sample of the keys stands for the rest
MADE = {"vqvae": (train_vqvae, small_config), "vae": (train, small_vae_config)}


@pytest.fixture(scope="module")
def sounds(tmp_path_factory) -> list[Path]:
    return find_audio_files(write_collection(tmp_path_factory.mktemp("sounds")))


@pytest.fixture(scope="module")
def stopped(sounds, tmp_path_factory) -> dict[str, Path]:
    """A run of each family, stopped in its second epoch, so that its checkpoint has all that one can have."""
    folders = {}
    for family, (begin, make) in MADE.items():
        folders[family] = tmp_path_factory.mktemp(family) / "run"
        with AtEvent("StepMetrics", epoch=1, step=1).laid() as options:
            begin(make(augmentation_copies=3), sounds, folders[family], **options)
    return folders


class Ready(Exception):
    """A run is set up; no step of it is wanted."""


def run_of(family: str, sounds: list[Path], folder: Path) -> Run:
    """The run in `folder`, as it is when it is about to go on."""
    runs: list[Run] = []

    def fit(trainer: Trainer) -> bool:
        runs.append(trainer.run)
        raise Ready

    begin, make = MADE[family]
    with pytest.MonkeyPatch.context() as patch, suppress(Ready):
        patch.setattr(Trainer, "fit", fit)
        begin(make(augmentation_copies=3), sounds, folder, resume_from=folder)
    return runs[0]


def key_paths(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """The way to each key of nested dictionaries and lists."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        if isinstance(value, dict):
            yield (*path, key)
        yield from key_paths(item, (*path, key))


def without(content: dict[str, Any], path: tuple) -> dict[str, Any]:
    """A copy of `content` that lacks the key at `path`; tensors are shared."""
    part = rest = copy.copy(content)
    for key in path[:-1]:
        part[key] = copy.copy(part[key])
        part = part[key]
    del part[path[-1]]
    return rest


NEWER = {("identity", "spectrogram_config", key) for key in BEFORE}  # checkpoints of 0.1.0 go on without them
SOME = {("identity", "config", "minutes"), ("totals", "sums", "train_loss"), ("made_with", "torch")}


@pytest.mark.parametrize(
    ("every", "every_of_many"),
    [(8, 400), pytest.param(1, 60, marks=pytest.mark.slow), pytest.param(1, 1, marks=pytest.mark.soak)],
)
@pytest.mark.parametrize("family", MADE)
def test_a_checkpoint_without_any_one_of_its_keys_is_refused(family, every, every_of_many, stopped, sounds, tmp_path):
    (newest,) = list_checkpoints(shutil.copytree(stopped[family], tmp_path / "run") / "checkpoints")[-1:]
    run = run_of(family, sounds, tmp_path / "run")
    content = torch.load(newest, weights_only=True)
    paths, accepted = list(key_paths(content)), []
    many, few = ([path for path in paths if bool(MANY & set(path)) == of_many] for of_many in (True, False))
    assert set(few) >= SOME
    tried = [*many[::every_of_many], *dict.fromkeys([*SOME, *few[::every]])]
    for path in tried:
        torch.save(without(content, path), tmp_path / "other.pt")
        try:
            setup._resume(run, read_checkpoint(tmp_path / "other.pt", family))
        except CheckpointError:
            continue
        accepted.append(path)
    assert set(accepted) <= NEWER
    setup._resume(run, read_checkpoint(newest, family))  # nothing but the missing keys was in the way


@pytest.mark.parametrize("family", MADE)
def test_a_checkpoint_without_the_moments_of_its_optimizer_is_refused(family, stopped, sounds, tmp_path):
    run = run_of(family, sounds, shutil.copytree(stopped[family], tmp_path / "run"))
    content = torch.load(list_checkpoints(tmp_path / "run" / "checkpoints")[-1], weights_only=True)
    content["optimizer_state"]["state"] = {}
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="parts of it are missing"):
        setup._resume(run, read_checkpoint(tmp_path / "other.pt", family))


# Changed circumstances


def gone_on(family: str, files: list[Path], folder: Path, **changes: Any) -> None:
    """Go on with the run in `folder` for one step."""
    begin, make = MADE[family]
    with AtEvent("StepMetrics").laid() as options:
        begin(make(augmentation_copies=3, **changes), files, folder, resume_from=folder, **options)


@pytest.fixture
def folder(stopped, tmp_path) -> Path:
    return shutil.copytree(stopped["vqvae"], tmp_path / "run")


@pytest.fixture
def own_sounds(sounds, tmp_path) -> list[Path]:
    """A copy of the sounds, to be changed."""
    return find_audio_files(shutil.copytree(sounds[0].parent, tmp_path / "own"))


@pytest.mark.parametrize("name", ["device", "torch", "threads"])
def test_another_device_torch_or_thread_count_is_told_of(name, folder, sounds, monkeypatch, caplog):
    here = setup.environment
    monkeypatch.setattr(setup, "environment", lambda device: here(device) | {name: "another"})
    gone_on("vqvae", sounds, folder)
    assert "the run is resumed in another environment" in caplog.text
    assert f"({name} {here(torch.device('cpu'))[name]} → another)" in caplog.text


def test_the_thread_count_that_is_told_of_is_that_of_torch(folder, sounds, caplog):
    torch.set_num_threads(2)
    try:
        gone_on("vqvae", sounds, folder)
    finally:
        torch.set_num_threads(1)
    assert "(threads 1 → 2)" in caplog.text


def test_in_the_same_circumstances_nothing_is_told(folder, sounds, caplog):
    gone_on("vqvae", sounds, folder)
    assert caplog.text == ""


def test_files_under_other_names_are_the_same_files(folder, own_sounds, caplog):
    for number, path in enumerate(reversed(own_sounds)):
        path.rename(path.with_name(f"renamed {number}.wav"))
    gone_on("vqvae", find_audio_files(own_sounds[0].parent), folder)
    assert caplog.text == ""


@pytest.mark.parametrize("change", ["changed", "removed", "added"])
def test_a_file_that_was_changed_removed_or_added_is_refused(change, folder, own_sounds):
    place = own_sounds[0].parent
    if change == "removed":
        own_sounds[0].unlink()
    else:
        soundfile.write(place / "new.wav" if change == "added" else own_sounds[0], tone(500, 0.3), RATE)
    before = {path: path.read_bytes() for path in folder.rglob("*.*")}
    with pytest.raises(CheckpointError, match="sound files are not those"):
        gone_on("vqvae", find_audio_files(place), folder)
    assert {path: path.read_bytes() for path in folder.rglob("*.*")} == before


@pytest.mark.parametrize(
    ("family", "change"),
    [("vqvae", {"batch_size": 8}), ("vqvae", {"seed": 1}), ("vae", {"free_bits": 0.2}), ("vae", {"minutes": 1.0})],
)
def test_another_setting_is_refused_by_name(family, change, stopped, sounds, tmp_path):
    (name,) = change
    with pytest.raises(CheckpointError, match=rf"these differ: {name} \(was .*, is {change[name]}\)"):
        gone_on(family, sounds, shutil.copytree(stopped[family], tmp_path / "run"), **change)
