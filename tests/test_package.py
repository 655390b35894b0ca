"""What is published: a wheel with all of distill, a page for it on an index, and an environment that runs it alone."""

import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from email.message import Message
from pathlib import Path

import pytest

import distill
from support.sounds import write_collection

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source archive, built of what is there now."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", folder], cwd=ROOT, check=True, capture_output=True
    )
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    return next(built.glob("*.whl"))


@pytest.fixture(scope="module")
def about(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith("/METADATA"))
        return email.message_from_bytes(archive.read(name))


def test_an_index_takes_the_wheel_and_the_sources(built: Path) -> None:
    files = sorted(built.iterdir())
    assert [path.name.partition("-")[2] for path in files] == [
        f"{distill.__version__}-py3-none-any.whl", f"{distill.__version__}.tar.gz"
    ]  # fmt: skip
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *files], check=True, capture_output=True)


def test_the_wheel_holds_all_of_distill_and_nothing_else(wheel: Path) -> None:
    files = (path for path in (ROOT / "src" / "distill").rglob("*") if path.is_file() and path.suffix != ".pyc")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == {path.relative_to(ROOT / "src").as_posix() for path in files}
    assert "distill/web/static/index.html" in held
    assert wheel.stat().st_size < 1e6


def test_the_sources_hold_what_builds_and_tests_them(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    for name in ("pyproject.toml", "README.md", "LICENSE", "Makefile", "constraints.txt", "tests/conftest.py"):
        assert name in held
    assert not [name for name in held if name.startswith((".venv", ".git/", "demo/"))]


def test_pictures_and_links_of_the_readme_lead_to_the_repository_of_this_version(about: Message) -> None:
    text = str(about.get_payload())
    source = dict(url.split(", ") for url in about.get_all("Project-URL", []))["Source"]
    targets = re.findall(r"(!?)\[[^]]*\]\((?!#)([^)]*)\)", text)
    assert sum(picture == "!" for picture, _ in targets) >= 2
    for picture, target in targets:
        if target.startswith(f"{source}/"):
            kind, version, path = target.removeprefix(f"{source}/").split("/", 2)
            assert (kind, version) == ("raw" if picture else "blob", f"v{distill.__version__}")
            assert (ROOT / path.partition("#")[0]).exists()
        else:
            assert target.startswith("https://")


def test_both_names_of_the_command_are_installed(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith("/entry_points.txt"))
        commands = re.findall(r"^(\S+) = distill\.cli\.app:main$", archive.read(name).decode(), re.MULTILINE)
    assert sorted(commands) == ["distill", "distill-audio"]


# The start script


def scripted(folder: Path, name: str, text: str) -> Path:
    """A program of the shell."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def double_click(tmp_path: Path) -> Path:
    """The start script in a folder of its own, with Pythons that note how they are called."""
    folder = tmp_path / "distill, unpacked"
    folder.mkdir()
    shutil.copy(ROOT / "distill.command", folder)
    return folder / "distill.command"


def start(script: Path, programs: Path) -> subprocess.CompletedProcess[str]:
    tools = {"PATH": f"{programs}:/usr/bin:/bin"}
    return subprocess.run([script, "--port", "0"], env=tools, capture_output=True, text=True, cwd="/")


@pytest.mark.skipif(os.name == "nt", reason="a script of the shell")
def test_the_start_script_installs_once_then_opens_the_page(double_click: Path, tmp_path: Path) -> None:
    said = tmp_path / "said.txt"
    note = f'echo "$*" >> "{said}"'
    make = f'case "$*" in *venv*) mkdir -p .venv/bin; cp "{tmp_path}/inner" .venv/bin/python;; esac'
    scripted(tmp_path, "inner", note)
    scripted(tmp_path / "bin", "python3", "exit 1")  # too old
    for name in ("python3.14", "python3.13", "python3.12", "python3.11"):
        scripted(tmp_path / "bin", name, make)
    for _ in range(2):
        assert start(double_click, tmp_path / "bin").returncode == 0
    install, *opened = said.read_text().splitlines()
    assert re.fullmatch("-m pip install .*-c constraints.txt -e .", install)
    assert opened == ["-m distill web --port 0"] * 2


@pytest.mark.skipif(os.name == "nt", reason="a script of the shell")
def test_the_start_script_says_where_no_python_is_new_enough(double_click: Path, tmp_path: Path) -> None:
    for name in ("python3", "python3.14", "python3.13", "python3.12", "python3.11"):
        scripted(tmp_path / "bin", name, "exit 1")
    ended = start(double_click, tmp_path / "bin")
    assert ended.returncode == 1
    assert "needs Python 3.11 or newer" in ended.stderr
    assert not (double_click.parent / ".venv").exists()


# The package itself


@pytest.mark.slow
def test_in_an_environment_of_its_own_the_wheel_trains_and_makes_sounds(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=True)
    programs = tmp_path / "env" / ("Scripts" if os.name == "nt" else "bin")
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}

    def run(program: str, *arguments: object) -> str:
        command = [programs / program, *map(str, arguments)]
        return subprocess.run(command, env=clean, cwd=tmp_path, check=True, stdout=subprocess.PIPE, text=True).stdout

    run("python", "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", wheel)
    installed = run("python", "-m", "pip", "list", "--format=freeze")
    assert not re.search("^(pytest|ruff|mypy|playwright|llvmlite)=", installed, re.MULTILINE)
    assert run("distill-audio", "--version") == f"distill {distill.__version__}\n"
    run(
        "distill", "train", write_collection(tmp_path / "sounds"), "--minutes", 0.2, "--models-dir", tmp_path / "models"
    )
    run("distill", "generate", "sounds", "-n", 1, "-o", tmp_path / "new", "--models-dir", tmp_path / "models")
    assert len(list((tmp_path / "new").glob("*.wav"))) == 1
