"""The library under stress: many processes at once, a killed one, and every kind of damage to its index."""

import dataclasses
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.errors import ConfigError, LibraryError
from distill.library.catalog import ModelEntry, ModelLibrary, locate
from distill.library.header import read_header
from support.commands import run, tree
from support.models import write_model
from support.processes import in_child

# Many at once

# Models are added, every second one renamed and every third one deleted, all in one library. Model files are real
# ones with next to no weights, made beforehand. The rename is that of distill.models.persistence, without torch.
WORKER = """if True:
    import sys
    from pathlib import Path
    from distill.library.catalog import ModelEntry, ModelLibrary
    from distill.storage import atomic_write

    library, made, worker, count = ModelLibrary(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])

    def add(number):
        with library.new_file("drum") as path:
            atomic_write(path, (made / f"name-{worker:02d}{number:04d}.distill").read_bytes())
            library.add(ModelEntry.of_file(path))
        return f"mark-{worker:02d}{number:04d}"

    def rename(model_id):
        entry = library.find(model_id)
        with library.new_file("bass") as path:
            old = library.path(entry)
            atomic_write(old, (made / f"{entry.name.replace('name', 'bass')}.distill").read_bytes())
            old.rename(path)
            library.add(ModelEntry.of_file(path))

    for number in range(count):
        model_id = add(number)
        if number % 2 == 0:
            rename(model_id)
        if number % 3 == 0:
            library.remove(model_id)
"""


@pytest.mark.parametrize(("processes", "count"), [(4, 10), pytest.param(8, 100, marks=pytest.mark.soak)])
def test_processes_that_add_rename_and_delete_at_once_lose_nothing(tmp_path: Path, processes: int, count: int) -> None:
    folder, made = tmp_path / "models", tmp_path / "made"
    for number, kind in itertools.product(range(processes * count), ("name", "bass")):
        mark = f"{number // count:02d}{number % count:04d}"
        write_model(made / f"{kind}-{mark}.distill", model_id=f"mark-{mark}")
    working = [
        subprocess.Popen([sys.executable, "-c", WORKER, folder, made, str(worker), str(count)])
        for worker in range(processes)
    ]
    assert [process.wait() for process in working] == [0] * processes
    left = {
        f"mark-{worker:02d}{number:04d}": f"{'bass' if number % 2 == 0 else 'name'}-{worker:02d}{number:04d}"
        for worker in range(processes)
        for number in range(count)
        if number % 3
    }
    stored = json.loads((folder / "library.json").read_text())["models"]
    listed = ModelLibrary(folder).entries()
    assert {entry.model_id: entry.name for entry in listed} == left
    assert len(listed) == len(list(folder.glob("*.distill"))) == len(left)
    assert ModelLibrary(folder).rebuild() == sorted(listed, key=lambda entry: entry.file)
    assert {item["file"] for item in stored} >= {entry.file for entry in listed}
    assert not list(folder.glob("library.broken*"))


HOLDER = """if True:
    import sys, time
    from distill.library.catalog import ModelLibrary
    with ModelLibrary(sys.argv[1]).new_file("held") as path:
        path.write_bytes(b"half a mod")
        print("held", flush=True)
        time.sleep(600)
"""


def test_a_killed_holder_of_the_lock_keeps_no_one_waiting(tmp_path: Path) -> None:
    write_model(tmp_path / "kick.distill")
    with subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        holder.kill()
        assert [entry.name for entry in ModelLibrary(tmp_path).entries()] == ["kick"]


# A damaged index


def indexed(folder: Path) -> tuple[ModelLibrary, list[ModelEntry], bytes]:
    """A library of three, what is in it, and its whole index."""
    for name in ("kick", "snare", "hat"):
        write_model(folder / f"{name}.distill", val_loss=0.5)
    library = ModelLibrary(folder)
    return library, library.entries(), (folder / "library.json").read_bytes()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelLibrary, list[ModelEntry], bytes]:
    return indexed(tmp_path_factory.mktemp("models"))


def assert_made_anew(library: ModelLibrary, entries: list[ModelEntry], damaged: bytes) -> None:
    """With this index all models are listed, and it is kept aside unless it says the same in other white space."""
    for old in library.folder.glob("library.broken*"):
        old.unlink()
    (library.folder / "library.json").write_bytes(damaged)
    assert library.entries() == entries
    kept = [path.read_bytes() for path in library.folder.glob("library.broken*")]
    assert kept == [damaged] or json.loads(damaged) == json.loads((library.folder / "library.json").read_bytes())


@settings(max_examples=60)
@given(share=st.floats(0, 1))
def test_an_index_cut_short_anywhere_is_made_anew(shared, share: float) -> None:
    library, entries, whole = shared
    assert_made_anew(library, entries, whole[: int(share * (len(whole) - 2))])


@settings(max_examples=150)
@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_an_index_with_any_byte_changed_is_made_anew(shared, place: float, flip: int) -> None:
    library, entries, whole = shared
    damaged = bytearray(whole)
    damaged[int(place * len(whole))] ^= flip
    assert_made_anew(library, entries, bytes(damaged))


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=100)
@given(data=st.data(), value=ANY_JSON)
def test_an_index_with_any_part_of_another_type_is_made_anew(shared, data: st.DataObject, value: object) -> None:
    library, entries, whole = shared
    content = json.loads(whole)
    part = data.draw(st.sampled_from(["", *content, *content["models"][0]]))
    if part in content:
        content[part] = value
    elif part:
        content["models"][0][part] = value
    assert_made_anew(library, entries, json.dumps(content if part else value).encode())


@pytest.mark.parametrize("name", ["../x.distill", "/x.distill", "a/../kick.distill", "", ".", 5, ["kick.distill"]])
def test_an_entry_whose_file_is_no_name_in_the_folder_is_refused(tmp_path: Path, name: object) -> None:
    _, (entry, *_), _ = indexed(tmp_path)
    with pytest.raises(ConfigError, match="file"):
        ModelEntry(**dataclasses.asdict(entry) | {"file": name})


def test_every_broken_index_is_kept_beside_those_before(tmp_path: Path) -> None:
    library, entries, _ = indexed(tmp_path)
    for text in ("first", "second", "third"):
        (tmp_path / "library.json").write_text(text)
        assert library.entries() == entries
    assert {path.read_text() for path in tmp_path.glob("library.broken*.json")} == {"first", "second", "third"}


def test_a_folder_in_the_place_of_the_index_is_put_aside(tmp_path: Path) -> None:
    library, entries, _ = indexed(tmp_path)
    (tmp_path / "library.json").unlink()
    (tmp_path / "library.json").mkdir()
    assert library.entries() == entries
    assert (tmp_path / "library.broken.json").is_dir()


def test_an_index_that_may_not_be_read_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library, _, whole = indexed(tmp_path)

    def refuse(path: Path, limit: int) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:  # root may read everything
        patch.setattr("distill.library.index.read_plain", refuse)
        with pytest.raises(LibraryError, match=r"library\.json: Permission denied"):
            library.entries()
    assert (tmp_path / "library.json").read_bytes() == whole
    assert not list(tmp_path.glob("library.broken*"))


def test_adding_to_a_library_with_a_broken_index_keeps_the_others(tmp_path: Path) -> None:
    library, entries, _ = indexed(tmp_path)
    (tmp_path / "library.json").write_text("")
    library.add(ModelEntry.of_file(write_model(tmp_path / "tom.distill")))
    assert {entry.name for entry in library.entries()} == {entry.name for entry in entries} | {"tom"}


# What a crash, or a hand, can leave in the folder


def test_a_rename_broken_off_after_its_first_half_is_finished_in_the_list(tmp_path: Path) -> None:
    library, _, _ = indexed(tmp_path)
    write_model(tmp_path / "kick.distill", "Big Kick", model_id="id-kick")  # the new name in the old place
    assert library.find("id-kick").name == "Big Kick"
    (tmp_path / "kick.distill").rename(tmp_path / "Big Kick.distill")  # and the index knows nothing of it
    assert library.find("id-kick").file == "Big Kick.distill"
    assert len(library.entries()) == 3


def test_copies_with_one_id_are_told_apart_and_deleted_by_file(tmp_path: Path) -> None:
    library, _, _ = indexed(tmp_path)
    shutil.copy(tmp_path / "kick.distill", tmp_path / "copy.distill")
    with pytest.raises(LibraryError, match=r"by its file: copy\.distill, kick\.distill"):
        library.remove("id-kick")
    library.delete(library.find("copy.distill"))
    assert library.find("id-kick").file == "kick.distill"
    assert not (tmp_path / "copy.distill").exists()


def test_a_model_that_was_replaced_after_it_was_looked_up_is_not_deleted(tmp_path: Path) -> None:
    library, _, _ = indexed(tmp_path)
    entry = library.find("kick")
    write_model(tmp_path / "kick.distill", "another", dataset_name="other sounds")
    with pytest.raises(LibraryError, match="nothing was deleted"):
        library.delete(entry)
    assert library.find("another").file == "kick.distill"


def test_a_pipe_named_like_a_model_keeps_no_one_waiting(tmp_path: Path) -> None:
    library, entries, _ = indexed(tmp_path)
    os.mkfifo(tmp_path / "pipe.distill")
    assert library.entries() == entries


INDEXES = {
    "a pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "gigabytes of nothing": lambda path: (path.touch(), os.truncate(path, 4 << 30)),
    "brackets": lambda path: path.write_bytes(b"[" + b"[]," * (5 << 20) + b"0]"),
}


@pytest.mark.parametrize("kind", INDEXES)
def test_whatever_lies_in_the_place_of_the_index_is_put_aside_unread(tmp_path: Path, kind: str) -> None:
    library, entries, _ = indexed(tmp_path)
    (tmp_path / "library.json").unlink()
    INDEXES[kind](tmp_path / "library.json")
    assert library.entries() == entries
    assert os.path.lexists(tmp_path / "library.broken.json")
    assert library.entries() == entries


def test_files_of_strangers_are_read_while_the_library_is_free_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library, entries, _ = indexed(tmp_path)
    write_model(tmp_path / "new.distill")
    free = []

    def read(path: Path) -> object:
        free.append(not FileLock(tmp_path / ".library.lock", is_singleton=True).is_locked)
        return read_header(path)

    monkeypatch.setattr("distill.library.entry.read_header", read)
    assert len(library.entries()) == len(entries) + 1
    assert len(library.rebuild()) == len(entries) + 1
    assert free == [True] * (len(entries) + 2)


def test_a_model_that_cannot_be_loaded_is_marked(tmp_path: Path) -> None:
    write_model(tmp_path / "good.distill")
    torch.save(torch.load(tmp_path / "good.distill") | {"version": 3}, tmp_path / "newer.distill")
    write_model(tmp_path / "foreign.distill", model_type="gan")
    for kind in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
        content = torch.load(tmp_path / "good.distill")
        content["model_state_dict"]["weight"] = torch.tensor([1.0, float("-inf")], dtype=kind)
        torch.save(content, tmp_path / f"{str(kind)[6:]}.distill")
    problems = {entry.file.removesuffix(".distill"): entry.problem for entry in ModelLibrary(tmp_path).entries()}
    not_finite = dict.fromkeys(("float32", "float16", "bfloat16", "float64"), "its weights are not all finite numbers")
    known = {"good": "", "newer": "made by a newer distill", "foreign": "its family is not known"}
    assert problems == known | not_finite
    listed = run("models", "list", "--models-dir", tmp_path).out
    assert listed.count("cannot be loaded: its weights are not all finite numbers") == 4


def test_the_index_of_an_earlier_release_is_made_anew_without_a_word(tmp_path: Path, caplog) -> None:
    library, entries, _ = indexed(tmp_path)
    content = json.loads((tmp_path / "library.json").read_text()) | {"version": 2}
    (tmp_path / "library.json").write_text(json.dumps(content))
    assert library.entries() == entries
    assert not list(tmp_path.glob("library.broken*"))
    assert caplog.text == ""


@pytest.fixture
def read_only(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A library that everybody can read and nobody write."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "models"
        write_model(folder / "kick.distill")
        for path, mode in ((Path(name), 0o755), (folder / "kick.distill", 0o444), (folder, 0o555)):
            path.chmod(mode)
        yield folder
        folder.chmod(0o755)


@pytest.mark.parametrize("index", ["none", "whole", "damaged"])
def test_a_library_that_can_only_be_read_is_listed_and_used_by_name(read_only: Path, index: str) -> None:
    read_only.chmod(0o755)
    if index != "none":
        ModelLibrary(read_only).entries()
        for path in read_only.iterdir():
            path.chmod(0o444)
    if index == "damaged":
        (read_only / "library.json").write_text("{")
    read_only.chmod(0o555)
    before = tree(read_only)

    def use(say: Callable[[object], None]) -> None:
        os.setgroups([]), os.setgid(65534), os.setuid(65534)
        library = ModelLibrary(read_only)
        library.forget_discarded()
        say([entry.name for entry in library.entries()])
        say(library.find("kick").file)
        say(locate("kick", read_only)[1].name)
        say(len(library.rebuild()))

    if os.geteuid():
        pytest.skip("only root can become somebody else")
    assert in_child(use) == ["['kick']", "kick.distill", "kick", "1"]
    assert tree(read_only) == before


@pytest.mark.parametrize("count", [40, pytest.param(10_000, marks=pytest.mark.soak)])
def test_a_mutant_of_the_index_lists_what_the_files_say(
    tmp_path: Path, count: int, counted: Callable[[str, int], None]
) -> None:
    library, entries, whole = indexed(tmp_path)
    rng = random.Random(0)
    for _ in range(count):
        place = rng.randrange(len(whole))
        mutants = [whole[:place], whole[:place] + whole[place + 1 :], whole[:place] + b"[" + whole[place:]]
        changed = bytes([whole[place] ^ (1 << rng.randrange(8))])
        (tmp_path / "library.json").write_bytes(rng.choice([*mutants, whole[:place] + changed + whole[place + 1 :]]))
        assert library.entries() == entries
        for path in tmp_path.glob("library.broken*"):
            path.unlink()
    counted("mutants of library.json", count)
