"""The documentation tells the truth: commands and snippets run, all pages are in the site, all pictures there."""

import re
import shlex
from pathlib import Path

import pytest
import soundfile
from typer.testing import CliRunner

from distill.cli.app import app
from support.commands import run
from support.sounds import RATE, tone, write_collection

ROOT = Path(__file__).parent.parent
PAGES = {path.name: path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))}


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGES[page], re.DOTALL | re.MULTILINE)


def commands(page: str) -> list[list[str]]:
    """The commands of distill's in a page, as lists of arguments."""
    lines = "\n".join(blocks(page, "sh")).replace("\\\n", "").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("distill ")]


COMMANDS = [(page, words) for page in PAGES for words in commands(page)]


def test_every_command_and_option_of_the_pages_exists():
    assert len(COMMANDS) > 25
    helps: dict[tuple[str, ...], str] = {}
    for page, words in COMMANDS:
        name = tuple(words[:2]) if words[0] == "models" else tuple(words[:1])
        if name not in helps:
            helps[name] = CliRunner().invoke(app, [*name, "--help"], env={"COLUMNS": "200"}).output
        for option in (word.partition("=")[0] for word in words if re.match("--?[a-z]", word)):
            assert re.search(rf"(^|\s|/|,){re.escape(option)}\b", helps[name]), (page, words, option)


def test_every_page_is_in_the_navigation_of_the_site_and_every_picture_is_there():
    site = (ROOT / "mkdocs.yml").read_text()
    named = set(re.findall(r": ([\w-]+\.md)$", site, re.MULTILINE))
    assert named == set(PAGES)
    for text in PAGES.values():
        for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text):
            assert (ROOT / "docs" / picture).is_file()


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own folder and the current one, with the sounds that the pages speak of."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    write_collection(tmp_path / "sounds", count=4)
    for name, pitch in (("kick", 60), ("snare", 190)):
        soundfile.write(tmp_path / f"{name}.wav", tone(pitch, 0.8), RATE)
    return tmp_path


@pytest.mark.slow
@pytest.mark.usefixtures("quick_runs")
def test_the_snippets_in_python_run_one_after_another(work):
    scope: dict = {}
    for snippet in [*blocks("python.md", "python"), *blocks("make.md", "python")]:
        exec(snippet.replace("minutes=1", "max_epochs=1, codebook_size=16, augmentation_copies=1"), scope)
    assert len(scope["near"]) == 2
    assert scope["losses"]
    assert (work / "new.wav").is_file()


@pytest.mark.slow
@pytest.mark.usefixtures("quick_runs")
def test_the_commands_of_the_tutorial_run_one_after_another(work):
    for words in commands("tutorial.md"):
        quick = [str(Path("0.05" if word == "3" else word).expanduser()) for word in words]  # --minutes 3
        said = run(*quick)
        assert said.code == 0, (words, said.err)
    assert len(list((work / "pack").glob("*.wav"))) == 16
    assert len(list((work / "pack").glob("*.zip"))) == 1
