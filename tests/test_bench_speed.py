"""The measurements of `docs/speed.md`: the reference step, interleaved timing, stages, and the report."""

import dataclasses
import json
import math
import sys

import pytest
import torch

from bench.shared import rows
from bench.speed import long, quantizer, scan, training
from bench.speed.__main__ import PARTS, split_arguments
from bench.speed.reference_step import ReferenceStep
from bench.speed.report import report
from bench.speed.roofline import Machine, Work, WorkCounter
from bench.speed.stages import StagedStep, stage_rows
from bench.speed.step import MEDIUM, OurStep
from bench.speed.tables import TARGETS, figure, latest
from bench.speed.timing import Setting, Spread, comparison, interleaved, ratios, repeated, timed
from distill.training.metrics import VQEpochMetrics, VQStepMetrics

CPU = torch.device("cpu")
SMALL = MEDIUM(batch_size=2, codebook_size=8, dropout=0.0)


def test_the_reference_step_learns():
    step = ReferenceStep(CPU, batch=2, codebook_size=8)
    losses = [step() for _ in range(10)]
    assert all(map(math.isfinite, losses))
    assert sum(losses[-3:]) < sum(losses[:3])


def test_our_step_learns_and_the_same_step_in_stages_ends_with_the_same_weights():
    whole, staged = OurStep(CPU, SMALL), StagedStep(OurStep(CPU, SMALL))
    assert next(iter(staged.stages)) == "mel"
    before = whole.model.encoder.linear.weight.clone()
    for step in (whole, staged):
        torch.manual_seed(1)
        repeated(step, 2)()
    assert not torch.equal(before, whole.model.encoder.linear.weight)
    for ours, theirs in zip(whole.model.state_dict().values(), staged.model.state_dict().values(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_every_stage_has_its_time_its_work_and_a_floor():
    step = StagedStep(OurStep(CPU, SMALL))
    times = {name: [timed(stage)] for name, stage in step.stages.items()}
    lines = stage_rows(times, step.work(), [Machine(flops=1e12, bandwidth=1e12)])
    assert sum(line["share"] for line in lines) == pytest.approx(1)
    assert all(line["floor_ms"] > 0 and line["factor"] > 1 for line in lines)
    work = {line["name"]: line["gflop"] for line in lines}
    assert work["backward"] > work["decoder"] > work["loss"] == 0


def test_products_are_counted_and_what_is_kept_for_a_backward_pass_once():
    weight = torch.randn(8, 4, requires_grad=True)
    counter = WorkCounter([weight])
    x = torch.randn(16, 8)
    assert counter.flop(lambda: x @ weight) == 2 * 16 * 8 * 4
    assert counter.saved == x.nbytes
    counter.flop(lambda: x @ weight)
    assert counter.saved == x.nbytes
    assert Work(flop=10, nbytes=6).floor(Machine(flops=5, bandwidth=2)) == 3


def test_what_is_timed_in_turn_changes_its_order_every_time():
    now, order = [0.0], []

    def way(name: str, seconds: float):
        def call() -> None:
            order.append(name)
            now[0] += seconds * (1 + len(order) // 3)  # a machine that gets slower

        return call

    times = interleaved({"a": way("a", 1), "b": way("b", 2)}, 3, clock=lambda: now[0])
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert times == {"a": [1, 2, 2], "b": [2, 4, 6]}
    assert ratios(times["b"], times["a"]) == [2, 2, 3]
    assert Spread.of([3, 1, 2]) == Spread(2, 1, 3)


def setting(work) -> Setting:
    return Setting(CPU, 2, None, work)


def test_the_quantizers_are_compared(monkeypatch):
    monkeypatch.setattr(quantizer, "_STEPS", 1)
    monkeypatch.setattr(quantizer, "_VECTORS", (2, 48))
    (row,) = quantizer.quantizer(setting(None))
    assert row["repetitions"] == 2
    assert 0 < row["ratio"]["low"] <= row["ratio"]["median"] <= row["ratio"]["high"] < math.inf
    json.dumps(row, allow_nan=False)


def test_a_training_is_timed_from_its_second_epoch_on(collection, tmp_path, monkeypatch):
    def fake(request, callback):
        for epoch, elapsed in enumerate([10.0, 12.0, 14.0]):
            callback(VQStepMetrics(epoch, 0, 1, 1, 1, 0, 0.25, 1e-3, step_time_s=0.0))
            callback(VQEpochMetrics(epoch, 3, 1, 1, 1, 0, 0, 1e-3, 0, elapsed_seconds=elapsed))

    monkeypatch.setattr(training, "run_training", fake)
    run = training.train(collection, tmp_path, "cpu", max_epochs=3, augmentation_copies=2)
    assert 0 < run.first_step_s <= run.whole_s
    assert run.epoch_s == 2.0
    assert run.epoch_audio_s == 8.0  # twice four of six tones shorter than a chunk; two are held out
    assert run.rate == 4.0


def test_looking_through_many_files_is_compared_with_reading_them(tmp_path, monkeypatch):
    monkeypatch.setattr(scan, "_FILES", 5)
    (row,) = scan.scanning(setting(tmp_path))
    assert row["case"] == "5 files of half a second"
    assert row["ratio"]["low"] > 0


def test_a_command_is_timed_up_to_its_first_step_and_then_stopped(tmp_path, monkeypatch):
    lines = [f"""echo '{{"event": "{name}"}}'""" for name in ("Notice", "VQStepMetrics", "VQStepMetrics")]
    stops = f"trap 'touch {tmp_path}/stopped; exit 130' INT"
    command = tmp_path / "python"
    command.write_text("\n".join(["#!/bin/sh", stops, *lines, "while :; do sleep 0.02; done\n"]))
    command.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(command))
    assert 0 < long.first_step_s(tmp_path, tmp_path / "run", "cpu") < math.inf
    assert (tmp_path / "stopped").exists()


def test_a_training_on_a_long_folder_is_timed_to_its_first_step_and_to_its_end(tmp_path, monkeypatch, quick_runs):
    monkeypatch.setattr(long, "_FILES", 2)
    monkeypatch.setattr(long, "_SECONDS", 1)
    monkeypatch.setattr(long, "_SETTINGS", long._SETTINGS | {"augmentation_copies": 1})
    monkeypatch.setattr(long, "in_fresh_process", lambda function, *arguments: function(*arguments))
    monkeypatch.setattr(long, "first_step_s", lambda *_: 0.5)
    row, whole = long.long(dataclasses.replace(setting(tmp_path), repetitions=1))
    assert row["case"] == "2 files of a minute, to the first step"
    assert row["ratio"]["median"] == 4.0
    assert whole["ratio"]["median"] > 0
    assert whole["beside"]["whole run, s"] > whole["beside"]["second epoch, s"] > 0


@pytest.mark.slow
def test_a_long_folder_is_timed_up_to_the_first_step(tmp_path, monkeypatch):
    monkeypatch.setattr(long, "_FILES", 2)
    monkeypatch.setattr(long, "_SECONDS", 1)
    monkeypatch.setattr(long, "_SETTINGS", long._SETTINGS | {"augmentation_copies": 1})
    row, whole = long.long(dataclasses.replace(setting(tmp_path), repetitions=1))
    assert row["case"] == "2 files of a minute, to the first step"
    (seconds,) = row["beside"].values()
    assert row["ratio"]["median"] == pytest.approx(2 / seconds)
    assert whole["beside"]["peak, MB"] > 100


def test_parts_and_collections_are_told_apart():
    assert split_arguments(["step", "drums=sounds"]) == (["step"], ["drums=sounds"])
    assert split_arguments([]) == (list(PARTS), [])


@pytest.mark.parametrize(
    ("value", "shown"), [(0.01234, "0.0123"), (1.5, "1.5"), (12.345, "12.3"), (632_776, "632,776"), (0, "0")]
)
def test_figures_have_three_digits(value, shown):
    assert figure(value) == shown


@pytest.fixture
def measured(tmp_path, monkeypatch):
    case = "batch 32, 4 x 1,024 codes"
    monkeypatch.setitem(TARGETS, (case, "times as fast"), 2.0)
    stage = {"share": 0.5, "gflop": 0.1, "mb": 2.0, "floor_ms": 0.5, "factor": 4.0}
    ms = {"median": 2.0, "low": 1.0, "high": 3.0}
    cut = {
        "part": "stages",
        "case": case,
        "machine": {"flops": 1e11, "bandwidth": 2e10},
        "step_ms": ms,
        "stages": [stage | {"name": name, "ms": ms} for name in ("mel", "backward")],
    }
    path = tmp_path / "results" / "speed.jsonl"
    for row in (
        comparison("step", case, "times as fast", [9.0], {"ours, ms": 1.0}),  # measured again below
        comparison("step", case, "times as fast", [2.0, 1.0, 3.0], {"ours, ms": 41.23, "ours, audio s/s": 776}),
        comparison("step", case, "times the memory", [0.5], {"ours, MB": 110}),
        cut,
    ):
        rows.append(path, row | {"device": "cpu", "collection": None})
    loop = comparison("loop", "12 epochs", "times as fast", [1.5], {"ours, audio s/s": 700})
    rows.append(path, loop | {"device": "cpu", "collection": "drums"})
    return rows.read(path)


def test_the_latest_row_of_each_thing_counts(measured):
    assert [row["ratio"]["median"] for row in latest(measured) if "ratio" in row] == [2.0, 0.5, 1.5]


def test_the_report_fills_the_page_and_leaves_its_prose(measured, tmp_path):
    page = tmp_path / "speed.md"
    page.write_text("# Speed\n<!-- speed: begin -->\nold\n<!-- speed: end -->\nprose\n")
    report(page, measured)
    text = page.read_text()
    assert text.startswith("# Speed\n")
    assert text.endswith("-->\nprose\n")
    assert "old" not in text
    assert "(speed.png)" in text
    case = "batch 32, 4 x 1,024 codes"
    assert f"| {case} | 2 (1–3) times as fast | ≥ 2 | ours 41.2 ms; ours 776 audio s/s |" in text
    assert "| 12 epochs · drums | 1.5 (1.5–1.5) times as fast | – | ours 700 audio s/s |" in text
    assert "| mel | 2 (1–3) | 50% | 0.1 | 2 | 0.5 | 4 |" in text
    assert "Measured with distill" in text
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")
    report(page, measured)
    assert page.read_text() == text
