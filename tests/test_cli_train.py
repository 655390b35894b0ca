"""`distill train` as a user meets it: what it shows, what it leaves on disk, how it stops and how it goes on."""

import json
import os
import re
import shlex
import signal
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from distill.training import loop
from distill.training.picture import draw_vqvae_run
from support.commands import Said, assert_refused, run, strict, tree
from support.decoders import let_worker
from support.running import Started
from support.sounds import RATE, write_collection
from support.stops import hold
from support.waiting import until

pytestmark = pytest.mark.usefixtures("quick_runs")

FEW, THREE = (("--epochs", epochs, "--batch-size", 4) for epochs in (2, 3))
LEVELS = ("Structure", "Timbre", "Detail", "Fine")


@dataclass
class Run:
    """A run that reached its end, and what it said."""

    sounds: Path
    folder: Path
    models: Path
    said: Said

    def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = strict((self.folder / "run.json").read_text())
        return facts

    def lines(self) -> list[dict[str, Any]]:
        return [strict(line) for line in self.said.out.splitlines()]


def train(base: Path, *options: object, sounds: Path | None = None) -> Run:
    """Train on `sounds`, two short tones where none are given, with a run folder and a library in `base`."""
    sounds = sounds or write_collection(base / "kit", 2)
    folder, models = base / "run", base / "models"
    said = run("train", sounds, *(options or FEW), "--output-dir", folder, "--models-dir", models)
    assert said.code == 0, said.err
    return Run(sounds, folder, models, said)


@contextmanager
def pictured() -> Iterator[None]:
    """Runs end with their picture, as they do for a user."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "draw_vqvae_run", draw_vqvae_run)
        yield


@pytest.fixture(scope="module")
def plain(quick_runs: None, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run shown in plain lines; tests only read it."""
    base = tmp_path_factory.mktemp("plain")
    with pictured():
        return train(base, sounds=write_collection(base / "kit", 4))


@pytest.fixture(scope="module")
def in_json(quick_runs: None, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with two levels of 16 codes shown as JSON; tests only read it."""
    options = ("--rvq-levels", 2, "--codebook-size", 16, "--json")
    base = tmp_path_factory.mktemp("json")
    with pictured():
        return train(base, *FEW, *options, sounds=write_collection(base / "kit", 4))


def weights(models: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(next(models.glob("*.distill")), weights_only=True)["model_state_dict"]
    return state


# What a run shows


def test_every_epoch_is_a_line_with_a_verdict_for_each_level(plain: Run) -> None:
    lines = [line for line in plain.said.out.splitlines() if re.match(r"epoch \d+/", line)]
    assert [line.split()[1] for line in lines] == ["1/2", "2/2"]
    for line in lines:
        assert re.search(r"train \d\.\d+ validation \d\.\d+", line)
        judged = re.findall(r"L(\d) \d+% perplexity [\d.]+ dead \d+ (healthy|underused|collapsed)", line)
        assert [level for level, _ in judged] == ["0", "1", "2", "3"]


def test_an_epoch_goes_by_one_number_wherever_it_is_named(plain: Run) -> None:
    lines = dict(re.findall(r"^epoch (\d+)/2 .* validation ([\d.]+)", plain.said.out, re.MULTILINE))
    kept, loss = re.findall(r"kept epoch (\d+)[^:]*: validation loss ([\d.]+)", plain.said.out)[0]
    assert lines[kept] == loss
    assert re.findall(r"epoch (\d+): previews", plain.said.out) == ["2"]
    assert re.findall(r"kept_epoch +(\d+)", run("models", "show", plain.models / "kit.distill").out) == [kept]


def test_settings_are_marked_as_chosen_or_automatic(plain: Run) -> None:
    settings = next(line for line in plain.said.out.splitlines() if line.startswith("settings: "))
    for chosen in ("epochs 2 (override)", "batch size 4 (override)", "codebook size 128 (auto)", "levels 4 (auto)"):
        assert chosen in settings


def test_the_summary_says_how_each_level_does_and_over_how_much(plain: Run) -> None:
    summary = plain.said.out.split("\n\n")[-1]
    for level, name in enumerate(LEVELS):
        row = next(line for line in summary.splitlines() if line.startswith(f" {level} {name} "))
        assert re.search(r"\d+% +[█░]{12} +[\d.]+ of 128 +\d+ +(healthy|underused|collapsed)", row)
    assert f"counted over {plain.facts()['validation_vectors']} vectors of the validation files" in summary
    assert "kit: 2 epochs in" in summary
    model, sounds = plain.models / "kit.distill", plain.sounds
    assert f"make new sounds: distill generate {model} -n 8 -o new/" in summary
    assert f"hear a sound of yours through it: distill reconstruct {model} {sounds}/tone_" in summary
    assert "note: this model is young" in summary  # after two epochs


@pytest.mark.parametrize("label", ["model", "previews", "picture", "run folder"])
def test_the_summary_names_what_is_there(plain: Run, label: str) -> None:
    (path,) = re.findall(rf"^{label}: +(.*)$", plain.said.out.split("\n\n")[-1], re.MULTILINE)
    assert Path(path).exists()


def test_json_is_strict_lines_that_end_in_a_summary(in_json: Run) -> None:
    lines = in_json.lines()
    kinds = [line["event"] for line in lines]
    assert kinds.count("VQEpochMetrics") == 2
    assert kinds.count("TrainingCompleteEvent") == kinds.count("Summary") == 1
    summary = lines[-1]
    assert summary["event"] == "Summary"
    assert all(Path(summary[name]).exists() for name in ("model_path", "run_folder", "picture", "previews"))
    assert summary["codebook_health"].keys() == {"level_0", "level_1"}
    assert summary["settings"]["codebook_size"] == 16
    assert summary["overridden"] == ["batch_size", "codebook_size", "max_epochs", "num_quantizers"]
    assert summary["epochs"] == 2


def test_the_event_log_holds_what_json_printed(in_json: Run) -> None:
    own = ("Notice", "Summary")  # the view's, not the training's
    printed = [line for line in in_json.lines() if line["event"] not in own]
    logged, of_prior = (
        [strict(line) for line in (folder / "events.jsonl").read_text().splitlines()]
        for folder in (in_json.folder, in_json.folder / "prior")
    )
    # The prior is trained before the run is complete, and the end of its own run is not told.
    assert printed == [*logged[:-1], *of_prior[:-1], logged[-1]]
    assert sum(line["event"] == "VQStepMetrics" for line in logged) == 2 * 3 * 8 / 4  # epochs, files, copies, batch


# What a run leaves on disk


def test_the_run_folder_has_everything_of_the_run(plain: Run) -> None:
    names = {path.name for path in plain.folder.iterdir()}
    assert names == {".lock", "run.json", "events.jsonl", "usage.jsonl", "checkpoints", "previews", "run.png", "prior"}
    facts = plain.facts()
    assert facts["total_epochs"] == 2
    assert facts["model_path"] == str(plain.models / "kit.distill")
    assert [Path(path).name for path in facts["files"]] == [f"tone_0{n}.wav" for n in range(4)]
    assert (facts["train_files"], facts["validation_files"]) == (3, 1)
    assert facts["duration_s"] == pytest.approx(1.4)
    assert list((plain.folder / "checkpoints").glob("checkpoint_*.pt"))


def test_previews_are_pairs_of_equally_long_sounds(plain: Run) -> None:
    originals = sorted((plain.folder / "previews").glob("*_original.wav"))
    assert len(originals) == 1
    for original in originals:
        pair = original, original.with_name(original.name.replace("original", "reconstruction"))
        assert len({(soundfile.info(path).frames, soundfile.info(path).samplerate) for path in pair}) == 1
        assert all(np.abs(soundfile.read(path)[0]).max() > 0 for path in pair)
        assert 0.1 < soundfile.info(original).duration <= 0.5  # as long as the tone, without the chunk's padding


def test_the_picture_is_a_png(plain: Run) -> None:
    content = (plain.folder / "run.png").read_bytes()
    width, height = struct.unpack(">II", content[16:24])
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert width > 800
    assert height > 600
    assert content.endswith(b"IEND\xaeB`\x82")


def test_by_default_everything_goes_to_the_users_home(tmp_path: Path, home: Path) -> None:
    said = run("train", write_collection(tmp_path / "My Kit", 2), "--epochs", 1)
    assert said.code == 0, said.err
    assert (home / "models" / "My Kit.distill").is_file()
    (folder,) = (home / "runs").iterdir()
    assert re.fullmatch(r"My Kit-\d{8}-\d{6}", folder.name)
    assert run("reconstruct", "My Kit", tmp_path / "My Kit", "-o", tmp_path / "made").code == 0


def test_four_levels_have_four_names(tmp_path: Path) -> None:
    made = train(tmp_path, "--epochs", 1, "--batch-size", 4, "--rvq-levels", 4, "--model-name", "Four")
    assert all(name in made.said.out for name in LEVELS)
    assert "levels 4 (override)" in made.said.out
    show = strict(run("models", "show", "Four", "--models-dir", made.models, "--json").out)
    assert show["settings"]["num_quantizers"] == len(show["health"]) == 4


def test_the_minutes_and_the_number_of_epochs_that_fit_them_are_recorded(tmp_path: Path) -> None:
    made = train(tmp_path, "--minutes", 0.02, "--batch-size", 4, "--json")
    (end,) = [line for line in made.lines() if line["event"] == "TrainingCompleteEvent"]
    assert made.facts()["total_epochs"] == end["total_epochs"] == made.lines()[-1]["epochs"]
    assert made.facts()["config"]["minutes"] == 0.02


def test_the_same_seed_gives_the_same_model(tmp_path: Path, plain: Run) -> None:
    same = weights(train(tmp_path / "same", *FEW, "--seed", 0, sounds=plain.sounds).models)
    first = weights(plain.models)
    assert all(torch.equal(first[name], same[name]) for name in first)


def test_files_left_out_are_named_with_the_reason(tmp_path: Path) -> None:
    sounds = write_collection(tmp_path / "kit", 2)
    (sounds / "text.wav").write_text("no sound")
    soundfile.write(sounds / "mute.wav", np.zeros(4800), RATE)
    said = run("train", sounds, "--epochs", 1)
    assert said.code == 0
    assert f"left out: {sounds / 'text.wav'}: not readable as audio" in said.err
    assert f"left out: {sounds / 'mute.wav'}: silent" in said.err


def test_a_name_with_brackets_is_shown_as_it_is(tmp_path: Path) -> None:
    name = "kit [dry] [/] b"
    made = train(tmp_path, "--epochs", 1, "--model-name", name)
    assert f"\n{name}: 1 epoch" in made.said.out


# The rate


def rate_of(made: Run) -> tuple[int, int]:
    """The rate that the run's record names, and that of a reconstruction by its model."""
    (model,), (sound, *_) = made.models.glob("*.distill"), sorted(made.sounds.iterdir())
    assert run("reconstruct", model, sound, "-o", made.folder / "made").code == 0
    played = soundfile.info(made.folder / "made" / sound.name)
    assert played.duration == pytest.approx(soundfile.info(sound).duration, abs=1e-3)
    return made.facts()["spectrogram_config"]["sample_rate"], played.samplerate


def test_sounds_of_one_rate_give_a_model_of_that_rate_and_it_is_said(tmp_path: Path) -> None:
    made = train(tmp_path, *FEW, sounds=write_collection(tmp_path / "kit", 2, rate=44_100))
    assert made.said.out.count("trained in mono, at 44,100 Hz, the rate of all sounds\n") == 1
    assert rate_of(made) == (44_100, 44_100)


def test_sounds_of_several_rates_give_a_model_of_the_usual_rate(tmp_path: Path) -> None:
    sounds = write_collection(tmp_path / "kit", 2)
    soundfile.write(sounds / "other.wav", np.sin(np.arange(8000) / 9), 44_100)
    made = train(tmp_path, "--epochs", 1, sounds=sounds)
    assert made.said.out.count("trained in mono, at 48,000 Hz\n") == 1
    assert rate_of(made) == (RATE, RATE)


def test_a_rate_that_was_asked_for_is_kept_when_the_run_goes_on(tmp_path: Path, start: Any) -> None:
    sounds, folder, models = write_collection(tmp_path / "kit", 2), tmp_path / "run", tmp_path / "models"
    places = ("--output-dir", folder, "--models-dir", models)
    running = start("train", sounds, *THREE, "--rate", 22_050, *places, before=IN_EPOCH_2)
    running.wait_for("trained in mono, at 22,050 Hz\n")
    running.wait_for("epoch 1/")
    running.kill(signal.SIGINT)
    running.end()
    resumed = run("train", "--resume", folder, "--json")
    assert resumed.code == 0, resumed.err
    lines = [strict(line) for line in resumed.out.splitlines()]
    assert {"event": "Notice", "message": "trained in mono, at 22,050 Hz"} in lines
    assert lines[-1]["sample_rate"] == 22_050
    assert rate_of(Run(sounds, folder, models, resumed)) == (22_050, 22_050)


# Places at which a run waits until it is asked to stop.
IN_KMEANS = partial(hold, "distill.models.quantizer.kmeans", 0)
IN_EPOCH_2 = partial(hold, "distill.training.run_folder.RunFolder.append_usage", 1)

# Stopping, and going on


def test_ctrl_c_saves_a_checkpoint_and_resume_finishes_the_run(start: Any, tmp_path: Path) -> None:
    sounds, folder, models = write_collection(tmp_path / "kit", 2), tmp_path / "run", tmp_path / "models"
    options = (*THREE, "--output-dir", folder, "--models-dir", models)
    running = start("train", sounds, *options, before=IN_EPOCH_2)
    running.wait_for("epoch 1/")
    running.kill(signal.SIGINT)
    said = running.end()
    assert said.code == 130
    assert f"distill train --resume {folder}" in said.err
    assert list((folder / "checkpoints").glob("*.pt"))
    assert not models.exists()

    resumed = run("train", "--resume", folder)
    assert resumed.code == 0, resumed.err
    assert (models / "kit.distill").is_file()
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    steps = [(event["epoch"], event["step"]) for event in events if event["event"] == "VQStepMetrics"]
    assert steps == [(epoch, step) for epoch in range(3) for step in range(2)]


def test_the_line_that_says_how_to_resume_can_be_pasted(start: Any, tmp_path: Path) -> None:
    sounds, folder = write_collection(tmp_path / "kit", 2), tmp_path / "my [best] run"
    running = start("train", sounds, *THREE, "--output-dir", folder, before=IN_EPOCH_2)
    running.wait_for("epoch 1/")
    running.kill(signal.SIGINT)
    line = next(line for line in running.end().err.splitlines() if "--resume" in line)
    assert shlex.split(line) == ["distill", "train", "--resume", str(folder)]


def test_a_run_stopped_before_its_first_step_goes_on_with_the_settings_and_their_marks(
    start: Any, tmp_path: Path
) -> None:
    sounds, folder = write_collection(tmp_path / "kit", 2), tmp_path / "run"
    running = start("train", sounds, *FEW, "--output-dir", folder, before=IN_KMEANS)
    until((folder / "run.json").exists)
    running.kill(signal.SIGINT)
    assert running.end().code == 130
    resumed = run("train", "--resume", folder)
    assert resumed.code == 0, resumed.err
    assert "epochs 2 (override), learning rate 0.001 (auto), batch size 4 (override)" in resumed.out


def test_ctrl_c_while_the_folder_is_looked_through_is_one_line(start: Any, tmp_path: Path) -> None:
    sounds, folder = write_collection(tmp_path / "kit", 2), tmp_path / "run"
    running = start("train", sounds, "--output-dir", folder, before=partial(let_worker, "time.sleep(600)"))
    until(lambda: has_child(running))
    running.kill(signal.SIGINT)
    said = running.end()
    assert (said.code, said.out, said.err) == (130, "", "stopped\n")
    assert not folder.exists()


def has_child(running: Started) -> bool:
    """Whether sounds are being read: that is done by a process of its own."""
    tasks = Path(f"/proc/{running.process.pid}/task")
    return any((task / "children").read_text() for task in tasks.iterdir())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=["SIGTERM", "SIGHUP"])
def test_a_shutdown_or_a_closed_terminal_saves_a_checkpoint_too_and_json_says_so(
    start: Any, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    sounds, folder = write_collection(tmp_path / "kit", 2), tmp_path / "run"
    running = start("train", sounds, *THREE, "--output-dir", folder, "--json", before=IN_EPOCH_2)
    running.wait_for("VQEpochMetrics")
    running.kill(number)
    said = running.end()
    assert said.code == code
    lines = [strict(line) for line in said.out.splitlines()]
    assert lines[-1] == {"event": "Interrupted", "resume": str(folder)}
    assert list((folder / "checkpoints").glob("*.pt"))


def test_a_second_ctrl_c_ends_even_a_run_that_hangs(start: Any, tmp_path: Path) -> None:
    sounds, folder = write_collection(tmp_path / "kit", 2), tmp_path / "run"
    hangs = partial(hold, "distill.models.quantizer.kmeans", 0, tmp_path / "never")
    running = start("train", sounds, "--output-dir", folder, before=hangs)
    until((tmp_path / "never.awaited").exists)
    running.kill(signal.SIGINT)
    running.wait_for("once more to leave at once")
    running.kill(signal.SIGINT)
    said = running.end()
    assert said.code == 130
    assert "a checkpoint is saved" not in said.err
    assert [path.name for path in folder.glob("checkpoints/*.pt")] == ["checkpoint_00000_00000_none.pt"]


def test_resuming_a_finished_run_adds_no_second_model(tmp_path: Path) -> None:
    made = train(tmp_path, "--epochs", 1)
    run("train", "--resume", made.folder)
    assert [path.name for path in made.models.glob("*.distill")] == ["kit.distill"]


# On a terminal


@pytest.mark.parametrize("columns", [40, 200])
def test_the_live_view_shows_the_levels_at_any_width(start: Any, tmp_path: Path, columns: int) -> None:
    sounds = write_collection(tmp_path / "kit", 2)
    said = start("train", sounds, *FEW, "--output-dir", tmp_path / "run", columns=columns).end()
    assert said.code == 0, said.out
    assert "Traceback" not in said.out
    assert all(re.search(rf"{number} {name[:3]}", said.out) for number, name in enumerate(LEVELS))
    assert re.search(r"epoch [12]/2", said.out)
    assert "model:" in said.out


def test_what_is_wider_than_the_terminal_goes_on_in_the_next_line(start: Any, tmp_path: Path) -> None:
    sounds, folder = write_collection(tmp_path / "kit", 2), tmp_path / "run"
    said = start("train", sounds, *FEW, "--output-dir", folder, columns=40).end()
    screen = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\s", "", said.out)
    assert f"previewsin{folder}/prior/previews" in screen  # which the summary does not name


def test_ctrl_c_typed_into_the_terminal_stops_the_run(start: Any, tmp_path: Path) -> None:
    sounds, folder = write_collection(tmp_path / "kit", 2), tmp_path / "run"
    running = start("train", sounds, *THREE, "--output-dir", folder, columns=100, before=IN_EPOCH_2)
    running.wait_for("Structure")
    running.type(b"\x03")
    said = running.end()
    assert said.code == 130
    assert "distill train --resume" in said.out
    assert said.out.rfind("\x1b[?25h") > said.out.rfind("\x1b[?25l"), "the cursor must come back"


def test_a_level_is_judged_alike_live_and_in_the_summary(start: Any, tmp_path: Path) -> None:
    sounds = write_collection(tmp_path / "kit", 4)
    # So few vectors cannot fill 128 codes: a level may be healthy although less than 30 % of them are in use.
    options = ("--epochs", 1, "--codebook-size", 128, "--output-dir", tmp_path / "run")
    said = start("train", sounds, *options, columns=120).end()
    screen = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said.out)
    judged = re.findall(r"(\d \w+) +(\d+%) .* (healthy|underused|collapsed)", screen)
    assert len(judged) > 3
    assert len(set(judged)) == 4


# Wrong input: (arguments, exit code, what the sentence must name); {w} is the world, {t} a folder of the test's own


@pytest.fixture(scope="module")
def world(plain: Run) -> Path:
    """Sounds of all kinds and one finished run; tests only read it."""
    world = plain.folder.parent
    for name in ("empty", "norun", "silent", "unreadable"):
        (world / name).mkdir()
    write_collection(world / "one", 1)
    for frames in (4800, 4801, 4802):
        soundfile.write(world / "silent" / f"{frames}.wav", np.zeros(frames), RATE)
    (world / "unreadable" / "text.wav").write_text("this is no sound")
    (world / "unreadable" / "nothing.wav").touch()
    (world / "notes.txt").write_text("this is no folder")
    return world


WRONG = {
    "a missing folder": ("{w}/nowhere", 1, "nowhere: no such folder"),
    "an empty folder": ("{w}/empty", 1, "empty: no audio files in it"),
    "a file as the folder": ("{w}/notes.txt", 1, "notes.txt is a file"),
    "no readable file": ("{w}/unreadable", 1, "none of its 2 audio files could be read"),
    "one file only": ("{w}/one", 1, "only one usable sound (tone_00.wav)"),
    "all silent": ("{w}/silent", 1, "none of its 3 readable files can be used; the first: 4800.wav: silent"),
    "epochs 0": ("{w}/kit --epochs 0", 2, "--epochs"),
    "epochs below 0": ("{w}/kit --epochs -1", 2, "--epochs"),
    "epochs in letters": ("{w}/kit --epochs abc", 2, "--epochs"),
    "minutes 0": ("{w}/kit --minutes 0", 2, "--minutes"),
    "minutes without end": ("{w}/kit --minutes inf", 2, "minutes"),
    "minutes and epochs": ("{w}/kit --minutes 1 --epochs 1", 2, "--epochs or --minutes, not both"),
    "neither folder nor resume": ("", 2, "FOLDER"),
    "folder and resume": ("{w}/kit --resume {w}/run", 2, "not both"),
    "resume with other settings": ("--resume {w}/run --epochs 9", 2, "settings the run began with"),
    "resume under another name": ("--resume {w}/run --model-name other", 2, "settings the run began with"),
    "resume of no run": ("--resume {w}/norun", 1, "norun: not a run folder"),
    "resume of nothing": ("--resume {w}/nowhere", 1, "nowhere"),
    "learning rate nan": ("{w}/kit --learning-rate nan", 2, "--learning-rate"),
    "learning rate without end": ("{w}/kit --learning-rate inf", 2, "learning"),
    "learning rate 5": ("{w}/kit --learning-rate 5", 2, "learning"),
    "seed below 0": ("{w}/kit --seed -1", 2, "--seed"),
    "a device there is not": ("{w}/kit --device tpu", 2, "--device"),
    "one level": ("{w}/kit --rvq-levels 1", 2, "--rvq-levels"),
    "five levels": ("{w}/kit --rvq-levels 5", 2, "--rvq-levels"),
    "one code": ("{w}/kit --codebook-size 1", 2, "--codebook-size"),
    "batches of nothing": ("{w}/kit --batch-size 0", 2, "--batch-size"),
    "a run folder with a run in it": ("{w}/kit --output-dir {w}/run", 1, "holds a run already"),
    "a run folder below a file": ("{w}/kit --output-dir {w}/notes.txt/run", 1, "notes.txt/run"),
    "a library that is a file": ("{w}/kit --epochs 1 --output-dir {t}/run --models-dir {w}/notes.txt", 1, "notes.txt"),
    "too long a name": (f"{{w}}/kit --epochs 1 --output-dir {{t}}/run --model-name {'x' * 201}", 1, "name"),
}


@pytest.mark.parametrize(("options", "code", "names"), WRONG.values(), ids=WRONG)
def test_wrong_input_is_refused_in_one_sentence_before_anything_is_made(
    world: Path, tmp_path: Path, options: str, code: int, names: str
) -> None:
    before = tree(world, tmp_path)
    said = run("train", *(word.format(w=world, t=tmp_path) for word in options.split()))
    assert_refused(said, code, names)
    assert "epoch 1/" not in said.out
    assert tree(world, tmp_path) == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_where_there_is_none_is_refused_with_what_there_is(world: Path, tmp_path: Path) -> None:
    said = run("train", world / "kit", "--device", "cuda", "--output-dir", tmp_path / "run")
    assert_refused(said, 1, "cuda is not available on this machine; available: auto, cpu")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("option", ["--learning-rate 5", "--batch-size 5000", "--seed 99999999999"])
def test_a_refused_value_is_named_by_its_option(world: Path, option: str) -> None:
    said = run("train", world / "kit", *option.split())
    assert said.code in (1, 2)
    assert option.split()[0] in said.err


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write everywhere")
def test_a_run_folder_that_may_not_be_written_is_named(world: Path, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    said = run("train", world / "kit", "--output-dir", tmp_path / "locked" / "run")
    assert_refused(said, 1, "locked/run")


def test_a_reader_that_goes_away_is_told_of_in_one_line(start: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "out_0.txt")
    with subprocess.Popen(["head", "-1", tmp_path / "out_0.txt"], stdout=subprocess.PIPE, text=True) as head:
        waits = partial(hold, "distill.models.quantizer.kmeans", 0, tmp_path / "gone")
        running = start("train", write_collection(tmp_path / "kit", 2), *FEW, before=waits)
        assert head.communicate()[0] == "training kit on 2 files\n"
    (tmp_path / "gone").touch()
    running.out = str
    said = running.end()
    assert said.code == 1
    assert said.err == "error: the program reading the output has gone away\n"
