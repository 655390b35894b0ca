"""A checkpoint is the whole state of a run, and the folder of them keeps the newest and the best."""

import dataclasses
import os
import pickle
from pathlib import Path

import pytest
import torch

from distill.errors import CheckpointError, StorageError
from distill.training.checkpoint import (
    _FIELDS,
    _OPTIONAL,
    Checkpoint,
    best_checkpoint,
    find_checkpoint,
    list_checkpoints,
    load_checkpoint,
    load_vqvae_checkpoint,
    save_checkpoint,
    save_vqvae_checkpoint,
)
from distill.training.metrics import (
    VQMetricsHistory,
)
from support.checkpoints import HEALTH, V1_HISTORY, VQ_HISTORY, checkpoint, same, step, trained, v1_checkpoint


def save_row(folder: Path, losses: list[float | None], keep: int) -> list[int]:
    """Save one checkpoint per loss; the epochs that are kept."""
    for epoch, loss in enumerate(losses):
        save_vqvae_checkpoint(folder, checkpoint(epoch, val_loss=loss), keep)
    return [load_vqvae_checkpoint(path).epoch for path in list_checkpoints(folder)]


@pytest.mark.parametrize(
    ("made", "save", "load"),
    [
        (checkpoint(), save_vqvae_checkpoint, load_vqvae_checkpoint),
        (
            checkpoint(val_loss=None, best_weights=None, best_val_loss=None),
            save_vqvae_checkpoint,
            load_vqvae_checkpoint,
        ),
        (v1_checkpoint(), save_checkpoint, load_checkpoint),
    ],
    ids=["rvq", "rvq before its first validation", "vae"],
)
def test_every_field_comes_back_to_the_bit(tmp_path, made, save, load):
    back = load(save(tmp_path, made))
    for field in dataclasses.fields(Checkpoint):
        assert same(getattr(made, field.name), getattr(back, field.name)), field.name


def test_the_history_comes_back_with_its_nan_its_health_and_its_warnings(tmp_path):
    back = load_vqvae_checkpoint(save_vqvae_checkpoint(tmp_path, checkpoint())).history
    assert isinstance(back, VQMetricsHistory)
    assert repr(back.step_metrics) == repr(VQ_HISTORY.step_metrics)
    assert repr(back.epoch_metrics) == repr(VQ_HISTORY.epoch_metrics)
    v1 = load_checkpoint(save_checkpoint(tmp_path, v1_checkpoint())).history
    assert v1 == V1_HISTORY


def test_training_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(tmp_path):
    straight = trained()
    back = load_vqvae_checkpoint(save_vqvae_checkpoint(tmp_path, checkpoint()))
    resumed = trained(seed=1)
    states = (back.model_state, back.optimizer_state, back.scheduler_state)
    for part, state in zip(resumed, states):
        part.load_state_dict(state)
    step(*straight)
    step(*resumed)
    for ours, theirs in zip(straight, resumed):
        assert same(dict(ours.state_dict()), dict(theirs.state_dict()))


def test_a_checkpoint_is_readable_without_running_anything_from_it(tmp_path):
    content = torch.load(save_vqvae_checkpoint(tmp_path, checkpoint()), weights_only=True)
    assert content["commitment_weight"] == 0.25
    assert content["codebook_health"] == HEALTH
    assert torch.load(save_checkpoint(tmp_path, v1_checkpoint()), weights_only=True)["kl_weight"] == 0.01


def test_the_newest_and_the_best_are_kept(tmp_path):
    assert save_row(tmp_path, [0.5, 0.1, 0.4, 0.3, 0.2], keep=2) == [1, 3, 4]


def test_a_best_that_is_among_the_newest_takes_no_extra_place(tmp_path):
    assert save_row(tmp_path, [0.5, 0.4, 0.3, 0.2], keep=2) == [2, 3]


def test_one_checkpoint_kept_is_the_newest_beside_the_best(tmp_path):
    assert save_row(tmp_path, [0.1, 0.4, 0.3], keep=1) == [0, 2]


def test_a_loss_that_is_no_number_is_never_the_best(tmp_path):
    assert save_row(tmp_path, [None, 0.4, 0.5, None], keep=1) == [1, 3]
    assert load_vqvae_checkpoint(best_checkpoint(tmp_path)).epoch == 1


@pytest.mark.parametrize(("losses", "best"), [([3e-8, 2e-8, 9e-8], 1), ([100.5, 9.5, 20.5], 1), ([0.5, -0.5, 0.1], 1)])
def test_the_best_is_told_from_the_rest_at_any_scale(tmp_path, losses, best):
    assert best in save_row(tmp_path, losses, keep=1)
    assert load_vqvae_checkpoint(best_checkpoint(tmp_path)).epoch == best


def test_without_any_validation_loss_the_newest_is_the_best(tmp_path):
    assert best_checkpoint(tmp_path) is None
    save_row(tmp_path, [None, None], keep=5)
    assert load_vqvae_checkpoint(best_checkpoint(tmp_path)).epoch == 1


def test_checkpoints_are_listed_by_position_and_other_files_are_left_alone(tmp_path):
    for epoch, at in ((10, 0), (2, 7), (2, 30), (100_000, 0)):
        save_vqvae_checkpoint(tmp_path, checkpoint(epoch, at), 9)
    (tmp_path / "checkpoint_mine.pt").write_bytes(b"mine")
    read = [load_vqvae_checkpoint(path) for path in list_checkpoints(tmp_path)]
    assert [(found.epoch, found.step) for found in read] == [(2, 7), (2, 30), (10, 0), (100_000, 0)]
    save_vqvae_checkpoint(tmp_path, checkpoint(100_001), 1)
    assert (tmp_path / "checkpoint_mine.pt").read_bytes() == b"mine"


def test_a_checkpoint_written_twice_at_one_position_stands_once(tmp_path):
    first, second = (save_vqvae_checkpoint(tmp_path, checkpoint(3, elapsed_s=s)) for s in (1.0, 2.0))
    assert first == second
    assert load_vqvae_checkpoint(first).elapsed_s == 2.0
    assert list_checkpoints(tmp_path) == [first]


def test_a_run_folder_stands_for_its_newest_checkpoint_and_a_file_for_itself(tmp_path):
    old, new = (save_vqvae_checkpoint(tmp_path / "checkpoints", checkpoint(n)) for n in (1, 2))
    assert old != new
    assert find_checkpoint(tmp_path, "vqvae").epoch == 2
    assert find_checkpoint(old, "vqvae").epoch == 1


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: flipped(b, len(b) // 2)])
def test_a_damaged_newest_checkpoint_is_kept_aside_and_the_one_before_it_taken(tmp_path, caplog, damage):
    old, new = (save_vqvae_checkpoint(tmp_path / "checkpoints", checkpoint(n)) for n in (1, 2))
    bad = damage(new.read_bytes())
    new.write_bytes(bad)
    assert find_checkpoint(tmp_path, "vqvae").epoch == 1
    assert new.name in caplog.text
    assert f"the run resumes from the one before it, {old.name}" in caplog.text
    assert new.with_name(new.name + ".damaged").read_bytes() == bad
    assert list_checkpoints(old.parent) == [old]


def test_where_every_checkpoint_is_damaged_none_is_moved_and_the_newest_is_named(tmp_path):
    paths = [save_vqvae_checkpoint(tmp_path / "checkpoints", checkpoint(n)) for n in (1, 2)]
    for path in paths:
        path.write_bytes(b"gone")
    with pytest.raises(CheckpointError, match=paths[1].name):
        find_checkpoint(tmp_path, "vqvae")
    assert list_checkpoints(tmp_path / "checkpoints") == paths


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def test_a_place_without_checkpoints_is_refused(tmp_path):
    for place in (tmp_path, tmp_path / "missing"):
        with pytest.raises(CheckpointError, match=str(place)):
            find_checkpoint(place, "vqvae")


def test_a_checkpoint_that_cannot_be_written_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="file"):
        save_vqvae_checkpoint(tmp_path / "file", checkpoint())


# What is refused


@pytest.fixture
def content(tmp_path) -> dict:
    return torch.load(save_vqvae_checkpoint(tmp_path / "good", checkpoint()), weights_only=True)


@pytest.fixture
def write(tmp_path):
    def write_content(content: object) -> Path:
        torch.save(content, tmp_path / "other.pt")
        return tmp_path / "other.pt"

    return write_content


def refused(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_vqvae_checkpoint(path)
    return str(caught.value)


@pytest.mark.parametrize("key", sorted(set(_FIELDS.values()) - _OPTIONAL))
def test_a_checkpoint_without_one_of_its_fields_is_refused_by_name(content, write, key):
    del content[key]
    message = refused(write(content))
    assert "missing" in message
    assert key in message


def test_a_checkpoint_of_the_other_family_is_refused(tmp_path):
    assert "from a vae run, not a vqvae run" in refused(save_checkpoint(tmp_path, v1_checkpoint()))
    with pytest.raises(CheckpointError, match="from a vqvae run, not a vae run"):
        load_checkpoint(save_vqvae_checkpoint(tmp_path, checkpoint()))


@pytest.mark.parametrize("version", [None, 0, 1, 3, "2"])
def test_a_checkpoint_of_another_format_version_is_refused(content, write, version):
    assert "another version" in refused(write(content | {"version": version}))


@pytest.mark.parametrize("other", [{}, [], None, {"format": "distill_model"}, torch.zeros(2)], ids=repr)
def test_another_programs_file_is_refused(write, other):
    assert "not a distill checkpoint" in refused(write(other))


@pytest.mark.parametrize(
    "history", [None, [], "", "{}", '{"step_metrics": [5]}', '{"step_metrics": [], "epoch_metrics": [{}]}']
)
def test_a_damaged_history_is_refused(content, write, history):
    assert "damaged" in refused(write(content | {"history": history}))


@pytest.mark.parametrize("garbage", [b"", b"text", b"PK\x03\x04", bytes(1000)], ids=["empty", "text", "zip", "zeros"])
def test_garbage_is_refused(tmp_path, garbage):
    (tmp_path / "x.pt").write_bytes(garbage)
    assert "x.pt" in refused(tmp_path / "x.pt")


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_checkpoint_cut_short_is_refused(tmp_path, share):
    path = save_vqvae_checkpoint(tmp_path, checkpoint())
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert "cut short" in refused(path)


def test_a_missing_checkpoint_is_refused(tmp_path):
    assert "missing.pt" in refused(tmp_path / "missing.pt")


class Payload:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch '{self.canary}'",)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_payload_is_refused_and_not_run(tmp_path, content, write):
    refused(write(content | {"identity": Payload(tmp_path / "canary")}))
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Payload(tmp_path / "canary"), protocol=2))
    refused(tmp_path / "plain.pt")
    assert not (tmp_path / "canary").exists()
