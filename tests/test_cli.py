"""The command line as a user meets it: help, `inspect`, `reconstruct`, `models`, and what it says to wrong input."""

import gc
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import soundfile

import distill
from support.commands import Said, assert_refused, run, strict, tree
from support.sounds import RATE, tone, write_collection

pytestmark = pytest.mark.usefixtures("quick_runs")


@pytest.fixture(scope="module")
def world(quick_runs: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with sounds of all kinds and one trained model in `models`; tests only read it."""
    world = tmp_path_factory.mktemp("world")
    sounds = write_collection(world / "kit", 4)
    places = ("--models-dir", world / "models", "--output-dir", world / "run")
    said = run("train", sounds, "--epochs", 1, "--batch-size", 4, "--rvq-levels", 3, "--codebook-size", 512, *places)
    assert said.code == 0, said.err
    (world / "summary.txt").write_text(said.out)
    for name in ("empty", "silent", "unreadable"):
        (world / name).mkdir()
    for frames in (4800, 4801):
        soundfile.write(world / "silent" / f"{frames}.wav", np.zeros(frames), RATE)
    (world / "unreadable" / "text.wav").write_text("this is no sound")
    (world / "notes.txt").write_text("this is no folder")
    whole = (world / "models" / "kit.distill").read_bytes()
    (world / "damaged.distill").write_bytes(whole[: len(whole) // 2])
    return world


@pytest.fixture
def models(world: Path, tmp_path: Path) -> Path:
    """A library of one's own with the trained model in it."""
    return Path(shutil.copytree(world / "models", tmp_path / "models"))


# Help and version


def test_help_lists_the_commands_without_torch() -> None:
    code = (
        "import sys; sys.argv = ['distill', '--help']\n"
        "from distill.cli.app import main\n"
        "try: main()\n"
        "except SystemExit as end: print('left with', end.code)\n"
        "print('heavy', [name for name in ('torch', 'matplotlib', 'numpy') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert all(f"\n  {command} " in said for command in ("inspect", "train", "reconstruct", "models"))
    assert "left with 0" in said
    assert "heavy []" in said


@pytest.mark.parametrize(
    ("command", "options"),
    [
        (["inspect"], ["--json"]),
        (["train"], ["--epochs", "--minutes", "--rvq-levels", "--codebook-size", "--resume", "--seed", "--json"]),
        (["reconstruct"], ["--output-dir", "--levels", "--overwrite", "--models-dir"]),
        (
            ["generate"],
            ["--peak", "--rate", "--bits", "--stereo", "--no-trim", "--no-fade", "--pack", "--zip"],
        ),
        (["decode"], ["--peak", "--loop", "--json", "--overwrite", "--models-dir"]),
        (["models", "list"], ["--search", "--sort", "--json"]),
        (["models", "delete"], ["--yes"]),
    ],
    ids=" ".join,
)
def test_each_command_explains_its_options(command: list[str], options: list[str]) -> None:
    said = run(*command, "--help")
    assert said == run(*command, "-h")
    assert said.code == 0
    assert all(option in said.out for option in options)


@pytest.mark.parametrize("command", ["", "models"])
def test_a_list_of_commands_has_their_whole_summaries(command: str) -> None:
    listed = " ".join(run(*command.split(), "--help").out.partition("Commands:")[2].split())
    assert "..." not in listed
    assert listed.endswith(".")


@pytest.mark.parametrize("command", ["inspect", "train", "reconstruct", "generate", "import", "models list"])
def test_kinds_of_values_are_not_called_by_types_of_python(command: str) -> None:
    assert not re.search(r"<[a-z ]*>|list\[|Path", run(*command.split(), "--help").out)


def test_version_is_the_packages() -> None:
    assert run("--version") == run("-V") == Said(0, f"distill {distill.__version__}\n", "")


@pytest.mark.parametrize(("options", "end"), [((), ""), (("--bell",), "\a")])
def test_the_bell_rings_at_the_end_on_a_terminal_and_when_it_is_asked_for(tmp_path, options, end) -> None:
    command = [sys.executable, "-m", "distill", "generate", "none", "--models-dir", tmp_path, "-o", tmp_path, *options]
    said = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"FORCE_COLOR": "1"})
    assert (said.returncode, said.stdout) == (1, "")
    assert ("\a" in said.stderr) == bool(end)


def test_a_shell_completes_commands() -> None:
    env = os.environ | {"_DISTILL_COMPLETE": "complete_bash", "COMP_WORDS": "distill ge", "COMP_CWORD": "1"}
    said = subprocess.run([sys.executable, "-m", "distill"], capture_output=True, text=True, env=env)
    assert (said.returncode, said.stdout.split(), said.stderr) == (0, ["generate"], "")


@pytest.mark.parametrize("command", ["", "models"])
def test_without_a_command_the_help_is_shown(command: str) -> None:
    said = run(*command.split())
    assert (said.code, said.err) == (0, "")
    assert "Commands:" in said.out


# inspect


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Three good sounds and one of every kind of oddity."""
    folder = write_collection(tmp_path / "mixed", 3)
    (folder / "deep").mkdir()
    soundfile.write(folder / "deep" / "stereo.flac", np.stack([tone(220, 0.3, rate=44_100)] * 2, axis=1), 44_100)
    shutil.copy(folder / "tone_00.wav", folder / "tone_00 copy.wav")
    soundfile.write(folder / "mute.wav", np.zeros(9600), RATE)
    soundfile.write(folder / "tick.wav", tone(440, 0.02), RATE)
    soundfile.write(folder / "loud.wav", np.sign(tone(440, 0.2)), RATE, subtype="PCM_24")
    (folder / "text.wav").write_text("this is no sound")
    (folder / "nothing.wav").touch()
    (folder / ".hidden.wav").write_text("not to be looked at")
    return folder


def test_inspect_shows_each_file_with_its_oddities(mixed: Path) -> None:
    said = run("inspect", mixed)
    rows = {line.split()[0]: line for line in said.out.splitlines() if line.strip()}
    assert said.code == 0
    assert all(words in rows["deep/stereo.flac"] for words in ("0.30 s", "44100 Hz", " 2 ", "FLAC"))
    assert "silent" in rows["mute.wav"]
    assert "very short" in rows["tick.wav"]
    assert "clipped" in rows["loud.wav"]
    assert "duplicate of" in said.out
    assert "not readable: text.wav: not readable as audio" in said.out
    assert "not readable: nothing.wav: the file is empty" in said.out
    assert "8 files" in said.out
    assert "6 usable" in said.out
    assert "2 not readable" in said.out
    assert "hidden" not in said.out


def test_inspect_in_json_is_one_strict_object(mixed: Path) -> None:
    said = run("inspect", mixed, "--json")
    assert said.out.count("\n") == 1
    found = strict(said.out)
    files = {Path(file["path"]).name: file for file in found["files"]}
    assert files["mute.wav"]["level"] == "silent"
    assert files["tick.wav"]["short"]
    assert files["loud.wav"]["clipped"]
    copies = [files["tone_00.wav"], files["tone_00 copy.wav"]]
    assert sorted(file["usable"] for file in copies) == [False, True]
    assert files["stereo.flac"] | {"sample_rate": 44_100, "channels": 2, "format": "FLAC"} == files["stereo.flac"]
    assert files["stereo.flac"]["duration_s"] == pytest.approx(0.3)
    reasons = {Path(file["path"]).name: file["reason"] for file in found["unreadable"]}
    assert reasons.keys() == {"text.wav", "nothing.wav"}
    assert all(reasons.values())
    assert found["usable_files"] == 6


def test_inspect_in_json_says_the_notes_that_the_table_says(mixed: Path) -> None:
    files = {Path(file["path"]).name: file for file in strict(run("inspect", mixed, "--json").out)["files"]}
    assert files["mute.wav"]["notes"] == ["silent"]
    assert files["tone_02.wav"]["notes"] == []


@pytest.mark.parametrize("name", ["kick [dry].wav", "snare [bold]x.wav", "hat [/x].wav"])
def test_inspect_shows_file_names_with_brackets_as_they_are(tmp_path: Path, name: str) -> None:
    folder = write_collection(tmp_path / "set", 2)
    target = folder / name
    target.parent.mkdir(exist_ok=True)  # `[/x]` makes a folder called `hat [`, which a terminal must show too
    (folder / "tone_00.wav").rename(target)
    said = run("inspect", folder)
    assert said.code == 0, said.err
    assert name in said.out


def test_inspect_of_a_folder_where_nothing_is_readable_still_says_why(world: Path) -> None:
    said = run("inspect", world / "unreadable")
    assert said.code == 0
    assert "text.wav: not readable as audio" in said.out


# reconstruct


def test_reconstruct_keeps_the_length_of_every_sound(world: Path, tmp_path: Path) -> None:
    long = tmp_path / "long.wav"
    soundfile.write(long, tone(220, 1.7, decay=1), RATE)
    said = run("reconstruct", world / "models" / "kit.distill", world / "kit", long, "-o", tmp_path / "made")
    assert said.code == 0, said.err
    assert said.out.count(" → ") == 5
    for source in [long, *(world / "kit").iterdir()]:
        made = soundfile.info(tmp_path / "made" / source.name)
        assert (made.frames, made.samplerate) == (soundfile.info(source).frames, RATE)
        assert np.abs(soundfile.read(tmp_path / "made" / source.name)[0]).max() > 0


@pytest.mark.parametrize("way", ["path", "name", "file name", "id", "start of the id"])
def test_a_model_is_found_by(world: Path, tmp_path: Path, way: str) -> None:
    library = world / "models"
    model_id = strict(run("models", "list", "--models-dir", library, "--json").out)[0]["model_id"]
    model = {
        "path": library / "kit.distill",
        "name": "kit",
        "file name": "kit.distill",
        "id": model_id,
        "start of the id": model_id[:6],
    }[way]
    sound = world / "kit" / "tone_00.wav"
    said = run("reconstruct", model, sound, "--models-dir", library, "-o", tmp_path / "made")
    assert said.code == 0, said.err
    assert (tmp_path / "made" / "tone_00.wav").is_file()


def test_fewer_levels_give_another_sound(world: Path, tmp_path: Path) -> None:
    sound, made = world / "kit" / "tone_03.wav", []
    for levels in (1, 2, 3):
        folder = tmp_path / str(levels)
        assert run("reconstruct", world / "models" / "kit.distill", sound, "--levels", levels, "-o", folder).code == 0
        made.append(soundfile.read(folder / sound.name)[0])
    assert not np.allclose(made[0], made[1])
    assert not np.allclose(made[1], made[2])


def test_stereo_comes_back_stereo_unless_mono_is_asked_for(world: Path, tmp_path: Path) -> None:
    sound, made = tmp_path / "wide.wav", {}
    soundfile.write(sound, np.stack([tone(220, 0.3), tone(550, 0.3)], axis=1), RATE)
    for name, options in {"stereo": (), "mono": ("--mono",)}.items():
        said = run("reconstruct", world / "models" / "kit.distill", sound, *options, "-o", tmp_path / name)
        assert said.code == 0, said.err
        made[name] = soundfile.read(tmp_path / name / sound.name)[0]
    assert (made["stereo"].shape, made["mono"].shape) == ((14_400, 2), (14_400,))
    assert np.abs(made["stereo"][:, 0] - made["stereo"][:, 1]).max() > 0.01


def test_sounds_of_the_same_name_do_not_overwrite_each_other(world: Path, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        soundfile.write(write_collection(tmp_path / folder, 1) / "kick.wav", tone(80, 0.2), RATE)
    sounds = [tmp_path / folder / "kick.wav" for folder in ("a", "b")]
    assert run("reconstruct", world / "models" / "kit.distill", *sounds, "-o", tmp_path / "made").code == 0
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == ["kick.wav", "kick_2.wav"]


def test_what_is_there_is_replaced_only_when_asked(world: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.mkdir()
    (made / "tone_01.wav").write_text("precious")
    command = ("reconstruct", world / "models" / "kit.distill", world / "kit", "-o", made)
    assert_refused(run(*command), 1, "tone_01.wav")
    assert [path.name for path in made.iterdir()] == ["tone_01.wav"]
    assert (made / "tone_01.wav").read_text() == "precious"
    assert run(*command, "--overwrite").code == 0
    assert soundfile.info(made / "tone_01.wav").frames > 0


def test_not_even_overwrite_replaces_the_sound_itself(world: Path, tmp_path: Path) -> None:
    folder = write_collection(tmp_path / "mine", 1)
    before = tree(folder)
    said = run("reconstruct", world / "models" / "kit.distill", folder, "-o", folder, "--overwrite")
    assert_refused(said, 1, "tone_00.wav")
    assert "--overwrite" not in said.err, "it was given; what helps is another folder"
    assert tree(folder) == before


# models


def test_the_list_shows_what_tells_models_apart(models: Path) -> None:
    shutil.copy(models / "kit.distill", models / "another.distill")
    said = run("models", "list", "--models-dir", models)
    assert said.code == 0
    assert all(word in said.out for word in ("name", "data set", "levels", "codes", "loss", "MB", "kit", "512"))
    assert len(said.out.strip().splitlines()) == 3


def test_the_list_in_json_can_be_searched_and_sorted(models: Path) -> None:
    library = ("--models-dir", models)
    for name in ("beta drum", "Alpha Drum"):
        shutil.copy(models / "kit.distill", models / "copy.distill")
        assert run("models", "rename", "copy.distill", name, *library).code == 0
    by_name = strict(run("models", "list", *library, "--json", "--sort", "name").out)
    assert [entry["name"] for entry in by_name] == ["Alpha Drum", "beta drum", "kit"]
    found = strict(run("models", "list", *library, "--json", "--search", "DRUM beta").out)
    assert [entry["name"] for entry in found] == ["beta drum"]
    assert Path(found[0]["path"]).is_file()
    assert found[0]["num_quantizers"] == 3
    for sort in ("date", "loss", "size"):
        assert len(strict(run("models", "list", *library, "--json", "--sort", sort).out)) == 3
    assert strict(run("models", "list", *library, "--json", "--search", "nowhere").out) == []


def test_an_empty_library_says_so(home: Path) -> None:
    said = run("models", "list")
    assert said.code == 0
    assert said.out.startswith("no model")
    assert strict(run("models", "list", "--json").out) == []


def test_show_tells_origin_settings_and_health(models: Path) -> None:
    said = run("models", "show", "kit", "--models-dir", models)
    assert said.code == 0
    assert all(
        word in said.out for word in ("kit.distill", "vqvae", "model_id", "codebook_size", "Structure", "Detail")
    )
    about = strict(run("models", "show", models / "kit.distill", "--json").out)
    assert about["metadata"]["name"] == about["metadata"]["dataset_name"] == "kit"
    assert about["metadata"]["epochs"] == 1
    assert (about["settings"]["num_quantizers"], about["sample_rate"]) == (3, 48_000)
    assert about["health"].keys() == {"level_0", "level_1", "level_2"}


def test_a_level_is_judged_alike_in_the_summary_and_in_show(world: Path) -> None:
    shown = run("models", "show", world / "models" / "kit.distill").out
    rows = [[line for line in text.splitlines() if line[:3] in (" 0 ", " 1 ", " 2 ")]
            for text in (shown, (world / "summary.txt").read_text())]  # fmt: skip
    assert len(rows[0]) == 3
    assert rows[0] == rows[1]


def test_the_summary_says_what_few_vectors_can_reach(world: Path) -> None:
    summary = (world / "summary.txt").read_text()
    vectors = strict((world / "run" / "run.json").read_text())["validation_vectors"]
    assert f"counted over {vectors} vectors" in summary
    assert f"with 512 codes, utilization cannot exceed {vectors / 512:.0%}" in summary


def test_a_renamed_model_goes_by_its_new_name_alone(models: Path) -> None:
    library = ("--models-dir", models)
    before = strict(run("models", "show", "kit", *library, "--json").out)
    assert run("models", "rename", "kit", "Big Kit", *library).code == 0
    after = strict(run("models", "show", "Big Kit", *library, "--json").out)
    assert after["metadata"] == before["metadata"] | {"name": "Big Kit"}
    assert [path.name for path in models.glob("*.distill")] == ["Big Kit.distill"]
    assert_refused(run("models", "show", "kit", *library), 1, "'kit'")


def test_delete_asks_and_without_a_terminal_wants_yes(models: Path) -> None:
    library = ("--models-dir", models)
    with mock.patch.object(sys, "stdin", io.StringIO("y\n")):
        assert_refused(run("models", "delete", "kit", *library), 1, "--yes")
    assert (models / "kit.distill").is_file()
    assert run("models", "delete", "kit", "--yes", *library).code == 0
    assert not (models / "kit.distill").exists()
    assert strict(run("models", "list", *library, "--json").out) == []


@pytest.mark.parametrize("damage", ["lost", "broken"])
def test_a_lost_or_broken_index_is_made_anew_from_the_files(models: Path, damage: str) -> None:
    index = models / "library.json"
    index.unlink() if damage == "lost" else index.write_text("{broken")
    said = run("models", "rebuild", "--models-dir", models)
    assert said.code == 0
    assert said.out.startswith("1 model")
    assert strict(run("models", "list", "--models-dir", models, "--json").out)[0]["name"] == "kit"


@pytest.mark.parametrize("name", ["kit [dry]", "kit [/]", "[red]kit"])
def test_names_with_brackets_are_shown_as_they_are(models: Path, name: str) -> None:
    assert run("models", "rename", "kit", name, "--models-dir", models).code == 0
    said = run("models", "list", "--models-dir", models)
    assert said.code == 0, said.err
    assert name in said.out


def test_copies_of_one_model_are_told_apart_by_file(models: Path) -> None:
    library = ("--models-dir", models)
    shutil.copy(models / "kit.distill", models / "twin.distill")
    for command in ("show", "delete"):
        assert_refused(run("models", command, "kit", *library), 1, "by its file: kit.distill, twin.distill")
    assert run("models", "delete", "twin.distill", "--yes", *library).code == 0
    assert [path.name for path in models.glob("*.distill")] == ["kit.distill"]


# Wrong input: (arguments, exit code, what the sentence must name); {w} is the world


KIT = "reconstruct {w}/models/kit.distill"

WRONG = {
    "inspect a missing folder": ("inspect {w}/nowhere", 1, "nowhere: no such folder"),
    "inspect an empty folder": ("inspect {w}/empty", 1, "empty: no audio files"),
    "inspect a file": ("inspect {w}/notes.txt", 1, "notes.txt is a file"),
    "inspect nothing": ("inspect", 2, "folder"),
    "a missing sound": (f"{KIT} {{w}}/nowhere.wav -o {{t}}/made", 1, "nowhere.wav: no such file"),
    "a text named wav": (f"{KIT} {{w}}/unreadable/text.wav -o {{t}}/made", 1, "text.wav: not readable as audio"),
    "a folder without sounds": (f"{KIT} {{w}}/empty -o {{t}}/made", 1, "empty: no audio files"),
    "no sound at all": (f"{KIT} -o {{t}}/made", 2, "files"),
    "no place for the result": (f"{KIT} {{w}}/kit", 2, "--output-dir"),
    "a result below a file": (f"{KIT} {{w}}/kit -o {{w}}/notes.txt", 1, "notes.txt"),
    "levels 0": (f"{KIT} {{w}}/kit -o {{t}}/made --levels 0", 2, "--levels"),
    "levels 5": (f"{KIT} {{w}}/kit -o {{t}}/made --levels 5", 2, "--levels"),
    "levels above the model's": (f"{KIT} {{w}}/kit -o {{t}}/made --levels 4", 1, "levels is 4; this model has 1 to 3"),
    "a damaged model": ("reconstruct {w}/damaged.distill {w}/kit -o {t}/made", 1, "damaged.distill"),
    "a sound as the model": ("reconstruct {w}/kit/tone_00.wav {w}/kit -o {t}/made", 1, "tone_00.wav: not a"),
    "an unknown model": ("reconstruct mystery {w}/kit -o {t}/made", 1, "no model 'mystery'"),
    "an unknown model file": ("reconstruct {w}/mystery.distill {w}/kit -o {t}/made", 1, "mystery.distill"),
    "show an unknown model": ("models show mystery", 1, "no model 'mystery'"),
    "show a damaged model": ("models show {w}/damaged.distill", 1, "damaged.distill"),
    "rename an unknown model": ("models rename mystery other", 1, "no model 'mystery'"),
    "rename to a very long name": (f"models rename kit {'x' * 201} --models-dir {{w}}/models", 1, "name"),
    "delete an unknown model": ("models delete mystery --yes", 1, "no model 'mystery'"),
    "an unknown order": ("models list --sort age", 2, "--sort"),
    "list what is no library": ("models list --models-dir {w}/notes.txt", 1, "notes.txt"),
    "an unknown command": ("compose", 2, "compose"),
    "an unknown option": ("inspect {w}/kit --frobnicate", 2, "--frobnicate"),
}


@pytest.mark.parametrize(("command", "code", "names"), WRONG.values(), ids=WRONG)
def test_wrong_input_is_refused_in_one_sentence(
    world: Path, tmp_path: Path, command: str, code: int, names: str
) -> None:
    before = tree(world)
    said = run(*(word.format(w=world, t=tmp_path) for word in command.split()))
    assert_refused(said, code, names)
    assert said.out == ""
    assert tree(world) == before
    assert not (tmp_path / "made").exists()


def test_an_unreadable_sound_does_not_cost_the_sounds_before_it(world: Path, tmp_path: Path) -> None:
    sounds = (world / "kit" / "tone_00.wav", world / "unreadable" / "text.wav")
    said = run("reconstruct", world / "models" / "kit.distill", *sounds, "-o", tmp_path / "made")
    assert_refused(said, 1, "text.wav")
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["tone_00.wav"]
    assert soundfile.info(tmp_path / "made" / "tone_00.wav").frames == soundfile.info(sounds[0]).frames


def test_debug_shows_where_an_error_came_from(world: Path) -> None:
    code = f"import sys; sys.argv = ['distill', '--debug', 'inspect', {str(world / 'nowhere')!r}]\n"
    code += "from distill.cli.app import main; main()"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert said.returncode == 1
    assert "Traceback" in said.stderr
    assert "find_sounds" in said.stderr


def test_a_reader_that_goes_away_is_told_of_in_one_line(tmp_path: Path) -> None:
    folder = write_collection(tmp_path / "many", 2)
    for number in range(1500):  # more than a pipe holds
        (folder / f"{'long name ' * 8}{number}.wav").touch()
    command = [sys.executable, "-m", "distill", "inspect", str(folder)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
    assert process.returncode == 1
    assert said == "error: the program reading the output has gone away\n"


@pytest.mark.parametrize("collecting", ["enable", "disable"])
def test_the_python_way_in_leaves_the_collection_of_garbage_as_it_found_it(
    collecting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(distill, "api", raising=False)  # as if nobody had come this way yet
    monkeypatch.delitem(sys.modules, "distill.api", raising=False)
    getattr(gc, collecting)()
    try:
        assert callable(distill.load)
        assert "distill.api" in sys.modules
        assert gc.isenabled() == (collecting == "enable")
    finally:
        gc.enable()
