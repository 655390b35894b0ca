"""Messages are data: an error carries what would help as a value, a warning its numbers, and the surfaces word them."""

import ast
import copy
import io
import json
import logging
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import distill
from distill import errors
from distill.audio import worker_main
from distill.audio.limits import AudioLimits
from distill.audio.protocol import Kind, receive
from distill.audio.reader import AudioReader
from distill.cli.messages import COMMAND_LINE, NoticeFormatter
from distill.data.collection import UnreadableFile
from distill.data.opening import open_collection
from distill.errors import (
    AudioError,
    ConfigError,
    CutRecordings,
    DistillError,
    FindSounds,
    GeneratingFamily,
    ListModels,
    LowerLearningRate,
    ModelFileError,
    NewRun,
    RaiseLimit,
    Remedy,
    ResumeRun,
    StorageError,
    TrainPrior,
    UsedFolder,
    remedy_from_json,
    remedy_to_json,
)
from distill.library.catalog import ModelLibrary
from distill.notices import FileLeftOut, Notice, QueueNotSaved, Remark, notice_from_dict
from distill.web.messages import PAGE, in_page_words

PACKAGE = Path(distill.__file__).parent
BELOW_CLI = sorted(
    path.relative_to(PACKAGE).as_posix()
    for path in PACKAGE.rglob("*.py")
    if path.relative_to(PACKAGE).parts[0] not in ("cli", "__main__.py")
)
OF_COMMAND_LINE = re.compile(r"--[a-z]|`distill ")

REMEDIES: list[Remedy] = [
    *(RaiseLimit(name, "9") for name in AudioLimits.__dataclass_fields__),
    LowerLearningRate(),
    ResumeRun(),
    ResumeRun("bring the file back"),
    FindSounds(),
    NewRun(),
    NewRun("put the files back"),
    UsedFolder(),
    ListModels(),
    GeneratingFamily("vae"),
    TrainPrior(),
    CutRecordings(),
]
NAMED = pytest.mark.parametrize("remedy", REMEDIES, ids=repr)


def classes(root: type) -> Iterator[type]:
    yield root
    for child in root.__subclasses__():
        yield from classes(child)


ERRORS = [kind for kind in classes(DistillError) if kind.__module__ == errors.__name__]


# Remedies


def test_every_kind_of_remedy_is_worded_on_the_command_line_and_on_the_page() -> None:
    kinds = set(classes(Remedy)) - {Remedy}
    assert set(COMMAND_LINE) == set(PAGE) == {type(remedy) for remedy in REMEDIES} == kinds
    assert set(Remedy.kinds.values()) == kinds


@NAMED
def test_each_surface_words_a_remedy_in_its_own_way(remedy: Remedy) -> None:
    error = DistillError("something is wrong", remedy)
    said = [error.worded(vocabulary) for vocabulary in (COMMAND_LINE, PAGE, {})]
    assert len(set(said)) == 3
    assert all(words.startswith("something is wrong; ") for words in said)
    command_line, page, python = said
    assert OF_COMMAND_LINE.search(command_line)
    assert not OF_COMMAND_LINE.search(page + python)
    assert "_" not in page
    assert str(error) == python


@NAMED
def test_a_remedy_is_the_same_after_a_way_through_json(remedy: Remedy) -> None:
    assert remedy_from_json(json.loads(json.dumps(remedy_to_json(remedy)))) == remedy


@pytest.mark.parametrize(
    "odd",
    [
        None,
        3,
        [],
        {},
        {"kind": "RaiseLimit"},
        {"kind": "Nothing", "values": {}},
        {"kind": "RaiseLimit", "values": {"size": 1}},
        {"kind": [], "values": {}},
    ],
    ids=repr,
)
def test_what_is_no_remedy_is_not_taken_for_one(odd: object) -> None:
    with pytest.raises(ValueError, match="not a remedy"):
        remedy_from_json(odd)
    with pytest.raises(ValueError, match="not a"):
        AudioError.from_dict({"reason": "odd", "remedy": odd})


# Errors


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("remedy", ["", "try again", RaiseLimit("hours", "3")], ids=["none", "words", "value"])
def test_an_error_can_be_printed_copied_and_sent(kind: type[DistillError], remedy: Remedy | str) -> None:
    error = kind("it failed", remedy)
    assert str(error) == ("it failed" + (f"; {remedy}" if remedy else ""))
    others = [
        copy.copy(error),
        pickle.loads(pickle.dumps(error)),
        kind.from_dict(json.loads(json.dumps(error.to_dict()))),
    ]
    for other in [*others, error.with_reason(error.reason)]:
        assert type(other) is kind
        assert (str(other), other.reason, other.remedy) == (str(error), "it failed", remedy)
    assert error.with_reason("again").worded({}) == str(error).replace("it failed", "again")


def test_an_error_is_also_what_python_calls_it() -> None:
    error = StorageError("could not write a", "free some space")
    assert isinstance(error, OSError)
    assert (error.errno, error.strerror, error.filename) == (None, None, None)
    assert isinstance(ModelFileError("a: damaged"), ValueError)
    with pytest.raises(StorageError, match="could not write b; free some space") as raised:
        raise error.with_reason("could not write b") from error
    assert raised.value.__cause__ is error


def test_a_setting_that_is_not_known_is_the_reason_and_those_that_are_the_remedy() -> None:
    with pytest.raises(ConfigError) as raised:
        AudioLimits(minutes=3)
    assert raised.value.reason == "minutes is not a setting of AudioLimits"
    assert raised.value.remedy == "the known ones are hours, gib, channels, min_hz, max_hz, min_dbfs"


def test_a_model_that_is_not_there_is_looked_for_in_the_words_of_the_surface(tmp_path: Path) -> None:
    with pytest.raises(errors.LibraryError) as raised:
        ModelLibrary(tmp_path).find("kick")
    assert raised.value.worded(COMMAND_LINE).endswith("; `distill models list` shows which models there are")
    assert in_page_words(raised.value).endswith("; the library shows which models there are")


# From the worker process to the page


def test_a_refusal_leaves_the_worker_as_data() -> None:
    pipe = io.BytesIO()
    error = AudioError("has 9 channels; the limit is 8", RaiseLimit("channels", "9"))
    worker_main._refuse(pipe, error)
    pipe.seek(0)
    kind, payload = receive(pipe)
    assert kind is Kind.REFUSED
    arrived = AudioError.from_dict(json.loads(payload))
    assert (arrived.reason, arrived.remedy) == (error.reason, error.remedy)


def test_a_refusal_arrives_from_the_worker_with_its_remedy(write_sound, tmp_path: Path) -> None:
    path = write_sound("long.wav", [0.5] * 48_000)
    limits = AudioLimits(hours=1e-4)
    with AudioReader(limits) as reader, pytest.raises(AudioError) as raised:
        reader.read(path)
    assert raised.value.reason == f"{path}: claims to last 0.0002778 h; the limit is 0.0001 h"
    assert raised.value.remedy == RaiseLimit("hours", "1")
    (file,) = open_collection([path], limits=limits).left_out
    assert file == UnreadableFile(path, "claims to last 0.0002778 h; the limit is 0.0001 h", RaiseLimit("hours", "1"))
    assert file.worded(COMMAND_LINE).endswith("; raise it with --limit hours=1")
    assert file.worded(PAGE).endswith("; cut it into shorter files")


# Notices


def test_a_notice_passes_on_the_remedy_of_an_error() -> None:
    notice = FileLeftOut("a.wav", "has 9 channels; the limit is 8", RaiseLimit("channels", "9"))
    assert notice.worded(COMMAND_LINE).endswith(
        "a.wav left out: has 9 channels; the limit is 8; raise it with --limit channels=9"
    )
    assert notice.worded(PAGE).endswith("; save it with fewer channels, as stereo or mono")
    assert str(notice).endswith("; allow it with AudioLimits(channels=9)")
    assert notice_from_dict(json.loads(json.dumps(notice.to_dict()))) == notice
    assert notice.subject == FileLeftOut("a.wav", "silent").subject


def test_a_notice_without_a_remedy_reads_the_same_everywhere() -> None:
    notice = Remark("something happened")
    assert notice.worded(COMMAND_LINE) == notice.worded(PAGE) == str(notice) == "something happened"


def test_every_kind_of_notice_has_words_of_its_own() -> None:
    for kind in set(classes(Notice)) - {Notice}:
        assert {"text", "worded"} & vars(kind).keys(), kind


def test_a_notice_on_the_terminal_is_in_its_words() -> None:
    notice = QueueNotSaved("it is full", UsedFolder())
    record = logging.getLogger("distill").makeRecord("distill", logging.WARNING, "", 0, notice, (), None)
    assert "--resume" in NoticeFormatter().format(record)
    plain = logging.getLogger("other").makeRecord("other", logging.WARNING, "", 0, "%s days", (3,), None)
    assert NoticeFormatter().format(plain) == "3 days"


# Sources


def sentences(source: str) -> Iterator[str]:
    """Every piece of text in a module but the docstrings, which no user reads."""
    tree = ast.parse(source)
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.value


@pytest.mark.parametrize("path", BELOW_CLI)
def test_nothing_below_the_command_line_names_its_options_and_commands(path: str) -> None:
    found = [text for text in sentences((PACKAGE / path).read_text(encoding="utf-8")) if OF_COMMAND_LINE.search(text)]
    assert found == []


def test_the_check_itself_sees_an_option_in_a_message() -> None:
    source = (
        'def f(x):\n    """Not `distill web`."""\n    raise ValueError(f"{x}; give --limit {x}", "`distill web`")\n'
    )
    assert [text for text in sentences(source) if OF_COMMAND_LINE.search(text)] == ["`distill web`", "; give --limit "]
