"""The library follows the files in its folder, whatever happens to them or to its index."""

import dataclasses
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.errors import DistillError, LibraryError, ModelFileError, StorageError
from distill.library.catalog import SORT_KEYS, ModelEntry, ModelLibrary
from distill.library.header import Header, ModelMetadata, read_header
from distill.models.persistence import rename_model
from distill.notices import ModelYoung
from support.models import write_model
from support.waiting import PATIENCE_S


@pytest.fixture
def library(tmp_path) -> ModelLibrary:
    """Three models: kick (oldest, best), snare, hat (newest, worst)."""
    folder = tmp_path / "models"
    write_model(folder / "kick.distill", "Deep Kick", val_loss=0.1, save_date="2025-01-01", dataset_name="Drums")
    write_model(folder / "snare.distill", "snare", val_loss=0.2, save_date="2025-01-02", dataset_name="Drums", epochs=7)
    write_model(folder / "hat.distill", "Open Hat", val_loss=0.3, save_date="2025-01-03", dataset_name="metal")
    return ModelLibrary(folder)


def names(entries: list[ModelEntry]) -> list[str]:
    return [entry.name for entry in entries]


def files(entries: list[ModelEntry]) -> set[str]:
    return {entry.file for entry in entries}


# Listing and finding


def test_an_entry_says_what_its_file_says(library):
    entry = library.find("snare")
    assert (
        dataclasses.asdict(entry).items()
        >= {
            "model_id": "id-snare",
            "name": "snare",
            "file": "snare.distill",
            "model_type": "vqvae",
            "save_date": "2025-01-02",
            "dataset_name": "Drums",
            "file_count": 0,
            "epochs": 7,
            "val_loss": 0.2,
            "num_quantizers": 3,
            "codebook_size": 64,
            "size_bytes": (library.folder / "snare.distill").stat().st_size,
        }.items()
    )
    assert library.path(entry) == library.folder / "snare.distill"


def test_models_are_listed_newest_first_or_by_name_loss_or_size(library):
    write_model(library.folder / "pad.distill", "airy pad", save_date="2024-01-01", dataset_name="x" * 900)
    assert names(library.entries()) == ["Open Hat", "snare", "Deep Kick", "airy pad"]
    assert names(library.entries("name")) == ["airy pad", "Deep Kick", "Open Hat", "snare"]
    assert names(library.entries("loss")) == ["Deep Kick", "snare", "Open Hat", "airy pad"]
    assert names(library.entries("size"))[0] == "airy pad"
    for name in ("take 10", "take 9"):  # in the same second
        write_model(library.folder / f"{name}.distill", name, save_date="2026-01-01")
    assert names(library.entries())[:2] == ["take 9", "take 10"]
    assert names(library.entries("name"))[-2:] == ["take 9", "take 10"]
    assert SORT_KEYS == ("date", "name", "loss", "size")


def test_a_loss_that_is_no_number_comes_last(library):
    for n in range(3):
        write_model(library.folder / f"a{n}.distill", val_loss=float("nan"))
    assert names(library.entries("loss"))[:3] == ["Deep Kick", "snare", "Open Hat"]


def test_an_unknown_order_is_refused_with_the_known_ones(library):
    with pytest.raises(LibraryError, match="date, name, loss, size"):
        library.entries("colour")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ["Open Hat", "snare", "Deep Kick"]),
        ("KICK", ["Deep Kick"]),
        ("kick deep", ["Deep Kick"]),
        ("drums", ["snare", "Deep Kick"]),
        ("drums sn", ["snare"]),
        ("id-hat", ["Open Hat"]),
        ("kick hat", []),
    ],
)
def test_a_search_wants_every_word_in_any_case(library, text, found):
    assert names(library.search(text)) == found


def test_models_are_filtered_by_family_by_data_set_or_both(library):
    write_model(library.folder / "old.distill", model_type="vae", dataset_name="Drums")
    assert names(library.filter(model_type="vae")) == ["old"]
    assert names(library.filter(dataset_name="metal")) == ["Open Hat"]
    assert names(library.filter("vqvae", "Drums")) == ["snare", "Deep Kick"]
    assert len(library.filter()) == 4


@pytest.mark.parametrize("query", ["id-kick", "id-k", "Deep Kick", "kick", "kick.distill"])
def test_a_model_is_found_by_id_start_of_id_name_or_file(library, query):
    assert library.find(query).name == "Deep Kick"


@pytest.mark.parametrize("query", ["", "tom", "id-", "kic", "../models/kick", ".distill"])
def test_what_is_not_there_is_not_found(library, query):
    with pytest.raises(LibraryError, match="no model"):
        library.find(query)


def test_an_ambiguous_name_is_refused_and_the_ids_are_told(library):
    write_model(library.folder / "kick_2.distill", "Deep Kick", model_id="id-other")
    with pytest.raises(LibraryError, match=r"2 models.*id-kick, id-other"):
        library.find("Deep Kick")
    write_model(library.folder / "kick_3.distill", "Deep Kick")
    with pytest.raises(LibraryError, match="3 models"):
        library.find("Deep Kick")


def test_a_whole_id_is_found_though_another_id_begins_with_it(library):
    write_model(library.folder / "late.distill", model_id="id-kick-2")
    assert library.find("id-kick").name == "Deep Kick"


# Following the files


def test_an_empty_or_missing_folder_lists_nothing_and_is_not_made(tmp_path):
    assert ModelLibrary(tmp_path / "none").entries() == []
    assert not (tmp_path / "none").exists()
    assert ModelLibrary(tmp_path).entries() == []


def test_an_added_entry_is_listed_once_however_often_it_is_added(library):
    entry = ModelEntry.of_file(write_model(library.folder / "new.distill"))
    for _ in range(2):
        library.add(entry)
    assert library.entries().count(entry) == 1
    assert len(library.entries()) == 4


def test_a_file_copied_in_by_hand_appears_and_one_deleted_by_hand_disappears(library):
    assert len(library.entries()) == 3
    write_model(library.folder / "guest.distill")
    (library.folder / "snare.distill").unlink()
    assert set(names(library.entries())) == {"Deep Kick", "Open Hat", "guest"}


def test_a_file_replaced_by_another_model_is_listed_as_what_it_is_now(library):
    assert library.find("snare").model_id == "id-snare"
    path = write_model(library.folder / "snare.distill", "snore", model_id="id-snore")
    os.utime(path, (2_000_000_000, 2_000_000_000))
    assert set(names(library.entries())) == {"Deep Kick", "snore", "Open Hat"}


def test_a_removed_model_is_gone_with_its_file_and_the_others_stay(library):
    removed = library.remove("id-snare")
    assert removed.name == "snare"
    assert not library.path(removed).exists()
    assert names(ModelLibrary(library.folder).entries()) == ["Open Hat", "Deep Kick"]


def test_removing_what_is_not_there_is_refused(library):
    with pytest.raises(LibraryError, match="'id-tom'"):
        library.remove("id-tom")
    assert len(library.entries()) == 3


def test_an_id_that_two_files_share_removes_neither_of_them(library):
    # A copy made by hand has its original's id: which of the two is meant cannot be told.
    shutil.copy(library.folder / "kick.distill", library.folder / "a copy.distill")
    with pytest.raises(LibraryError):
        library.remove("id-kick")
    assert {"kick.distill", "a copy.distill"} <= files(library.entries())


@pytest.mark.parametrize("broken", [b"", b"text", b"PK\x03\x04 no archive"], ids=repr)
def test_a_broken_model_file_hides_no_other(library, broken):
    (library.folder / "broken.distill").write_bytes(broken)
    assert len(library.entries()) == 3


def test_a_folder_named_like_a_model_hides_no_other(library):
    (library.folder / "folder.distill").mkdir()
    assert len(library.entries()) == 3


ODD_PARTS = {
    "health as text": {"codebook_health_snapshot": "good"},
    "health without figures": {"codebook_health_snapshot": {"level_0": None}},
    "settings as text": {"vqvae_config": "abc"},
    "settings by number": {"vqvae_config": {1: 2}},
    "levels as bytes": {"vqvae_config": {"num_quantizers": b"3"}},
    "levels as text": {"vqvae_config": {"num_quantizers": "3"}},
    "levels as a tensor": {"vqvae_config": {"num_quantizers": torch.tensor(3)}},
    "name as a number": {"name": 5},
    "unknown metadata": {"colour": "red"},
}


@pytest.mark.parametrize("odd", ODD_PARTS.values(), ids=ODD_PARTS)
def test_a_file_with_odd_parts_is_listed_or_left_out_and_hides_no_other(library, odd):
    write_model(library.folder / "odd.distill", **odd)
    assert {"kick.distill", "snare.distill", "hat.distill"} <= files(library.entries("name"))
    assert {"kick.distill", "snare.distill", "hat.distill"} <= files(ModelLibrary(library.folder).entries("name"))
    assert not (library.folder / "library.broken.json").exists()


@pytest.mark.parametrize(
    "value", [{3}, b"3", {"a": {3}}, float("nan"), 10**5000], ids=["set", "bytes", "nested", "nan", "huge"]
)
def test_settings_that_json_cannot_hold_hide_no_other_model(library, value):
    content = {"format": "distill_model", "model_type": "vqvae", "metadata": {"name": "odd"}}
    content["vqvae_config"] = {"num_quantizers": value, "codebook_size": value}
    archive_of(library.folder / "odd.distill", pickle.dumps(content, protocol=4))
    for _ in range(2):
        assert {"kick.distill", "snare.distill", "hat.distill"} <= files(library.entries())
    assert not (library.folder / "library.broken.json").exists()


# A lost or broken index


def test_a_lost_index_is_made_anew_from_the_files(library):
    before = library.entries()
    (library.folder / "library.json").unlink()
    assert library.entries() == before
    assert library.rebuild() == sorted(before, key=lambda entry: entry.file)


BROKEN = {
    "empty": "",
    "cut short": '{"format": "distill_library", "models": [{"model_id": "id-k',
    "a list": "[]",
    "a number": "5",
    "another format": '{"format": "other", "models": []}',
    "without models": '{"format": "distill_library"}',
    "models as text": '{"format": "distill_library", "models": "kick"}',
    "a model as text": '{"format": "distill_library", "models": ["kick"]}',
    "an unknown field": '{"format": "distill_library", "models": [{"model_id": "id-kick", "colour": "red"}]}',
    "fields of the wrong type": json.dumps(
        {
            "format": "distill_library",
            "models": [{"model_id": 1, "name": None, "file": "kick.distill", "model_type": 2, "save_date": 3}],
        }
    ),
    "a file of the wrong type": json.dumps(
        {
            "format": "distill_library",
            "models": [{"model_id": "", "name": "", "file": [], "model_type": "", "save_date": ""}],
        }
    ),
    "very deep": "[" * 100_000,
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_broken_index_is_made_anew_and_kept_aside(library, text):
    (library.folder / "library.json").write_text(text)
    for order in SORT_KEYS:
        assert set(names(library.entries(order))) == {"Deep Kick", "snare", "Open Hat"}
    assert (library.folder / "library.broken.json").read_text() == text


@settings(max_examples=30)
@given(st.binary(max_size=200))
def test_no_bytes_in_the_index_keep_the_models_from_being_listed(library, content):
    (library.folder / "library.json").write_bytes(content)
    assert set(names(library.entries())) == {"Deep Kick", "snare", "Open Hat"}


def test_an_index_that_names_files_elsewhere_lists_only_those_of_the_folder(library):
    entry = {"model_id": "x", "name": "x", "file": "../x.distill", "model_type": "vqvae", "save_date": ""}
    write_model(library.folder.parent / "x.distill")
    (library.folder / "library.json").write_text(json.dumps({"format": "distill_library", "models": [entry]}))
    assert set(names(library.entries())) == {"Deep Kick", "snare", "Open Hat"}
    with pytest.raises(LibraryError):
        library.remove("x")


# Names of new files


def test_a_new_file_gets_a_free_name_in_the_folder(library):
    with library.new_file("kick") as path:
        assert path == library.folder / "kick_2.distill"
    with library.new_file("../../tom") as path:
        assert path.parent == library.folder


@settings(max_examples=50)
@given(st.text(max_size=400) | st.text(alphabet="音ä", min_size=80, max_size=300))
def test_any_name_gives_a_path_in_the_folder_that_can_be_written(tmp_path, name):
    library = ModelLibrary(tmp_path)
    with library.new_file(name) as path:
        path.write_bytes(b"")
        assert path.parent == tmp_path
        path.unlink()


# Many at once


def test_threads_that_add_at_once_lose_nothing(tmp_path):
    made = [write_model(tmp_path / f"m{n}.distill") for n in range(20)]

    def add(path: Path) -> None:
        ModelLibrary(tmp_path).add(ModelEntry.of_file(path))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, made))
    stored = json.loads((tmp_path / "library.json").read_text())["models"]
    assert {item["file"] for item in stored} == {path.name for path in made}


def test_processes_that_add_at_once_lose_nothing(tmp_path):
    seed, folder = write_model(tmp_path / "seed.distill"), tmp_path / "models"
    script = """if True:
        import shutil, sys
        from distill.library.catalog import ModelEntry, ModelLibrary
        library = ModelLibrary(sys.argv[1])
        for _ in range(5):
            with library.new_file("drum") as path:
                shutil.copy(sys.argv[2], path)
                library.add(ModelEntry.of_file(path))
    """
    adding = [subprocess.Popen([sys.executable, "-c", script, str(folder), str(seed)]) for _ in range(4)]
    assert [process.wait() for process in adding] == [0] * 4
    stored = json.loads((folder / "library.json").read_text())["models"]
    assert len({item["file"] for item in stored}) == len(list(folder.glob("*.distill"))) == 20


def test_who_finds_the_library_locked_waits_for_his_turn(library, monkeypatch):
    order, refused = [], threading.Event()
    # Between two tries to get it, the lock sleeps.
    monkeypatch.setattr(time, "sleep", lambda seconds, sleep=time.sleep: (refused.set(), sleep(seconds)))

    def list_models() -> None:
        ModelLibrary(library.folder).entries()
        order.append("listed")

    with library.new_file("tom"):
        waiting = threading.Thread(target=list_models)
        waiting.start()
        assert refused.wait(PATIENCE_S)
        order.append("released")
    waiting.join()
    assert order == ["released", "listed"]


def test_a_library_that_stays_locked_is_told(library, monkeypatch):
    monkeypatch.setattr("distill.library.lock._TIMEOUT_S", 0.1)
    raised = []

    def list_models() -> None:
        try:
            ModelLibrary(library.folder).entries()
        except LibraryError as error:
            raised.append(str(error))

    with library.new_file("tom"):
        waiting = threading.Thread(target=list_models)
        waiting.start()
        waiting.join()
    assert "in use by another distill" in raised[0]


def test_a_library_that_cannot_be_locked_is_told_in_our_words(library):
    (library.folder / ".library.lock").unlink(missing_ok=True)
    (library.folder / ".library.lock").mkdir()
    with pytest.raises(DistillError, match="models"):
        library.entries()


def test_a_model_that_cannot_be_deleted_is_a_storage_error_and_stays_listed(library, monkeypatch):
    def refuse(path, missing_ok=False):
        raise PermissionError(13, "Permission denied")

    library.entries()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        with pytest.raises(StorageError, match=r"kick\.distill.*Permission denied"):
            library.remove("id-kick")
    assert len(library.entries()) == 3


# Headers


@pytest.mark.parametrize(("epochs", "best", "young"), [(2, 1, True), (9, 8, True), (9, 5, False), (10, 9, False)])
def test_a_model_is_young_if_few_epochs_have_not_brought_it_to_its_best(epochs: int, best: int, young: bool) -> None:
    header = Header(model_type="vae", metadata=ModelMetadata(epochs=epochs, best_epoch=best))
    assert [type(remark) for remark in header.remarks] == [ModelYoung] * young


def test_facts_for_people_count_epochs_from_one_and_name_nothing_that_there_is_not() -> None:
    facts = Header(model_type="vae", metadata=ModelMetadata(epochs=3, best_epoch=1)).facts()
    assert (facts["kept_epoch"], facts["epochs"]) == (2, 3)
    assert not facts.keys() & {"best_epoch", "validation_vectors", "val_loss"}
    assert Header(model_type="vqvae", metadata=ModelMetadata(validation_vectors=9)).facts()["validation_vectors"] == 9


def test_the_library_is_listed_without_torch(library):
    script = "import sys; from distill.library.catalog import ModelLibrary\n"
    script += "print(len(ModelLibrary(sys.argv[1]).entries()), 'torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", script, str(library.folder)], capture_output=True, text=True)
    assert told.stdout.split() == ["3", "False"], told.stderr


def test_a_header_has_metadata_settings_and_health(library):
    header = read_header(library.folder / "snare.distill")
    assert header.model_type == "vqvae"
    assert header.metadata == ModelMetadata(
        name="snare", model_id="id-snare", save_date="2025-01-02", dataset_name="Drums", epochs=7, val_loss=0.2
    )
    assert header.settings == {"num_quantizers": 3, "codebook_size": 64}
    assert header.health == {"level_0": {"utilization": 0.5, "perplexity": 2.0, "dead_codes": 1}}


class Call:
    """Unpickles into `function(*arguments)`."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def archive_of(path: Path, pickled: bytes, member: str = "archive/data.pkl") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, pickled)
    return path


def hostile_calls(canary: Path) -> dict[str, Call]:
    command = f"__import__('pathlib').Path({str(canary)!r}).touch()"
    return {
        "os.system": Call(os.system, f"touch '{canary}'"),
        "eval": Call(eval, command),
        "exec": Call(exec, command),
        "open": Call(io.open, str(canary), "w"),
        "subprocess": Call(subprocess.run, ["touch", str(canary)]),
        "torch.load": Call(torch.load, str(canary)),
    }


@pytest.mark.parametrize("kind", hostile_calls(Path()))
def test_a_hostile_header_is_refused_and_runs_nothing(tmp_path, kind):
    call = hostile_calls(tmp_path / "canary")[kind]
    content = {"format": "distill_model", "model_type": "vqvae", "metadata": {"name": call}, "vqvae_config": {}}
    with pytest.raises(ModelFileError):
        read_header(archive_of(tmp_path / "x.distill", pickle.dumps(content)))
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("kind", ["os.system", "eval", "exec", "subprocess"])
def test_the_hostile_headers_above_are_hostile_to_others(tmp_path, kind):
    pickle.loads(pickle.dumps(hostile_calls(tmp_path / "canary")[kind]))
    assert (tmp_path / "canary").exists()


@settings(max_examples=100)
@given(st.binary(max_size=100))
def test_any_pickle_is_a_header_or_a_model_file_error(tmp_path_factory, pickled):
    path = archive_of(tmp_path_factory.getbasetemp() / "any.distill", pickled)
    with pytest.raises(ModelFileError):
        read_header(path)


@pytest.mark.parametrize("health", [{"level_0": {}}, {"level_0": {"utilization": "x"}}, {"level_0": 1}])
def test_a_header_with_half_of_a_health_is_refused(tmp_path, health):
    with pytest.raises(ModelFileError, match="its metadata is damaged"):
        read_header(write_model(tmp_path / "kick.distill", codebook_health_snapshot=health))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.99])
def test_a_header_cut_short_is_refused(tmp_path, share):
    path = write_model(tmp_path / "x.distill")
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ModelFileError, match=r"x\.distill"):
        read_header(path)


def test_archives_without_one_header_are_refused(tmp_path):
    for place in ("elsewhere", "archive/data.pkl"):
        with pytest.raises(ModelFileError, match="not a readable model file"):
            read_header(archive_of(tmp_path / "x.distill", bytes(10), place))
    with pytest.raises(ModelFileError, match="no such file"):
        read_header(tmp_path / "missing.distill")


@pytest.mark.parametrize("odd", ODD_PARTS.values(), ids=ODD_PARTS)
def test_a_header_with_odd_parts_is_read_or_refused_as_a_model_file(tmp_path, odd):
    path = write_model(tmp_path / "odd.distill", **odd)
    try:
        header = read_header(path)
    except ModelFileError:
        return
    assert (header.model_type, header.metadata.name) == ("vqvae", odd.get("name", "odd"))


# Deleted with a way back


def test_a_discarded_model_is_out_of_the_library_and_can_be_had_back(library: ModelLibrary) -> None:
    before, kick = library.entries(), library.find("Deep Kick")
    kept = library.discard(kick)
    assert names(library.entries()) == ["Open Hat", "snare"]
    assert library.rebuild() == sorted((e for e in before if e != kick), key=lambda e: e.file)
    write_model(library.folder / "kick.distill", "another kick")  # meanwhile its name was taken
    back = library.restore(kept)
    assert (back.name, back.file) == ("Deep Kick", "kick_2.distill")
    with pytest.raises(LibraryError, match="deleted for good"):
        library.restore(kept)
    with pytest.raises(LibraryError, match="changed or removed in the meantime"):
        library.discard(kick)


def test_what_was_discarded_long_ago_is_forgotten_and_nothing_else(library: ModelLibrary) -> None:
    kept = [library.discard(entry) for entry in library.entries()]
    old = kept[0].rename(kept[0].with_name(f"1000-{kept[0].name.partition('-')[2]}"))
    odd = write_model(library.folder / ".deleted" / "by hand.distill")
    library.forget_discarded()
    assert not old.exists()
    assert all(path.exists() for path in [*kept[1:], odd])


def test_of_two_who_rename_a_model_one_is_told_that_it_is_gone(library: ModelLibrary) -> None:
    entry = library.find("Deep Kick")
    library.path(entry).rename(library.folder / "kick_renamed.distill")  # what the first one does
    with pytest.raises(ModelFileError):
        rename_model(library, entry, "Other Kick")
    assert "Other Kick" not in names(library.entries())
    assert not library.path(entry).exists()
