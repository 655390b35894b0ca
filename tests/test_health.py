"""Codebook health in words, the time budget in epochs, and the log of a run that was cut short."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from distill.cli.tables import level_table
from distill.errors import CheckpointError, StorageError
from distill.models.quantizer import ResidualQuantizer
from distill.training.budget import epochs_within
from distill.training.health import low_levels, verdict
from distill.training.metrics import EpochMetrics, PreviewEvent, StepMetrics, TrainingCompleteEvent, VQStepMetrics
from distill.training.run_folder import RunFolder
from support.runs import run_info


def health_of(*codes_by_level: list[int], size: int) -> dict[str, dict[str, float]]:
    """The quantizer's own figures for the codes each level gave to the same vectors."""
    quantizer = ResidualQuantizer(dim=2, size=size, levels=len(codes_by_level))
    return quantizer.get_codebook_utilization(torch.tensor(codes_by_level).T[None])


def level(utilization: float, perplexity: float = 20.0) -> dict[str, float]:
    return {"utilization": utilization, "perplexity": perplexity, "dead_codes": 0}


def test_a_warning_says_level_share_and_threshold_word_for_word():
    health = {"level_0": level(0.5), "level_1": level(0.2949), "level_2": level(0.0625)}
    assert list(map(str, low_levels(health, codebook_size=64, vectors=1000))) == [
        "Level 1: utilization 29% (below 30% threshold)",
        "Level 2: utilization 6% (below 30% threshold)",
    ]


def test_thirty_percent_is_not_below_thirty_percent():
    assert low_levels({"level_0": level(0.30)}, 100, 1000) == []
    assert len(low_levels({"level_0": level(0.2999)}, 100, 1000)) == 1


@given(st.integers(2, 512), st.data())
def test_a_small_set_alone_is_no_cause_for_a_warning(size, data):
    vectors = data.draw(st.integers(1, size))
    health = health_of(list(range(vectors)), list(reversed(range(vectors))), size=size)
    assert low_levels(health, size, vectors) == []
    assert verdict(health["level_0"], size, vectors) == "healthy"


@given(st.integers(6, 512), st.integers(6, 2000))
def test_a_collapse_is_told_whatever_the_size_of_the_set(size, vectors):
    health = health_of([0] * vectors, [1] * vectors, size=size)
    assert len(low_levels(health, size, vectors)) == 2
    assert verdict(health["level_0"], size, vectors) == "collapsed"


def test_nothing_counted_is_no_cause_for_a_warning():
    assert low_levels({"level_0": level(0.0, 1.0)}, 64, 0) == []


@pytest.mark.parametrize("of", [level(0.0, 1.0), level(0.1, 20.0), level(0.9, 60.0)])
def test_an_unknown_number_of_vectors_is_taken_to_have_been_sufficient_wherever_a_level_is_judged(of):
    assert verdict(of, 64, 0) == verdict(of, 64, 64)
    console = Console(width=120)
    with console.capture() as captured:
        console.print(level_table({"level_0": of}, 64, 0))
    assert verdict(of, 64, 0) in captured.get()


def test_a_level_with_some_codes_in_use_is_underused_and_not_collapsed():
    health = health_of(list(range(10)) * 100, size=64)
    assert verdict(health["level_0"], 64, 1000) == "underused"
    assert verdict(health_of(list(range(64)) * 10, size=64)["level_0"], 64, 640) == "healthy"


def test_one_code_for_nearly_all_is_a_collapse_though_every_code_is_used_once():
    codes = [0] * 10_000 + list(range(64))
    assert verdict(health_of(codes, size=64)["level_0"], 64, len(codes)) == "collapsed"


def epoch_ends(budget: float, first: float, later: float) -> tuple[list[float], int]:
    """When the epochs of a budgeted run end, and after how many their number was settled."""
    ends, total, settled_after = [], 1, 0
    while len(ends) < total:
        ends.append(first + later * len(ends))
        if not settled_after:
            total, settled = epochs_within(budget, ends)
            settled_after = settled * len(ends)
    return ends, settled_after


shares = st.floats(0.0005, 0.45)  # of the budget, for the first epoch
speedups = st.floats(1, 5)  # of the epochs after it


@given(shares, speedups)
def test_a_budgeted_run_ends_within_its_budget_and_leaves_less_than_an_epoch_of_it(share, speedup):
    ends, _ = epoch_ends(600.0, 600 * share, 600 * share / speedup)
    assert ends[-1] <= 600
    assert ends[-1] + 600 * share / speedup > 600 * 0.97


@given(shares, speedups)
def test_the_number_of_epochs_is_settled_once_a_tenth_of_the_budget_is_measured(share, speedup):
    ends, settled_after = epoch_ends(600.0, 600 * share, 600 * share / speedup)
    assert 1 <= settled_after <= len(ends)
    assert settled_after <= 3 or ends[settled_after - 2] < 60


@given(st.floats(0.001, 1e6), st.lists(st.floats(0, 1e5), min_size=1, max_size=30))
def test_there_is_never_less_to_do_than_is_done_and_something_to_do_until_it_is_settled(budget, times):
    ends = [sum(times[: n + 1]) for n in range(len(times))]
    total, settled = epochs_within(budget, ends)
    assert total >= len(ends)
    assert settled or total > len(ends)


def test_a_first_epoch_longer_than_the_budget_is_the_last():
    assert epochs_within(60.0, [61.0]) == (1, True)


EVENTS = [
    VQStepMetrics(0, 0, 2, *[0.5] * 6),
    VQStepMetrics(0, 1, 2, 0.5, float("nan"), *[0.5] * 4, {"level_0": level(1.0)}),
    EpochMetrics(0, 2, *[0.25] * 9),
    PreviewEvent(0, "previews/Größe.wav", 48_000),
    StepMetrics(1, 0, 2, *[0.5] * 6),
    StepMetrics(1, 1, 2, *[0.5] * 6),
    EpochMetrics(1, 2, *[0.125] * 9),
    TrainingCompleteEvent(2, *[1.0] * 4, 1),
]


@pytest.fixture
def run(tmp_path) -> RunFolder:
    """A run folder with all of `EVENTS` in its log."""
    folder = RunFolder(tmp_path)
    for event in EVENTS:
        folder.append(event)
    return folder


def test_the_log_gives_back_the_events_that_were_appended(run):
    assert repr(run.events()) == repr(EVENTS)


def test_the_log_is_one_strict_json_object_per_line(run):
    lines = run.events_path.read_text().splitlines()
    assert [json.loads(line, parse_constant=pytest.fail)["event"] for line in lines] == [
        type(event).__name__ for event in EVENTS
    ]


@given(share=st.floats(0, 1))
def test_a_log_cut_anywhere_gives_back_every_event_before_the_cut(tmp_path_factory, share):
    folder = RunFolder(tmp_path_factory.mktemp("run"))
    for event in EVENTS:
        folder.append(event)
    whole = folder.events_path.read_bytes()
    cut = whole[: round(share * len(whole))]
    folder.events_path.write_bytes(cut)
    found = folder.events()
    assert repr(found) == repr(EVENTS[: len(found)])
    assert len(found) >= cut.count(b"\n")


@pytest.mark.parametrize("tail", [b"\0" * 300, b"\xff\xfe\xfd", b"5\n", b"[]\n", b"{}\n"], ids=repr)
def test_a_damaged_end_of_the_log_does_not_hide_its_beginning(run, tail):
    with run.events_path.open("ab") as file:
        file.write(tail)
    assert repr(run.events()) == repr(EVENTS)


@pytest.mark.parametrize(("epoch", "step", "kept"), [(0, 0, 0), (0, 1, 1), (1, 0, 4), (1, 1, 5), (2, 0, 7)])
def test_a_rewound_log_ends_where_the_resumed_run_begins(run, epoch, step, kept):
    run.rewind(epoch, step)
    assert repr(run.events()) == repr(EVENTS[:kept])


def test_events_after_a_cut_and_a_rewind_are_not_lost(run):
    whole = run.events_path.read_bytes()
    run.events_path.write_bytes(whole[:-9])
    run.rewind(2, 0)
    run.append(EVENTS[-1])
    assert repr(run.events()) == repr(EVENTS)


def test_a_new_run_has_no_events(tmp_path):
    assert RunFolder(tmp_path / "new").events() == []


def test_a_log_that_cannot_be_written_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match=r"events\.jsonl"):
        RunFolder(tmp_path / "missing").append(EVENTS[0])


def test_the_record_of_a_run_comes_back_with_what_another_version_wrote_there(tmp_path):
    info = run_info(files=["Größe.wav"], config={"minutes": None}, others={"of_later": [1, 2]})
    RunFolder(tmp_path).write_info(info)
    assert RunFolder(tmp_path).read_info() == info


@pytest.mark.parametrize(
    "damage",
    [{"files": "one.wav"}, {"config": [1]}, {"family": None}, {"duration_s": "long"}, {"total_epochs": 2.5}],
    ids=str,
)
def test_a_record_of_the_wrong_form_is_refused_in_a_sentence(tmp_path, damage):
    content = run_info().to_dict() | damage
    (tmp_path / "run.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=next(iter(damage))):
        RunFolder(tmp_path).read_info()


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b"{}", b"\xff", b'{"format": "other"}'])
def test_a_folder_without_the_record_of_a_run_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        RunFolder(tmp_path).read_info()
