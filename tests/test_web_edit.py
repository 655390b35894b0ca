"""Editing codes on the page: what is another in a sound is sent, and nothing else; the map; saving."""

import base64
import io
import json

import numpy as np
import pytest
import soundfile

from distill.models.codes import Codes
from distill.models.loaded_vqvae import LoadedVQModel
from distill.models.persistence import load_model_v2
from support.melodies import RATE, melody, save_melody_model
from support.web_server import Web, web_server

DROPPED = {"kind": "sound"}
FIRST = {"kind": "seed", "seed": 1}


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory):
    home = tmp_path_factory.mktemp("home")
    save_melody_model(home / "models")
    with web_server(home) as web:
        yield web


@pytest.fixture(scope="module")
def model(web: Web) -> LoadedVQModel:
    return load_model_v2(web.state.library.path(web.state.library.entries()[0]))


@pytest.fixture(scope="module")
def melodies(web: Web) -> str:
    """The address of the model."""
    return f"/api/models/{web.get('/api/models')[0]['id']}"


@pytest.fixture(scope="module")
def grid(web: Web, melodies: str) -> dict:
    """The codes of a melody of two seconds that was dropped on the model, as the page gets them."""
    buffer = io.BytesIO()
    soundfile.write(buffer, melody(2.0), RATE, format="WAV", subtype="FLOAT")
    dropped = web.client.post(f"{melodies}/sounds", params={"name": "a.wav"}, content=buffer.getvalue()).json()
    return web.get(f"{melodies}/codes", source=json.dumps(DROPPED | {"sound": dropped["sound"]}))


def columns(grid: dict) -> np.ndarray:
    return np.frombuffer(base64.b64decode(grid["codes"]), "<i2").reshape(-1, grid["rows"], grid["levels"]).copy()


def body(grid: dict, codes: np.ndarray, **more) -> dict:
    return {"codes": base64.b64encode(codes.astype("<i2")).decode(), "seconds": grid["seconds"]} | more


def heard(answer: dict, before: np.ndarray) -> np.ndarray:
    """The sound that the page has after a change."""
    new = np.frombuffer(base64.b64decode(answer["samples"]), "<f4")
    return np.concatenate([before[: answer["start"]], new, before[len(before) - answer["left"] :]])


NOTHING = np.zeros(0, np.float32)


def test_the_codes_of_a_sound_are_those_that_the_model_gives_it(web, melodies, grid, model):
    expected = model.encode(melody(2.0))
    assert np.array_equal(columns(grid), expected.grid.T)
    assert (grid["seconds"], grid["sample_rate"]) == (2.0, model.sample_rate)
    assert np.array(grid["tints"]).shape == (grid["levels"], grid["codebook_size"], 2)


def test_of_a_change_the_samples_come_that_it_changes_and_undone_they_are_as_before(web, melodies, grid):
    codes = columns(grid)
    whole = web.post(f"{melodies}/codes/change", **body(grid, codes))
    first = heard(whole, NOTHING)
    assert (len(first), whole["start"], whole["left"]) == (round(grid["seconds"] * grid["sample_rate"]), 0, 0)
    codes[7] = codes[3]
    change = web.post(f"{melodies}/codes/change", **body(grid, codes, known=whole["key"]))
    second = heard(change, first)
    assert len(second) == len(first)
    assert 0 < change["start"] < len(first) - change["left"] < len(first)
    everything = heard(web.post(f"{melodies}/codes/change", **body(grid, codes)), NOTHING)
    assert np.array_equal(everything, second)
    frames = len(base64.b64decode(change["mel"])) / grid["bands"]
    total = len(base64.b64decode(whole["mel"])) / grid["bands"]
    assert frames == total - change["first_frame"] - change["left_frames"] < total
    back = web.post(f"{melodies}/codes/change", **body(grid, columns(grid), known=change["key"]))
    assert back["key"] == whole["key"]
    assert np.array_equal(heard(back, second), first)


def test_after_the_server_has_forgotten_a_sound_all_of_the_next_one_comes(web, melodies, grid):
    answer = web.post(f"{melodies}/codes/change", **body(grid, columns(grid), known="0123"))
    assert (answer["start"], answer["left"], answer["left_frames"]) == (0, 0, 0)


def test_a_region_is_drawn_anew_and_the_rest_is_kept(web, melodies, grid):
    codes = columns(grid)
    rows = grid["rows"]
    answer = web.post(
        f"{melodies}/codes/redraw", **body(grid, codes, columns=[4, 9], rows=[rows + 2, 2 * rows], seed=3)
    )
    drawn = columns(grid | answer)
    differs = (drawn != codes).transpose(0, 2, 1).reshape(len(codes), -1)
    assert differs[4:9, rows + 2 : 2 * rows].mean() > 0.5
    differs[4:9, rows + 2 : 2 * rows] = False
    assert not differs.any()
    assert (drawn >= 0)[4:9].all()
    same = body(grid, codes, columns=[4, 9], rows=[0, rows], strength=0)
    assert np.array_equal(columns(grid | web.post(f"{melodies}/codes/redraw", **same)), codes)


def test_codes_are_saved_as_a_sound_and_as_a_file_that_is_read_back(web, melodies, grid, model):
    codes = columns(grid)
    codes[:, :, 1] = -1  # a level that is muted
    sent = body(grid, codes, name="mein Lied ♪")
    answer = web.client.post(f"{melodies}/codes/wav", json=sent)
    assert answer.headers["Content-Disposition"] == "attachment; filename*=utf-8''mein%20Lied%20%E2%99%AA.wav"
    wav = answer.content
    expected = model.decode(Codes(codes.T, model.metadata.model_id, 2.0))
    assert soundfile.read(io.BytesIO(wav), dtype="float32")[0] == pytest.approx(expected.clip(-1, 1), abs=1e-6)
    npz = web.client.post(f"{melodies}/codes/npz", json=sent).content
    read = web.client.post(f"{melodies}/codes", content=npz)
    assert read.status_code == 200, read.text
    assert np.array_equal(columns(read.json()), codes)


@pytest.mark.parametrize(
    ("path", "changes", "said"),
    [
        ("change", {"codes": base64.b64encode(b"123").decode()}, "3 bytes of codes"),
        ("change", {"seconds": 301}, "the length in seconds must be at most 300"),
        ("change", {"seconds": 9.0}, "so many columns last"),
        ("wav", {"name": "x", "seconds": 9.0}, "so many columns last"),
        ("redraw", {"columns": [5, 2], "rows": [0, 1]}, "nothing is selected"),
        ("redraw", {"columns": [5, 900], "rows": [0, 1]}, "nothing is selected"),
    ],
)
def test_what_cannot_be_heard_or_drawn_is_told_in_a_sentence(web, melodies, grid, path, changes, said):
    refused = web.client.post(f"{melodies}/codes/{path}", json=body(grid, columns(grid)) | changes)
    assert (refused.status_code, said in refused.json()["error"]) == (422, True), refused.text


def test_a_file_that_holds_no_codes_is_refused(web, melodies):
    refused = web.client.post(f"{melodies}/codes", content=b"no codes")
    assert (refused.status_code, "no archive of arrays" in refused.json()["error"]) == (422, True)


def test_an_edited_sound_is_kept_in_the_tray_and_can_be_edited_again(web, melodies, grid, model):
    key = web.post(f"{melodies}/codes/keep", **body(grid, columns(grid)), name="tune")["sound"]
    kept = next(kept for kept in web.get("/api/tray") if kept["sound"] == key)
    assert (kept["name"], kept["origin"]["way"], kept["origin"]["model_id"]) == (
        "tune",
        "edited",
        model.metadata.model_id,
    )
    again = web.get(f"{melodies}/codes", source=json.dumps(DROPPED | {"sound": key}))
    assert (again["seconds"], columns(again).shape) == (2.0, columns(grid).shape)


# The map


def test_the_map_has_the_sounds_of_the_collection_and_those_that_were_made_which_move_nothing(web, melodies, model):
    alone = web.post(f"{melodies}/map")
    assert len(alone["sounds"]) == model.model.prior.anchor_count > 2
    assert 1 >= alone["axes"][0]["share"] >= alone["axes"][1]["share"] > 0
    near = {"kind": "between", "first": alone["sounds"][0]["source"], "second": FIRST, "share": 0.5}
    like = {"kind": "like", "sounds": [FIRST, near], "seed": 2}
    forgotten = DROPPED | {"sound": "gone"}
    more = web.post(f"{melodies}/map", made=[FIRST, near, forgotten, like])
    places = [sound["place"] for sound in more["sounds"]]
    assert places[: len(alone["sounds"])] == [sound["place"] for sound in alone["sounds"]]
    assert [sound["source"] for sound in more["sounds"][-3:]] == [FIRST, near, like]
    assert len({tuple(place) for place in places}) > len(alone["sounds"])


def test_a_sound_on_the_map_is_the_same_each_time_it_is_asked_for(web, melodies):
    for source in ({"kind": "collection", "number": 0}, FIRST, {"kind": "like", "sounds": [FIRST], "seed": 2}):
        first, second = (
            web.client.get(f"{melodies}/codes/sound", params={"source": json.dumps(source)}) for _ in range(2)
        )
        assert (first.status_code, first.content) == (200, second.content)
    gone = web.client.get(f"{melodies}/codes", params={"source": json.dumps({"kind": "collection", "number": 9999})})
    assert (gone.status_code, "there is no sound 10000" in gone.json()["error"]) == (422, True)
