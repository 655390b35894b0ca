"""Run folders from strangers, or damaged ones: a row that says so, an error in words, and nothing else."""

import dataclasses
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from distill.errors import DistillError
from distill.models.archive import read_archive, write_archive
from distill.training.checkpoint import list_checkpoints
from distill.training.execution import run_training
from distill.training.preview_files import preview_files
from distill.training.request import TrainingRequest
from distill.training.run_folder import RunFolder
from distill.web.queue_file import QueueFile
from support.commands import run
from support.runs import make_runs_quick, models_of
from support.sounds import write_collection
from support.stops import AtEvent
from support.web_server import Web, web_server

SETTINGS = {"codebook_size": 16, "codebook_dim": 8, "batch_size": 4, "chunk_duration_s": 0.5, "val_fraction": 0.3}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped in its last epoch; tests work on copies."""
    base = tmp_path_factory.mktemp("stopped")
    places = {"output_dir": base / "run", "models_dir": models_of(base / "run"), "with_prior": False}
    request = TrainingRequest.for_folder(write_collection(base / "kit"), **places, **SETTINGS, max_epochs=2)
    with pytest.MonkeyPatch.context() as patch:
        make_runs_quick(patch)
        with AtEvent("EpochMetrics", epoch=0).laid() as options:
            run_training(request, **options)
    return base / "run"


@pytest.fixture
def folder(stopped: Path, home: Path, quick_runs: None) -> Path:
    return Path(shutil.copytree(stopped, home / "runs" / "run"))


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    with web_server(tmp_path_factory.mktemp("web")) as web:
        yield web


def in_json(name: str, **changes: Any) -> Callable[[Path], object]:
    """Other values in run.json, or in the last line of a log."""

    def change(folder: Path) -> None:
        *lines, last = (folder / name).read_text().splitlines() if name.endswith("l") else [(folder / name).read_text()]
        text = json.dumps(json.loads(last) | changes)  # with NaN where it is in there
        (folder / name).write_text("".join(f"{line}\n" for line in [*lines, text]))

    return change


def holds(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text)


def in_checkpoint(**changes: Any) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        for path in list_checkpoints(folder / "checkpoints"):
            write_archive(path, read_archive(path) | changes)

    return change


def is_pipe(name: str) -> Callable[[Path], object]:
    return lambda folder: ((folder / name).unlink(), os.mkfifo(folder / name))


CASES: dict[str, Callable[[Path], object]] = {
    "only a marker": holds("run.json", '{"format": "distill_run", "config": [1]}'),
    "no object": holds("run.json", "[1]"),
    "brackets": holds("run.json", "[" * 100_000),
    "many brackets": holds("run.json", "[" + "[]," * 2_000_000 + "1]"),
    "config": in_json("run.json", config=[1]),
    "settings": in_json("run.json", config={"minutes": "x", "max_epochs": {}, "codebook_size": []}),
    "infinite": in_json("run.json", config={"minutes": float("inf")}),
    "too large": holds("run.json", '{"format": "distill_run", "duration_s": 1e999}'),
    "family": in_json("run.json", family=float("nan")),
    "no family": in_json("run.json", family="gan"),
    "duration": in_json("run.json", duration_s=-1e300),
    "total": in_json("run.json", total_epochs=2**62),
    "files": in_json("run.json", files=["\0", "x" * 5000]),
    "mel": in_json("run.json", spectrogram_config={"sample_rate": "x", "n_fft": 2**40}),
    "model": in_json("run.json", model_settings={"codebook_size": "16"}, validation_vectors=-5),
    "place": in_json("run.json", models_dir="/dev/null/x"),
    "name": in_json("run.json", model_name="", dataset_name="\x1b[31m\r\u202e"),
    "run.json a pipe": is_pipe("run.json"),
    "events a pipe": is_pipe("events.jsonl"),
    "usage a list": holds("usage.jsonl", "[1]\n"),
    "usage without counts": holds("usage.jsonl", '{"epoch": 0}\n'),
    "usage of other shapes": holds("usage.jsonl", '{"epoch": 0, "counts": [[1], []]}\n{"epoch": 0, "counts": [[1]]}\n'),
    "usage of none": holds("usage.jsonl", '{"epoch": 0, "counts": []}\n'),
    "usage of huge counts": holds("usage.jsonl", '{"epoch": 0, "counts": [[1%s]]}\n' % ("0" * 400)),
    "events of numbers": holds("events.jsonl", "1\n2\n"),
    "an event without a kind": holds("events.jsonl", "{}\n"),
    "an event of a kind of list": holds("events.jsonl", '{"event": []}\n'),
    "an event of words": in_json("events.jsonl", epoch="x", total_epochs=None),
    "health": in_json("events.jsonl", event="VQEpochMetrics", codebook_health={"level_0": {}}),
    "a warning of other values": in_json(
        "events.jsonl", event="Warning", message="m", kind="LevelUnderused", values={"level": {}, "utilization": "x"}
    ),
    "a warning without words": holds("events.jsonl", '{"event": "Warning"}\n'),
    "best epoch": in_checkpoint(best_epoch=2**62),
    "epoch": in_checkpoint(epoch=2**40),
    "elapsed": in_checkpoint(elapsed_s=-1.0),
    "processes": in_checkpoint(made_with={"device": "x", "torch": "x", "threads": "x", "processes": "x"}),
    "identity": in_checkpoint(identity={"config": 1, "spectrogram_config": [], "files": {}}),
    "scheduler": lambda folder: in_checkpoint(
        scheduler_state=read_archive(list_checkpoints(folder / "checkpoints")[-1])["scheduler_state"] | {"T_max": "x"}
    )(folder),
    "history": in_checkpoint(history='{"step_metrics": [{"epoch": "x"}], "epoch_metrics": []}'),
    "history of words": in_checkpoint(history='"step_metrics"'),
    "totals": in_checkpoint(totals={"examples": 1, "sums": {"train_loss": "x", "recon_loss": 1.0, "commit_loss": 1.0}}),
    "skips": in_checkpoint(skips={"total": "x", "in_row": None}),
}  # fmt: skip


def asked_of(web: Web, folder: Path) -> dict[str, Any]:
    """The row of a run folder in the list; all that a page asks of it is answered, and so is the list."""
    place = web.state.runs.runs_dir / "run"
    shutil.copytree(folder, place, copy_function=lambda a, b: shutil.copy2(a, b) if Path(a).is_file() else os.mkfifo(b))
    try:
        rows = web.get("/api/runs")
        for path in ("", "/usage", "/previews", "/events", "/previews/epoch_0000_1_original/mel"):
            if path == "/events":
                with web.client.stream("GET", f"/api/runs/run{path}") as answer:
                    assert answer.status_code in (200, 404)
                    for line in answer.iter_lines() if answer.status_code == 200 else ():
                        if line.startswith("event: state"):
                            break
            else:
                assert web.client.get(f"/api/runs/run{path}").status_code in (200, 404, 422)
        return rows[0] if rows else {}
    finally:
        shutil.rmtree(place)


@pytest.mark.parametrize("case", CASES)
def test_a_damaged_run_is_a_row_and_an_error_in_words(
    case: str, folder: Path, web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    CASES[case](folder)
    if "in_checkpoint" not in CASES[case].__qualname__:  # then all is read before the first step
        monkeypatch.setattr("distill.training.trainer.Trainer.fit", lambda self: False)
    row = asked_of(web, folder)
    if row and row["state"] == "failed":
        assert "run.json" in row["error"]
    said = run("train", "--resume", folder, "--models-dir", tmp_path / "models")
    assert "fault in distill" not in said.err
    assert said.code in (0, 1), said


def test_a_run_whose_record_is_damaged_says_so_and_hides_no_other(folder: Path, web: Web, stopped: Path) -> None:
    for name in ("good", "bad"):
        shutil.copytree(stopped, web.state.runs.runs_dir / name)
    CASES["only a marker"](web.state.runs.runs_dir / "bad")
    rows = {row["id"]: row for row in web.get("/api/runs")}
    assert rows["good"]["state"] == "interrupted"
    assert (rows["bad"]["state"], rows["bad"]["name"]) == ("failed", "bad")
    assert "missing" in rows["bad"]["error"]
    for name in rows:
        shutil.rmtree(web.state.runs.runs_dir / name)


def test_a_run_that_goes_while_the_list_is_made_hides_no_other(
    web: Web, stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("stays", "goes"):
        shutil.copytree(stopped, web.state.runs.runs_dir / name)
    get = web.state.runs.get

    def goes(key: str) -> object:
        if key == "goes":  # as beside a cancel, or a folder that somebody deletes
            shutil.rmtree(web.state.runs.runs_dir / key)
        return get(key)

    monkeypatch.setattr(web.state.runs, "get", goes)
    assert [row["id"] for row in web.get("/api/runs")] == ["stays"]
    shutil.rmtree(web.state.runs.runs_dir / "stays")


@pytest.mark.parametrize("name", ["checkpoints", "previews", "events.jsonl", "usage.jsonl", ".lock"])
def test_nothing_is_written_or_deleted_where_a_link_in_a_run_folder_points(
    name: str, folder: Path, web: Web, tmp_path: Path
) -> None:
    part, away = folder / name, tmp_path / "mine"
    if part.exists():
        part.rename(away)
    else:
        away.write_text("mine")
    if away.is_dir():
        (away / "epoch_0099_1_original.wav").write_bytes(b"mine")
    before = {path: path.read_bytes() for path in (away, *away.rglob("*")) if path.is_file()}
    part.symlink_to(away)
    said = run("train", "--resume", folder, "--models-dir", tmp_path / "models")
    assert (said.code, f"{name} is a link to elsewhere" in said.err) == (1, True), said
    web.get("/api/runs")
    assert {path: path.read_bytes() for path in (away, *away.rglob("*")) if path.is_file()} == before


def test_the_sounds_that_a_link_points_to_are_no_previews(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.wav").write_bytes(b"secret")
    (folder / "previews").mkdir(exist_ok=True)
    (folder / "previews" / "epoch_0000_9_original.wav").symlink_to(tmp_path / "secret.wav")
    assert preview_files(folder / "previews") == []


VALUES = [None, True, -1, 0, 2**62, 1e300, "", "x", "\0", [], {}, [1], {"a": 1}, [[[]]], "9" * 400]


def mutated(value: Any, rng: random.Random) -> Any:
    """The same value, but for something in it that is of another type or gone."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        if rng.random() < 0.1:
            return {name: item for name, item in value.items() if name != key}
        return value | {key: mutated(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.7:
        at = rng.randrange(len(value))
        return [*value[:at], mutated(value[at], rng), *value[at + 1 :]]
    return rng.choice(VALUES)


@pytest.mark.parametrize("count", [40, pytest.param(10_000, marks=pytest.mark.soak)])
@pytest.mark.parametrize("name", ["run.json", "events.jsonl", "usage.jsonl"])
def test_a_mutant_of_a_record_or_a_log_is_read_or_refused_in_words(
    name: str, count: int, folder: Path, counted: Callable[[str, int], None]
) -> None:
    rng, path, refused = random.Random(name), folder / name, 0
    whole = path.read_text()
    for _ in range(count):
        if name == "run.json":
            path.write_text(json.dumps(mutated(json.loads(whole), rng)))
        else:
            lines = whole.splitlines()
            at = rng.randrange(len(lines))
            lines[at] = json.dumps(mutated(json.loads(lines[at]), rng))
            path.write_text("".join(f"{line}\n" for line in lines))
        try:
            request = TrainingRequest.resume(folder)
            request.to_dict()
            RunFolder(folder).rewind(1, 0)
        except DistillError:
            refused += 1
    assert refused < count
    counted(f"mutants of {name}", count)


@pytest.mark.parametrize("count", [40, pytest.param(10_000, marks=pytest.mark.soak)])
def test_a_mutant_of_the_list_of_waiting_runs_is_read_as_far_as_it_makes_sense(
    count: int, folder: Path, tmp_path: Path, counted: Callable[[str, int], None], caplog
) -> None:
    rng = random.Random(0)
    request = TrainingRequest.resume(folder)
    new = dataclasses.replace(request, resume_from=None, output_dir=tmp_path / "new")
    whole = [request.to_dict(), new.to_dict()]
    waiting = QueueFile(tmp_path)
    for _ in range(count):
        (tmp_path / "waiting.json").write_text(json.dumps(mutated(whole, rng)))
        assert len(waiting.load()) <= 2
        caplog.clear()
    waiting.close()
    counted("mutants of waiting.json", count)
