"""The README tells the truth: its example runs, its file tree is there, its commands exist."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from distill.cli.app import app
from support.sounds import tone, write_collection

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def block(language: str, containing: str) -> str:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    return next(text for kind, text in blocks if kind == language and containing in text)


def test_the_python_example_runs(tmp_path, monkeypatch, write_sound):
    write_collection(tmp_path / "sounds", count=4)
    write_sound("kick.wav", tone(60, 0.3))
    monkeypatch.chdir(tmp_path)
    example = block("python", "distill.train")
    assert "minutes=1)" in example
    scope: dict = {}
    exec(example.replace("minutes=1)", "minutes=0.02)"), scope)  # the same call, a shorter run
    assert len(scope["audio"]) == round(0.3 * 48_000)
    assert scope["again"].metadata.model_id == scope["model"].metadata.model_id


def paths_in_tree() -> list[Path]:
    """The folders and files that the tree names, below its two roots."""
    found, parents = [], [ROOT]
    for indent, name in re.findall(r"^( *)([\w./]+)(?: |$)", block("", "src/distill/"), re.MULTILINE):
        parents = parents[: 1 + len(indent) // 2]
        parents.append(parents[-1] / name)
        found.append(parents[-1])
    return found


def test_everything_in_the_file_tree_exists_and_says_what_it_is_for():
    assert len(paths_in_tree()) > 20
    assert [path for path in paths_in_tree() if not path.exists()] == []
    lines = block("", "src/distill/").splitlines()[1:]
    assert [line for line in lines if not re.match(r" *[\w./]+ +\S", line)] == []


@pytest.mark.parametrize("root", ["src/distill", "bench"])
def test_every_folder_stands_in_the_file_tree(root):
    there = {path for path in (ROOT / root).iterdir() if path.is_dir() and not path.name.startswith("__")}
    assert there <= set(paths_in_tree())


@pytest.mark.parametrize("command", re.findall(r"^distill ([a-z]+(?: list)?)", block("sh", "distill inspect"), re.M))
def test_every_command_of_the_readme_exists(command):
    assert CliRunner().invoke(app, [*command.split(), "--help"]).exit_code == 0


def test_every_option_of_the_readme_exists():
    used = set(re.findall(r"distill (\w+)[^#\n]*? (--[a-z-]+)", README))
    assert ("train", "--minutes") in used
    for command, option in used:
        assert option in CliRunner().invoke(app, [command, "--help"]).output


def test_both_commands_are_targets_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert f"\n{target}: " in makefile


PROMISES = re.findall(r"`(test_\w+)\.py`:((?:\s+`test_\w+`,?)+)", (ROOT / "docs" / "reliability.md").read_text())


@pytest.mark.parametrize(("file", "names"), PROMISES, ids=[file for file, _ in PROMISES])
def test_every_promise_is_kept_by_a_test_that_exists(file, names):
    source = (ROOT / "tests" / f"{file}.py").read_text()
    for name in re.findall(r"test_\w+", names):
        assert f"def {name}(" in source


def test_no_promise_is_without_a_test():
    promises = re.findall(r"^- \*\*.*?(?=^- \*\*|^#|\Z)", (ROOT / "docs" / "reliability.md").read_text(), re.M | re.S)
    assert len(promises) > 12
    assert all(re.search(r"`test_\w+\.py`:\s+`test_", promise) for promise in promises)
