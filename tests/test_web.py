"""What the page asks of the server, from the first sound to a model that is heard."""

import contextlib
import dataclasses
import errno
import io
import json
import os
import shutil
import threading
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile
import torch

from distill.audio.io import read_recording
from distill.audio.limits import AudioLimits
from distill.audio.reader import AudioReader
from distill.errors import AudioError, ConfigError, LowerLearningRate, RaiseLimit, StorageError, TrainingError
from distill.families import get_family, register, unregister
from distill.models.persistence import load_any
from distill.notices import FileLeftOut, LevelUnderused, Notice, Overfitting
from distill.storage import append_text, temporary_beside
from distill.training.execution import run_training
from distill.training.families import VAE, VQVAE
from distill.training.metrics import TrainingCompleteEvent, VQEpochMetrics, event_from_dict
from distill.training.preview import list_previews
from distill.training.request import TrainingRequest
from distill.training.run_folder import RunFolder
from distill.web import folders, queue_file
from distill.web.feed import Feed, Tail, entries_from
from distill.web.fresh_thread import in_fresh_thread
from distill.web.log_entries import annotated
from distill.web.messages import in_page_words
from distill.web.pictures import code_tints
from distill.web.queue_file import QueueFile
from support.runs import run_info
from support.sounds import RATE, tone, write_collection
from support.waiting import PATIENCE_S, until
from support.web_server import LONG, Web, web_server

FEW = {"val_fraction": 0.3, "augmentation_copies": 1}
SMALL = FEW | {"codebook_size": 16, "codebook_dim": 8, "batch_size": 4, "chunk_duration_s": 0.5, "with_prior": False}


def wav(seconds: float = 0.4, frequency: float = 330) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, tone(frequency, seconds), RATE, format="WAV")
    return buffer.getvalue()


def samples(content: bytes) -> np.ndarray:
    return soundfile.read(io.BytesIO(content), dtype="float32")[0]


def train(web: Web, folder: Path, name: str = "tones", family: str = "vqvae", **settings):
    report = web.opened(folder)
    wanted = {key: value for key, value in SMALL.items() if key in get_family(family).config.__dataclass_fields__}
    wishes = {"collection": report["id"], "name": name, "family": family}
    return web.post("/api/runs", **wishes, settings=wanted | {"max_epochs": 2} | settings)


def messages(web: Web, run: str, last: str):
    """The (event, data) of a run's stream, up to a log entry or a state called `last`."""
    found = []
    with web.client.stream("GET", f"/api/runs/{run}/events") as stream:
        kind = "log"
        for line in stream.iter_lines():
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: "):
                data = json.loads(line.removeprefix("data: "))
                found.append((kind, data))
                ends = data["state"] == last if kind == "state" else last in {entry["event"] for entry in data}
                kind = "log"
                if ends:
                    return found
    raise AssertionError("the stream ended early")


def log(found) -> list[dict]:
    return [entry for kind, data in found if kind == "log" for entry in data]


# Collections


def test_a_folder_is_looked_through_and_reported_on(web: Web, collection: Path) -> None:
    (collection / "broken.wav").write_text("this is no sound")
    soundfile.write(collection / "quiet.wav", np.zeros(4800), RATE)
    report = web.opened(collection)
    assert (report["usable"], report["total"], report["name"]) == (6, 8, "collection")
    by_name = {file["name"]: file for file in report["files"]}
    assert not by_name["broken.wav"]["usable"]
    assert "broken.wav" not in by_name["broken.wav"]["reason"]
    assert by_name["quiet.wav"]["reason"] == "silent"
    drawn = by_name["tone_00.wav"]["outline"]
    assert len(drawn) == 96
    assert drawn[0] > drawn[-1] >= 0  # a tone that dies away


@pytest.mark.parametrize("path", ["nowhere", "collection/tone_00.wav", "empty", "x" * 300])
def test_what_is_no_collection_is_refused_in_a_sentence(web: Web, collection: Path, path: str) -> None:
    (collection.parent / "empty").mkdir()
    answer = web.client.post("/api/collections", json={"path": str(collection.parent / path)})
    assert answer.status_code == 422
    assert Path(path).name[:20] in answer.json()["error"]
    relative = web.client.post("/api/collections", json={"path": "sounds"})
    assert (relative.status_code, "whole path" in relative.json()["error"]) == (422, True)


@pytest.mark.parametrize("name", ["", "   ", "a\nb", "a\u202eb", "x" * 201])
def test_what_cannot_be_a_name_is_refused(web: Web, name: str) -> None:
    assert web.client.post("/api/collections/uploads", json={"name": name}).status_code == 422


def test_a_run_needs_a_collection_that_was_looked_through(web: Web) -> None:
    key = web.post("/api/collections/uploads", name="nothing yet")["id"]
    for said in ("not been looked through", "no audio files"):
        answer = web.client.post("/api/runs", json={"collection": key})
        assert (answer.status_code, said in answer.json()["error"]) == (422, True), answer.text
        web.post(f"/api/collections/{key}/scan")
        web.wait(f"/api/collections/{key}", state="failed")


def test_dropped_files_become_a_collection_that_is_still_there_next_time(web: Web, home: Path) -> None:
    key = web.post("/api/collections/uploads", name="my/drums")["id"]
    names = ["kick.wav", "kick.wav", "../../evil.wav", "é" * 300 + ".WAV"]
    for number, name in enumerate(names):
        sent = web.client.put(f"/api/collections/{key}/files", params={"name": name}, content=wav(0.2 + 0.1 * number))
        assert sent.status_code == 200, sent.text
    refused = web.client.put(f"/api/collections/{key}/files", params={"name": "notes.txt"}, content=b"text")
    assert (refused.status_code, "notes.txt" in refused.json()["error"]) == (422, True)
    web.post(f"/api/collections/{key}/scan")
    assert web.wait(f"/api/collections/{key}", state="ready")["usable"] == 4
    folder = home / "collections" / "my_drums"
    assert sorted(path.name for path in folder.iterdir()) == ["evil.wav", "kick.wav", "kick_2.wav", "é" * 75 + ".WAV"]
    with web_server(home) as again:
        assert [item["id"] for item in again.get("/api/collections")] == [key]
        again.post(f"/api/collections/{key}/scan")
        assert again.wait(f"/api/collections/{key}", state="ready")["usable"] == 4


def dropped(web: Web, name: str, count: int = 2) -> str:
    """A collection of so many dropped sounds, looked through."""
    key = web.post("/api/collections/uploads", name=name)["id"]
    for number in range(count):
        sound = wav(0.3, 200 + 100 * number)
        web.client.put(f"/api/collections/{key}/files", params={"name": f"{number}.wav"}, content=sound)
    web.post(f"/api/collections/{key}/scan")
    web.wait(f"/api/collections/{key}", state="ready" if count else "failed")
    return key


@pytest.mark.parametrize("count", [2, 0])
def test_dropped_sounds_are_removed_and_brought_back(web: Web, home: Path, count: int) -> None:
    key, folder = dropped(web, "drums", count), home / "collections" / "drums"
    undo = web.client.delete(f"/api/collections/{key}").json()["undo"]
    assert (web.get("/api/collections"), folder.exists()) == ([], False)
    assert web.client.get(f"/api/collections/{key}").status_code == 404
    assert web.post("/api/collections/undo", undo=undo)["id"] == key
    assert len(list(folder.iterdir())) == count
    again = web.client.post("/api/collections/undo", json={"undo": undo})
    assert (again.status_code, again.json()["error"]) == (404, "that cannot be undone any more")
    web.client.delete(f"/api/collections/{key}")
    with web_server(home) as later:
        assert later.get("/api/collections") == []
    assert list((home / "collections").iterdir()) == []  # for good


def test_only_what_was_dropped_is_ever_removed(web: Web, home: Path, collection: Path) -> None:
    own = web.opened(collection)["id"]
    mixed = dropped(web, "mixed")
    (home / "collections" / "mixed" / "notes.txt").write_text("mine")
    linked = dropped(web, "linked")
    (home / "collections" / "linked" / "more").symlink_to(collection)
    for key, said in ((own, "a folder of yours"), (mixed, "by hand"), (linked, "by hand")):
        answer = web.client.delete(f"/api/collections/{key}")
        assert (answer.status_code, said in answer.json()["error"]) == (422, True), answer.text
    assert len(web.get("/api/collections")) == 3
    assert len(list(collection.iterdir())) == 6


def test_a_folder_of_the_user_is_only_read(web: Web, collection: Path) -> None:
    key, before = web.opened(collection)["id"], sorted(collection.iterdir())
    answer = web.client.put(f"/api/collections/{key}/files", params={"name": "new.wav"}, content=wav())
    assert (answer.status_code, "a folder of yours" in answer.json()["error"]) == (422, True)
    assert sorted(collection.iterdir()) == before


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
def test_where_there_are_no_links_dropped_files_arrive_and_replace_nothing(
    web: Web, home: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:  # as exFAT does
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("distill.web.uploads.os.link", refuse)
    key, folder = dropped(web, "drums", 0), home / "collections" / "drums"
    for content in (b"one", b"two"):
        web.client.put(f"/api/collections/{key}/files", params={"name": "kick.wav"}, content=content)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"kick.wav": b"one", "kick_2.wav": b"two"}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("call", ["fsync", "link"])
def test_a_dropped_file_that_cannot_be_written_leaves_nothing(
    web: Web, home: Path, number: int, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    key = dropped(web, "drums", 0)
    monkeypatch.setattr(f"distill.web.uploads.os.{call}", fail)
    if call == "link":  # and what is done instead fails as well
        monkeypatch.setattr(Path, "replace", fail)
    answer = web.client.put(f"/api/collections/{key}/files", params={"name": "kick.wav"}, content=wav())
    assert (answer.status_code, os.strerror(number) in answer.json()["error"]) == (507, True)
    assert list((home / "collections" / "drums").iterdir()) == []


def test_what_a_killed_server_has_half_received_is_gone_at_the_next_start(home: Path) -> None:
    mine = temporary_beside(home / "collections" / "drums" / "kick.wav")
    theirs = mine.with_name(mine.name.replace(f"-{os.getpid()}-", f"-{2**22 + 1}-"))  # of no process that there can be
    for path in (mine, theirs):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half a sound")
    with web_server(home):
        assert list(mine.parent.iterdir()) == [mine]


def test_sounds_that_a_training_needs_are_not_removed(web: Web) -> None:
    key = dropped(web, "drums", 4)
    run = web.post("/api/runs", collection=key, settings=SMALL | {"max_epochs": LONG})["id"]
    answer = web.client.delete(f"/api/collections/{key}")
    assert (answer.status_code, "a training needs drums" in answer.json()["error"]) == (422, True)
    messages(web, run, "VQStepMetrics")
    web.post(f"/api/runs/{run}/cancel")
    web.wait(f"/api/runs/{run}", state="interrupted")
    assert web.client.delete(f"/api/collections/{key}").status_code == 200


def test_a_large_folder_is_looked_for_sounds_behind_the_answer(web: Web, collection: Path, monkeypatch) -> None:
    goes_on, find = threading.Event(), folders.find_sounds
    monkeypatch.setattr(folders, "find_sounds", lambda path: (goes_on.wait(PATIENCE_S), find(path))[1])
    monkeypatch.setattr(folders, "_SOON_S", 0)
    report = web.post("/api/collections", path=str(collection))
    assert (report["state"], report["total"]) == ("scanning", 0)
    lost = web.post("/api/collections", path=str(collection.parent / "nowhere"))["id"]
    goes_on.set()
    assert web.wait(f"/api/collections/{report['id']}", state="ready")["usable"] == 6
    assert "nowhere" in web.wait(f"/api/collections/{lost}", state="failed")["error"]
    assert [folder["id"] for folder in web.get("/api/collections")] == [report["id"]]


def test_a_copy_is_told_by_its_name_and_a_limit_in_words_of_the_page(web: Web, collection: Path) -> None:
    (collection / "more").mkdir()
    shutil.copy(collection / "tone_00.wav", collection / "more" / "copy.wav")
    soundfile.write(collection / "many.wav", np.ones((4800, 9)), RATE)
    by_name = {file["name"]: file for file in web.opened(collection)["files"]}
    assert by_name["tone_00.wav"]["reason"] == f"duplicate of {Path('more', 'copy.wav')}"
    assert by_name["many.wav"]["reason"] == (
        "has 9 channels; the limit is 8; save it with fewer channels, as stereo or mono"
    )


def test_the_plan_says_what_would_be_trained_and_why(web: Web, collection: Path) -> None:
    key = web.opened(collection)["id"]
    whole = web.post(f"/api/collections/{key}/plan")
    assert (whole["files"], whole["config"]["codebook_size"], whole["config"]["num_quantizers"]) == (6, 128, 4)
    assert "4 levels of 128 codes" in whole["why"][0]
    fewer = web.post(
        f"/api/collections/{key}/plan", excluded=["tone_00.wav", "tone_01.wav"], settings={"num_quantizers": 2}
    )
    assert (fewer["files"], fewer["config"]["num_quantizers"]) == (4, 2)
    assert fewer["kbits"] == pytest.approx(whole["kbits"] / 2)
    for wrong, names in (
        ({"excluded": [f"tone_0{number}.wav" for number in range(5)]}, "only one usable"),
        ({"excluded": [f"tone_0{number}.wav" for number in range(6)]}, "no sound is left"),
        ({"settings": {"files": 1, "family": "vae"}}, "'family'"),
        ({"settings": {"no_such": 1}}, "no_such"),
        ({"settings": {"num_quantizers": 9}}, "num_quantizers"),
        ({"family": "gan"}, "family"),
    ):
        answer = web.client.post(f"/api/collections/{key}/plan", json=wrong)
        assert (answer.status_code, names in answer.json()["error"]) == (422, True), answer.text


def test_a_plan_and_its_run_have_the_rate_of_the_sounds(web: Web, tmp_path: Path) -> None:
    folder = write_collection(tmp_path / "kit", 4, rate=22_050)
    soundfile.write(folder / "z.wav", tone(330, 0.3), RATE)
    key = web.opened(folder)["id"]
    mixed, alike = (web.post(f"/api/collections/{key}/plan", excluded=names) for names in ([], ["z.wav"]))
    assert any("mono, at 48,000 Hz:" in sentence for sentence in mixed["why"])
    assert any("mono, at 22,050 Hz, the rate of all sounds:" in sentence for sentence in alike["why"])
    assert (mixed["sample_rate"], alike["sample_rate"]) == (48_000, 22_050)
    assert alike["kbits"] / mixed["kbits"] == pytest.approx((22_050 / 256) / (48_000 / 512))
    assert f"{alike['kbits']:.4g} kbit/s" in alike["why"][0]
    wishes = {"excluded": ["z.wav"], "settings": SMALL | {"max_epochs": 1}}
    run = web.post("/api/runs", collection=key, name="low", **wishes)["id"]
    made = web.wait(f"/api/runs/{run}", state="finished")
    assert made["sample_rate"] == web.get(f"/api/models/{made['model_id']}")["sample_rate"] == 22_050
    info = web.state.runs.get(run).info
    assert (info.spectrogram_config["sample_rate"], info.spectrogram_config["hop_length"]) == (22_050, 256)
    assert load_any(info.model_path).sample_rate == 22_050


# Runs


def test_a_run_is_watched_live_and_replayed_alike(web: Web, collection: Path, home: Path) -> None:
    run = train(web, collection, preview_interval=1)
    live = messages(web, run["id"], "finished")
    assert live[0] == ("restart", [])
    states = [data["state"] for kind, data in live if kind == "state"]
    assert states[-2:] == ["running", "finished"] or states == ["finished"]
    replayed = messages(web, run["id"], "finished")
    assert log(replayed) == log(live)
    on_disk = RunFolder(home / "runs" / run["id"])
    added = {"type", "verdicts", "subject"}
    plain = [{name: value for name, value in entry.items() if name not in added} for entry in log(live)]
    assert plain == on_disk.log()
    events = [event_from_dict(entry) for entry in plain if entry["event"] != "Warning"]
    assert isinstance(events[-1], TrainingCompleteEvent)
    epochs = [entry for entry in log(live) if entry["event"] == "VQEpochMetrics"]
    assert [len(epoch["verdicts"]) for epoch in epochs] == [4, 4]
    assert [epoch["type"] for epoch in epochs] == ["epoch", "epoch"]
    assert {entry["type"] for entry in log(live)} - {"warning"} == {"step", "epoch", "preview", "complete"}
    assert {verdict["colour"] for epoch in epochs for verdict in epoch["verdicts"]} <= {"green", "amber", "red"}
    assert web.get(f"/api/runs/{run['id']}")["model_id"] == web.get("/api/models")[0]["id"]


def test_what_a_warning_says_can_be_done_on_the_page(web: Web, collection: Path) -> None:
    run = train(web, collection, max_epochs=1)
    messages(web, run["id"], "finished")
    folder = web.state.runs.get(run["id"]).folder
    folder.append_warning(FileLeftOut("long.wav", "lasts longer than the limit of 2 h", RaiseLimit("hours", "3")))
    append_text(folder.events_path, json.dumps({"event": "Warning", "message": "of an earlier version"}) + "\n")
    odd = {"event": "Warning", "kind": "FileLeftOut", "values": {}, "message": "odd"}
    append_text(folder.events_path, json.dumps(odd) + "\n")
    told = [entry["message"] for entry in log(messages(web, run["id"], "finished")) if entry["event"] == "Warning"]
    assert told[-3:] == [
        "long.wav left out: lasts longer than the limit of 2 h; cut it into shorter files",
        "of an earlier version",
        "odd",
    ]


def test_warnings_of_one_subject_are_told_to_be_so() -> None:
    def subjects(*entries: dict) -> list[str]:
        return [entry["subject"] for entry in annotated([{"event": "Warning"} | entry for entry in entries], None)]

    def told(notice: Notice) -> dict:
        return {"message": str(notice)} | json.loads(json.dumps(notice.to_dict()))

    first, again, other = (LevelUnderused(0, 0.1), LevelUnderused(0, 0.2), LevelUnderused(1, 0.1))
    one, two, three = subjects(*map(told, (first, again, other)))
    assert one == two != three
    gap, wider = subjects(told(Overfitting(3, 0.05)), told(Overfitting(4, 0.06)))
    assert gap == wider
    changed = told(Overfitting(3, 0.05)) | {"values": {"of": "another version"}}
    assert annotated([{"event": "Warning"} | changed], None)[0]["message"] == changed["message"]


def test_an_event_of_a_later_version_has_no_type() -> None:
    assert annotated([{"event": "FromTheFuture", "epoch": 1}], None) == [
        {"event": "FromTheFuture", "epoch": 1, "type": None}
    ]


def test_the_page_is_told_of_every_family_in_the_registry(web: Web) -> None:
    codes, space = web.get("/api/about")["families"]
    assert [family["name"] for family in (codes, space)] == ["vqvae", "vae"]
    assert [family["has_codes"] for family in (codes, space)] == [True, False]
    assert ("num_quantizers" in codes["settings"], "num_quantizers" in space["settings"]) == (True, False)
    assert codes["losses"][0] == dataclasses.asdict(VQVAE.losses[0])
    assert (codes["panel"], space["panel"]["figures"][0]) == (None, ["kl_divergence", "KL divergence"])
    register(dataclasses.replace(VAE, name="waves", title="Waves", losses=()))
    try:
        assert web.get("/api/about")["families"][2] == space | {"name": "waves", "title": "Waves", "losses": []}
        unknown = web.client.post("/api/runs", json={"collection": "x", "family": "gan"}).json()["error"]
        assert unknown == "the family must be 'vqvae' or 'vae' or 'waves'"
    finally:
        unregister("waves")


def test_how_the_codes_are_used_is_told_for_each_epoch(web: Web, collection: Path) -> None:
    run = train(web, collection, num_quantizers=2)
    messages(web, run["id"], "finished")
    usage = web.client.get(f"/api/runs/{run['id']}/usage")
    assert [int(usage.headers[name]) for name in ("X-Epochs", "X-Levels", "X-Codes")] == [2, 2, 16]
    counts = np.frombuffer(usage.content, np.uint8).reshape(2, 2, 16)
    assert (counts.max(axis=2) == 255).all()
    folder = web.state.runs.get(run["id"]).folder
    assert ((counts > 0) == (np.array([line["counts"] for line in folder.usage()]) > 0)).all()
    for epoch, event in enumerate(e for e in folder.events() if isinstance(e, VQEpochMetrics)):
        used = [level["utilization"] for level in event.codebook_health.values()]
        assert (counts[epoch] > 0).mean(axis=1) == pytest.approx(used)
    later = web.client.get(f"/api/runs/{run['id']}/usage", params={"start": 1})
    assert later.content == usage.content[len(usage.content) // 2 :]


def test_previews_are_heard_and_seen(web: Web, collection: Path) -> None:
    run = train(web, collection, preview_interval=1)
    messages(web, run["id"], "finished")
    (web.state.runs.get(run["id"]).folder.previews / "epoch_of_mine.wav").write_bytes(wav())
    previews = web.get(f"/api/runs/{run['id']}/previews")
    assert {(preview["epoch"], preview["role"]) for preview in previews} == {
        (epoch, role) for epoch in (0, 1) for role in ("original", "reconstruction")
    }
    assert len({preview["sound"] for preview in previews}) == len({preview["number"] for preview in previews}) > 1
    place = f"/api/runs/{run['id']}/previews/{previews[0]['name']}"
    assert np.abs(samples(web.client.get(place).content)).max() > 0.1
    assert web.client.get(f"{place}/mel").content.startswith(b"\x89PNG")
    assert web.client.get(f"/api/runs/{run['id']}/previews/..%2f..%2frun").status_code == 404
    first, *others = list_previews(web.state.runs.get(run["id"]).folder.previews)
    first.write_bytes(first.read_bytes())  # as a run that went back makes it anew
    anew = web.get(f"/api/runs/{run['id']}/previews")
    assert [one["made"] == other["made"] for one, other in zip(previews, anew, strict=True)] == [False] + [True] * len(
        others
    )


def test_runs_wait_for_each_other_and_can_be_taken_off_stopped_and_resumed(web: Web, collection: Path) -> None:
    first = train(web, collection, "first", max_epochs=LONG)
    second = train(web, collection, "second")
    third = train(web, collection, "third", max_epochs=1)
    twins = [train(web, collection, "twin")["id"] for _ in range(2)]
    assert len(set(twins)) == 2
    for twin in twins:
        web.post(f"/api/runs/{twin}/cancel")
    assert [run["name"] for run in web.get("/api/runs")] == ["first", "second", "third"]
    assert web.get(f"/api/runs/{third['id']}")["position"] == 2
    web.post(f"/api/runs/{second['id']}/cancel")
    assert web.client.get(f"/api/runs/{second['id']}").status_code == 404
    messages(web, first["id"], "VQEpochMetrics")
    web.post(f"/api/runs/{first['id']}/cancel")
    web.wait(f"/api/runs/{first['id']}", state="interrupted")
    web.wait(f"/api/runs/{third['id']}", state="finished")
    before = len(web.state.runs.get(first["id"]).folder.events())
    assert web.post(f"/api/runs/{first['id']}/resume")["state"] in ("queued", "running")
    again = web.client.post(f"/api/runs/{first['id']}/resume")
    assert (again.status_code, "already" in again.json()["error"]) == (422, True)
    found = messages(web, first["id"], "VQEpochMetrics")
    web.post(f"/api/runs/{first['id']}/cancel")
    web.wait(f"/api/runs/{first['id']}", state="interrupted")
    assert found
    for path in list(collection.iterdir())[:2]:
        path.unlink()
    gone = web.client.post(f"/api/runs/{first['id']}/resume")
    assert gone.status_code == 422
    assert "2 of the 6 sound files it was started with are no longer where they were" in gone.json()["error"]
    after = len(web.state.runs.get(first["id"]).folder.events())
    assert after >= before - 1  # the completion of the first part is gone


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_file, "_LOCK_TIMEOUT_S", 0.1)


def test_what_waited_when_the_server_ended_is_trained_by_the_next_one(
    home: Path, collection: Path, impatient: None
) -> None:
    with web_server(home) as web:
        first = train(web, collection, "first", max_epochs=LONG)
        second = train(web, collection, "second", max_epochs=LONG, seed=7)
        dropped = train(web, collection, "dropped")
        messages(web, first["id"], "VQEpochMetrics")
        web.post(f"/api/runs/{dropped['id']}/cancel")
    with web_server(home) as web:
        messages(web, second["id"], "VQEpochMetrics")
        web.post(f"/api/runs/{second['id']}/cancel")
        web.wait(f"/api/runs/{second['id']}", state="interrupted")
        assert web.get(f"/api/runs/{second['id']}")["config"]["seed"] == 7
        assert web.get(f"/api/runs/{first['id']}")["state"] == "interrupted"
        assert web.client.get(f"/api/runs/{dropped['id']}").status_code == 404
        long = train(web, collection, "long", max_epochs=LONG)
        messages(web, long["id"], "VQEpochMetrics")
        web.post(f"/api/runs/{second['id']}/resume")
        space = train(web, collection, "space", family="vae", max_epochs=1)
    with web_server(home) as web:
        web.wait(f"/api/runs/{second['id']}", state="running")
        web.post(f"/api/runs/{second['id']}/cancel")
        web.wait(f"/api/runs/{space['id']}", state="finished")
        assert web.get(f"/api/runs/{second['id']}")["state"] == "interrupted"
        assert web.get(f"/api/runs/{long['id']}")["state"] == "interrupted"
    with web_server(home) as web:
        assert web.state.runs.jobs() == []


def test_a_run_that_has_not_read_its_sounds_when_the_server_is_killed_is_begun_by_the_next_one(
    home: Path, collection: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, killed = threading.Event(), threading.Event()
    request = TrainingRequest.for_folder(collection, output_dir=home / "runs" / "one", **SMALL, max_epochs=1)
    read = AudioReader.read
    with web_server(home) as web, monkeypatch.context() as patch:
        patch.setattr(AudioReader, "read", lambda *args: (reading.set(), killed.wait(PATIENCE_S), read(*args))[2])
        web.state.runs.add(dataclasses.replace(request, sounds=None))
        assert reading.wait(PATIENCE_S)
        listed = (home / "runs" / "waiting.json").read_text()
        killed.set()
        web.wait("/api/runs/one", state="finished")
        assert (home / "runs" / "waiting.json").read_text() == "[]"
    shutil.rmtree(home / "runs" / "one")
    (home / "runs" / "waiting.json").write_text(listed)  # as a server that was killed then leaves it
    with web_server(home) as web:
        web.wait("/api/runs/one", state="finished")


def test_a_run_that_cannot_be_noted_is_refused_and_one_taken_off_the_queue_is_off_it(
    web: Web, collection: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = train(web, collection, "first", max_epochs=LONG), train(web, collection, "second")

    def full(*_: object) -> None:
        raise StorageError("waiting.json: no space left")

    monkeypatch.setattr(QueueFile, "save", full)
    wishes = {"collection": web.opened(collection)["id"], "name": "third", "family": "vqvae", "settings": {}}
    refused = web.client.post("/api/runs", json=wishes)
    assert (refused.status_code, refused.json()["error"]) == (507, "waiting.json: no space left")
    assert web.client.post(f"/api/runs/{second['id']}/cancel").status_code == 507
    assert [job.id for job in web.state.runs.jobs()] == [first["id"]]


def test_of_two_servers_only_the_first_keeps_the_list(home: Path, collection: Path, impatient: None) -> None:
    with web_server(home) as web, web_server(home) as beside:
        assert web.state.runs.is_persistent
        assert not beside.state.runs.is_persistent
        train(beside, collection, max_epochs=LONG)
        assert not (home / "runs" / "waiting.json").exists()
        beside.state.runs.close()
        with pytest.raises(ConfigError, match="is shutting down"):
            beside.state.runs.add(TrainingRequest.for_folder(collection, output_dir=home / "runs" / "late"))


def test_a_list_of_waiting_runs_is_read_as_far_as_it_makes_sense(home: Path, collection: Path) -> None:
    place = home / "runs" / "waiting.json"
    place.parent.mkdir(parents=True)
    for content in ("", "{}", "[1]", '[{"family": "vqvae"}]', "\xff", "[" * 100_000):
        place.write_text(content, encoding="latin-1")
        with web_server(home) as web:
            assert web.get("/api/runs") == []
    good = TrainingRequest.for_folder(collection, output_dir=home / "runs" / "one", **SMALL, max_epochs=1).to_dict()
    place.write_text(json.dumps([good | {"config": {"no": "such"}}, good, good | {"resume_from": str(home)}]))
    with web_server(home) as web:
        web.wait("/api/runs/one", state="finished")
        assert len(web.get("/api/runs")) == 1


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (TrainingError("it diverged", LowerLearningRate()), "it diverged; try a lower learning rate"),
        (MemoryError(), "out of memory; try a smaller batch size"),
        (ZeroDivisionError("by nothing"), "unexpected ZeroDivisionError: by nothing"),
    ],
    ids=["ours", "memory", "fault"],
)
def test_what_ended_a_run_is_told_in_words_of_the_page(
    web: Web, collection: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error from OSError("the cause")

    monkeypatch.setattr("distill.training.runner.run_training", fail)
    run = web.wait(f"/api/runs/{train(web, collection)['id']}", state="failed")
    assert run["error"].startswith(said)
    kept = web.state.runs.get(run["id"]).status.error
    assert (kept, kept.__traceback__, kept.__cause__) == (error, None, None)


def test_a_run_that_fails_says_why_and_the_next_one_goes_on(web: Web, collection: Path) -> None:
    report = web.opened(collection)
    for path in list(collection.iterdir())[:-1]:
        path.unlink()
    wishes = {"collection": report["id"], "settings": SMALL | {"max_epochs": 1}}
    failed = web.wait(f"/api/runs/{web.post('/api/runs', **wishes)['id']}", state="failed")
    assert "at least two" in failed["error"] or "sound" in failed["error"]
    assert [run["state"] for run in web.get("/api/runs")] == ["failed"]
    write_collection(collection)
    done = web.wait(f"/api/runs/{web.post('/api/runs', **wishes)['id']}", state="finished")
    assert done["model_id"]


def test_a_run_of_the_command_line_is_watched_and_cannot_be_stopped_here(web: Web, home: Path) -> None:
    run = RunFolder(home / "runs" / "drums")
    with run.in_use():
        run.write_info(run_info(started="2026-01-01T00:00:00+00:00"))
        (found,) = web.get("/api/runs")
        assert (found["state"], found["stoppable"]) == ("running", False)
        assert web.client.post("/api/runs/drums/cancel").status_code == 404
    assert web.get("/api/runs/drums")["state"] == "interrupted"


def test_the_stream_of_a_run_ends_with_it(web: Web, collection: Path) -> None:
    run = train(web, collection)["id"]
    messages(web, run, "finished")
    assert web.client.get(f"/api/runs/{run}/events").text.rstrip().count("event: state") == 1
    before = train(web, collection, "before", max_epochs=LONG)["id"]
    taken = train(web, collection, "taken")["id"]
    with web.client.stream("GET", f"/api/runs/{taken}/events") as stream:
        lines = stream.iter_lines()
        next(line for line in lines if "queued" in line)
        web.post(f"/api/runs/{taken}/cancel")
        *_, last = filter(None, lines)
    assert last == 'data: {"state": "gone"}'
    web.post(f"/api/runs/{before}/cancel")
    web.wait(f"/api/runs/{before}", state="interrupted")


def test_the_server_s_end_stops_a_run_with_a_checkpoint(home: Path, collection: Path) -> None:
    with web_server(home) as web:
        run = train(web, collection, max_epochs=LONG)
        messages(web, run["id"], "VQStepMetrics")
    with web_server(home) as web:
        assert web.get(f"/api/runs/{run['id']}")["state"] == "interrupted"
        web.post(f"/api/runs/{run['id']}/resume")
        messages(web, run["id"], "VQEpochMetrics")


def test_a_log_that_is_rewound_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "log"
    tail = Tail(path)
    assert tail.read() == ([], False)
    path.write_text('{"event": 1}\n{"event": 2}\n{"ev')
    assert tail.read() == ([{"event": 1}, {"event": 2}], False)
    with path.open("a") as file:
        file.write('ent": 3}\n')
    assert tail.read() == ([{"event": 3}], False)
    other = tmp_path / "other"
    other.write_text('{"event": 1}\n')
    other.replace(path)
    assert tail.read() == ([{"event": 1}], True)


def test_a_page_that_watches_steps_asks_little_of_the_server(tmp_path: Path) -> None:
    path, looked = tmp_path / "log", []

    def state() -> dict:
        looked.append(1)
        return {"state": "running"}

    feed = Feed(Tail(path), state, lambda entries: entries)

    def news(*entries: dict) -> list[str]:
        with path.open("a") as file:
            file.writelines(json.dumps(entry) + "\n" for entry in entries)
        return [message.partition("\n")[0] for message in feed.news()]

    step, epoch = {"event": "VQStepMetrics", "step": 1}, {"event": "VQEpochMetrics"}
    assert news(step) == ["event: restart", 'data: [{"event": "VQStepMetrics", "step": 1}]']
    assert (news(step, step | {"step": 2}), len(looked)) == (['data: [{"event": "VQStepMetrics", "step": 2}]'], 0)
    assert news(step, epoch)[1:] == ["event: state"]
    assert (news(), len(looked)) == ([], 2)
    assert (entries_from(path, 3), entries_from(path, 9), entries_from(tmp_path / "none", 0)) == ([step, epoch], [], [])


def test_of_steps_in_a_row_the_page_is_told_the_last_and_everything_in_order(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = [{"step": 1}, {"step": 2}, {"event": "Warning"}, {"step": 3}, {"event": "VQEpochMetrics"}, {"step": 1}]
    path.write_text("".join(json.dumps(entry) + "\n" for entry in log))
    _, told, _ = Feed(Tail(path), dict, lambda entries: entries).news()
    assert json.loads(told.removeprefix("data: ")) == log[1:]


# The library


@pytest.fixture(scope="module")
def model(quick_runs: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained model."""
    base = tmp_path_factory.mktemp("model")
    places = {"output_dir": base / "run", "models_dir": base / "models", "model_name": "tones"}
    run_training(TrainingRequest.for_folder(write_collection(base / "kit"), **places, **SMALL, max_epochs=2))
    (path,) = (base / "models").glob("*.distill")
    return path


@pytest.fixture
def trained(web: Web, model: Path):
    """The library's only model, as the list has it."""
    web.state.library.folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(model, web.state.library.folder)
    return web.get("/api/models")[0]


def refuse(*_: object) -> None:
    raise StorageError("no space left")


def test_a_model_is_shown_renamed_deleted_and_brought_back(web: Web, trained) -> None:
    about = web.get(f"/api/models/{trained['id']}")
    assert len(about["curves"]["train_losses"]) == 2
    assert [len(about[part]) for part in ("health", "verdicts")] == [4, 4]
    renamed = web.client.patch(f"/api/models/{trained['id']}", json={"name": "Bells / soft"}).json()
    assert renamed["name"] == "Bells / soft"
    assert web.get("/api/models", search="bells") == [renamed]
    assert web.get("/api/models", search="drum") == web.get("/api/models", family="vae") == []
    about = {"author": "Ann", "licence": "CC0-1.0", "tags": ["drums", "dusty"]}
    assert web.client.put(f"/api/models/{renamed['id']}/description", json=about).json()["id"] == renamed["id"]
    facts = web.get(f"/api/models/{renamed['id']}")["facts"]
    assert {name: facts[name] for name in about} == about | {"tags": "drums, dusty"}
    refused = web.client.put(f"/api/models/{renamed['id']}/description", json=about | {"tags": ["x" * 51]})
    assert "tags" in refused.json()["error"]
    renamed = web.get("/api/models")[0]
    undo = web.client.delete(f"/api/models/{renamed['id']}").json()["undo"]
    assert web.get("/api/models") == []
    assert web.client.get(f"/api/models/{renamed['id']}").status_code == 404
    with pytest.MonkeyPatch.context() as patch:  # what fails can be tried again
        patch.setattr(web.state.library, "restore", refuse)
        assert web.client.post("/api/models/undo", json={"undo": undo}).status_code == 507
    back = web.post("/api/models/undo", undo=undo)
    assert {**back, "id": ""} == {**renamed, "id": ""}
    assert web.client.post("/api/models/undo", json={"undo": undo}).status_code == 404


def test_a_model_goes_out_and_comes_in_and_a_damaged_one_is_refused(web: Web, trained) -> None:
    whole = {
        kind: web.client.get(f"/api/models/{trained['id']}/file", params={"format": kind}).content
        for kind in ("distill", "safetensors")
    }
    twice = web.client.post("/api/models/import", params={"name": "again.distill"}, content=whole["distill"])
    assert (twice.status_code, "already" in twice.json()["error"]) == (422, True)
    web.client.delete(f"/api/models/{trained['id']}")
    for kind, content in whole.items():
        damaged = content[: len(content) // 2]
        refused = web.client.post("/api/models/import", params={"name": f"odd.{kind}"}, content=damaged)
        assert refused.status_code == 422
        assert str(web.state.work) not in refused.json()["error"]
        added = web.client.post("/api/models/import", params={"name": f"gift.{kind}"}, content=content).json()
        assert added["name"] == trained["name"]
        web.client.delete(f"/api/models/{added['id']}")
    assert list(web.state.work.iterdir()) == []


# Listening


def test_a_sound_is_heard_level_by_level_and_its_codes_are_shown(web: Web, trained) -> None:
    heard = web.client.post(f"/api/models/{trained['id']}/sounds", params={"name": "a.wav"}, content=wav()).json()
    model = load_any(web.state.library.path(web.state.library.entries()[0]))
    played = samples(web.client.get(f"/api/sounds/{heard['sound']}/original").content)
    assert (heard["levels"], heard["rows"], len(heard["outline"])) == (4, 24, 400)
    assert heard["codes"] == model.encode(played, RATE).grid.tolist()
    assert np.shape(heard["tints"]) == (*np.shape(heard["counts"]), 2)
    assert heard["span_seconds"] == 2 * heard["column_seconds"]
    for level, counts in zip(heard["codes"], heard["counts"]):
        assert sum(counts) == sum(code >= 0 for row in level for code in row)
    made = {
        levels: samples(
            web.client.get(f"/api/sounds/{heard['sound']}/reconstruction", params={"levels": levels}).content
        )
        for levels in (1, 4)
    }
    assert made[4] == pytest.approx(model.reconstruct(played, RATE).clip(-1, 1), abs=1e-4)
    assert np.abs(made[1] - made[4]).max() > 1e-3
    for which in ("original", "reconstruction"):
        picture = web.client.get(f"/api/sounds/{heard['sound']}/mel", params={"which": which})
        assert picture.content.startswith(b"\x89PNG")


def test_codes_that_are_alike_have_like_colours_and_long_ones_strong_ones() -> None:
    angles = torch.tensor([0.0, 0.1, 2.0, 2.1, 4.1, 4.2])
    lengths = torch.tensor([1.0, 6.0, 2.0, 5.0, 3.0, 4.0])
    codebook = lengths[:, None] * torch.stack([angles.cos(), angles.sin()], dim=1)
    for codes in (codebook, codebook[:, :1]):
        (tints,) = code_tints(codes[None])
        assert sorted(hue for hue, _ in tints) == pytest.approx(np.arange(6) / 6, abs=1e-3)
    hues = np.array([hue for hue, _ in code_tints(codebook[None])[0]])
    assert all(min(abs(a - b), 1 - abs(a - b)) < 0.2 for a, b in zip(hues[::2], hues[1::2]))
    assert np.argsort([strength for _, strength in code_tints(codebook[None])[0]]).tolist() == [0, 2, 4, 5, 3, 1]


def test_a_stereo_sound_is_heard_in_stereo_and_has_one_grid(web: Web, trained) -> None:
    buffer, wide = io.BytesIO(), np.stack([tone(330, 0.4), tone(770, 0.4)], axis=1)
    soundfile.write(buffer, wide, RATE, format="WAV")
    place = {"params": {"name": "wide.wav"}, "content": buffer.getvalue()}
    heard = web.client.post(f"/api/models/{trained['id']}/sounds", **place).json()
    assert (heard["channels"], len(heard["codes"]), len(heard["outline"])) == (2, 4, 400)
    for which in ("original", "reconstruction"):
        played = samples(web.client.get(f"/api/sounds/{heard['sound']}/{which}").content)
        assert played.shape == wide.shape
        assert np.abs(played[:, 0] - played[:, 1]).max() > 0.01
        picture = web.client.get(f"/api/sounds/{heard['sound']}/mel", params={"which": which})
        assert picture.content.startswith(b"\x89PNG")


def test_what_the_page_has_given_up_while_it_waits_is_not_computed(web: Web, trained) -> None:
    place = f"/api/models/{trained['id']}"
    heard = web.client.post(f"{place}/sounds", params={"name": "a.wav"}, content=wav()).json()["sound"]
    listening, goes_on, made = web.state.listening, threading.Event(), []

    def slow(sound: str, levels: int | None) -> bytes:
        made.append(levels)
        goes_on.wait(PATIENCE_S)
        return b"sound"

    listening.reconstruction = slow

    def ask(levels: int, patience: float = PATIENCE_S) -> None:
        timeout = httpx.Timeout(PATIENCE_S, read=patience)
        with contextlib.suppress(httpx.ReadTimeout):
            web.client.get(f"/api/sounds/{heard}/reconstruction", params={"levels": levels}, timeout=timeout)

    first = threading.Thread(target=ask, args=(1,))
    first.start()
    until(lambda: made)
    ask(2, patience=0.5)  # given up while the first is still being made
    assert len(samples(web.client.get(f"/api/sounds/{heard}/original").content))  # what is there already need not wait
    third = threading.Thread(target=ask, args=(3,))
    third.start()
    goes_on.set()
    for thread in (first, third):
        thread.join()
    assert made == [1, 3]


def test_a_sound_of_a_model_that_has_gone_is_told_in_a_sentence(web: Web, trained) -> None:
    place = f"/api/models/{trained['id']}"
    heard = web.client.post(f"{place}/sounds", params={"name": "a.wav"}, content=wav()).json()["sound"]
    web.client.delete(place)
    answer = web.client.get(f"/api/sounds/{heard}/original")
    assert (answer.status_code, answer.json()["error"]) == (422, "this model is no longer in the library")


def test_what_is_wrong_is_told_in_a_sentence(web: Web, trained) -> None:
    place = f"/api/models/{trained['id']}"
    heard = web.client.post(f"{place}/sounds", params={"name": "a.wav"}, content=wav()).json()["sound"]
    wrong = {
        "not a sound": web.client.post(f"{place}/sounds", params={"name": "a.wav"}, content=b"no sound"),
        "too many levels": web.client.get(f"/api/sounds/{heard}/reconstruction", params={"levels": 5}),
        "a sound that is gone": web.client.get("/api/sounds/0123/original"),
        "no length": web.client.post(f"{place}/sounds/new", json={"seconds": 0}),
        "no model": web.client.get("/api/models/0123"),
        "no route": web.client.get("/api/nothing"),
        "no json": web.client.post("/api/collections", content=b"{", headers={"Content-Type": "application/json"}),
    }
    for name, answer in wrong.items():
        assert 400 <= answer.status_code < 500, name
        assert set(answer.json()) == {"error"}, name
        assert "/tmp" not in answer.json()["error"], name


def test_a_wrong_request_is_told_with_the_field_in_words_and_what_is_allowed(web: Web) -> None:
    post, get = web.client.post, web.client.get
    wrong = {
        "the name is empty": post("/api/collections/uploads", json={"name": " "}),
        "the name is too long: at most 200 characters": post("/api/collections/uploads", json={"name": "x" * 201}),
        "the name has characters that cannot be shown": post("/api/collections/uploads", json={"name": "a\nb"}),
        "the name is missing": post("/api/collections/uploads", json={}),
        "the name must be text": post("/api/collections/uploads", json={"name": 3}),
        "colour is not known here": post("/api/collections/uploads", json={"name": "x", "colour": 1}),
        "the family must be 'vqvae' or 'vae'": post("/api/runs", json={"collection": "x", "family": "gan"}),
        "the list of sounds to leave out must be a list": post("/api/runs", json={"collection": "x", "excluded": 1}),
        "the number of levels must be at least 1": get("/api/sounds/x/reconstruction", params={"levels": 0}),
        "the number of levels must be a whole number": get("/api/sounds/x/reconstruction", params={"levels": "a"}),
        "the length in seconds must be more than 0": post("/api/models/x/sounds/new", json={"seconds": 0}),
        "this request cannot be read": post("/api/runs", content=b"{", headers={"Content-Type": "application/json"}),
    }
    for sentence, answer in wrong.items():
        assert (answer.status_code, answer.json()) == (422, {"error": sentence})


@pytest.mark.parametrize(
    "limit", [{"hours": 0.001}, {"gib": 1e-6}, {"channels": 1}, {"max_hz": 8000}, {"min_hz": 96000}]
)
def test_no_option_of_the_command_line_reaches_the_page(tmp_path: Path, limit: dict) -> None:
    soundfile.write(tmp_path / "long.wav", np.zeros((5 * RATE, 2)), RATE)
    with pytest.raises(AudioError) as error:
        read_recording(tmp_path / "long.wav", AudioLimits(**limit))
    said = in_page_words(error.value)
    assert ("--" in said, "; save it with " in said or "; cut it into shorter files" in said) == (False, True), said


def test_many_pages_can_watch_one_run(web: Web, collection: Path) -> None:
    run = train(web, collection)
    found: list = []
    pages = [threading.Thread(target=lambda: found.append(log(messages(web, run["id"], "finished")))) for _ in range(4)]
    for page in pages:
        page.start()
    for page in pages:
        page.join()
    assert len(found) == 4
    assert all(entries == found[0] for entries in found)
    assert httpx.get(web.address).status_code == 401


def test_what_is_computed_beside_a_training_has_so_many_threads_and_they_are_gone_afterwards() -> None:
    usual = torch.get_num_threads()
    thread, threads = in_fresh_thread(lambda: (threading.current_thread(), torch.get_num_threads()), usual + 1)
    assert threads == usual + 1
    assert not thread.is_alive()
    with pytest.raises(ZeroDivisionError):
        in_fresh_thread(lambda: 1 // 0, usual)  # which is that of all threads to come, too
    assert torch.get_num_threads() == usual
