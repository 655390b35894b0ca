"""The Make view's server: new sounds as they are made, what they keep away from, and the tray of kept ones."""

import io
import json
import zipfile
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile

from distill.audio.likeness import difference, portrait
from distill.models.persistence import load_any
from distill.packs.origin import Origin
from distill.web.making import Avoided, Wish, new_sounds
from distill.web.tray import Tray
from support.runs import small_vae_config
from support.sounds import RATE, tone, write_collection
from support.web_server import Web, web_server


@pytest.fixture(scope="module")
def model(made: Path):
    (path,) = (made / "models").glob("*.distill")
    return load_any(path)


def make(web: Web, model: str, **wish) -> list[dict]:
    answer = web.client.post(f"{model}/sounds/new", json=wish)
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def samples(answer: httpx.Response) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    return soundfile.read(io.BytesIO(answer.content), dtype="float32")[0]


def heard(web: Web, sound: dict) -> np.ndarray:
    return samples(web.client.get(f"/api/sounds/{sound['sound']}/original"))


# How unlike sounds are


def test_sounds_are_as_unlike_as_they_sound() -> None:
    low, noise = tone(300, 0.5), np.random.default_rng(0).normal(0, 0.1, RATE // 2).astype(np.float32)

    def apart(one: np.ndarray, other: np.ndarray) -> float:
        return difference(portrait(one, RATE), portrait(other, RATE))

    assert apart(low, low) == 0
    late = np.concatenate([np.zeros(RATE // 3, np.float32), low / 8])
    assert apart(low, late) < 0.1  # neither how loud it is nor when it begins
    assert apart(low, np.stack([low, low], axis=1)) == 0
    assert 0 < apart(low, tone(310, 0.5)) < apart(low, tone(600, 0.5)) < apart(low, noise)
    silence = np.zeros(100, np.float32)
    assert apart(silence, silence) == 0 < apart(silence, low)


# Making


def test_sounds_come_one_by_one_with_their_seeds_and_are_those_of_the_model(web: Web, bells: str, model) -> None:
    first, second = make(web, bells, count=2, seed=5, seconds=0.5, temperature=0.6)
    for sound, seed in ((first, 5), (second, 6)):
        (expected,) = model.generate(1, seed=seed, seconds=0.5, temperature=0.6)
        assert heard(web, sound) == pytest.approx(expected.clip(-1, 1), abs=1e-3)
        assert (sound["name"], sound["origin"]["seed"], sound["seconds"]) == (f"bells {seed}", seed, 0.5)
        assert sound["peak_db"] == pytest.approx(20 * np.log10(np.abs(expected).max()), abs=0.1)
    name = web.client.get(f"/api/sounds/{first['sound']}/original").headers["content-disposition"]
    assert name == "attachment; filename*=utf-8''bells%205.wav"


def test_a_sound_that_was_made_is_where_others_start(web: Web, bells: str, model) -> None:
    first, second = make(web, bells, count=2, seconds=0.4)
    same, far = (make(web, bells, how="vary", sounds=[first["sound"]], strength=s, count=1)[0] for s in (0, 1))
    assert difference(*(portrait(heard(web, one), RATE) for one in (first, same))) < difference(
        *(portrait(heard(web, one), RATE) for one in (first, far))
    )
    assert far["origin"] == {
        "model": "bells", "model_id": model.metadata.model_id, "way": "varied", "sources": [first["name"]],
        "amounts": {"strength": 1}, "seed": 0,
    }  # fmt: skip
    steps = make(web, bells, how="morph", sounds=[first["sound"], second["sound"]], count=3)
    assert [step["origin"]["amounts"]["share"] for step in steps] == [0.25, 0.5, 0.75]
    assert [step["name"] for step in steps] == [f"bells 0 to bells 1 {share}%" for share in (25, 50, 75)]
    longer = make(web, bells, how="extend", sounds=[first["sound"]], seconds=0.3, count=2, seed=7)
    assert [one["seconds"] for one in longer] == pytest.approx([0.7, 0.7], abs=1e-3)
    assert not np.array_equal(*map(heard, [web, web], longer))


def test_new_sounds_keep_away_from_those_thrown_away(model) -> None:
    plain = list(new_sounds(model, Wish("draw", 6, seed=0, seconds=0.4)))
    thrown = portrait(plain[0].samples, RATE)
    distances = sorted(difference(thrown, portrait(one.samples, RATE)) for one in plain[1:])
    radius = (distances[1] + distances[2]) / 2 / 24  # too near for the sound itself and for two others
    kept = list(new_sounds(model, Wish("draw", 3, seed=0, seconds=0.4, avoided=[Avoided(thrown, radius)])))
    far = [one.seed for one in plain if difference(thrown, portrait(one.samples, RATE)) > 24 * radius]
    assert [one.seed for one in kept] == far[:3]
    # Where nothing is far enough, there are as many sounds, the farthest first.
    all_near = list(new_sounds(model, Wish("draw", 2, seed=0, seconds=0.4, avoided=[Avoided(thrown, 9.0)])))
    tried = [
        difference(thrown, portrait(one.samples, RATE)) for one in new_sounds(model, Wish("draw", 8, 0, seconds=0.4))
    ]
    assert [one.seed for one in all_near] == np.argsort(tried)[::-1][:2].tolist()


def test_a_sound_thrown_away_is_named_by_its_id(web: Web, bells: str) -> None:
    (first,) = make(web, bells, count=1, seed=3)
    (other,) = make(web, bells, count=1, seed=3, avoid={first["sound"]: 0.01, "0123456789abcdef": 1})
    assert (first["origin"]["seed"], other["origin"]["seed"]) == (3, 4)


def test_a_vae_makes_sounds_from_nothing_and_from_others(web: Web, tmp_path: Path, quick_runs: None) -> None:
    from distill.training.loop import train

    train(
        small_vae_config(), sorted(write_collection(tmp_path / "kit").iterdir()), tmp_path / "run", "cpu",
        models_dir=web.state.library.folder, model_name="space",
    )  # fmt: skip
    place = f"/api/models/{web.get('/api/models')[0]['id']}"
    name = next(iter(web.get(place)["directions"]))
    plain, moved = (make(web, place, count=1, seed=1, moves=moves)[0] for moves in ({}, {name: 2.0}))
    assert not np.allclose(heard(web, plain), heard(web, moved))
    (like,) = make(web, place, how="vary", sounds=[plain["sound"]], count=1)
    (half,) = make(web, place, how="morph", sounds=[plain["sound"], like["sound"]], count=1)
    assert half["origin"]["amounts"]["share"] == 0.5
    refused = web.client.post(f"{place}/sounds/new", json={"how": "extend", "sounds": [plain["sound"]]})
    assert (refused.status_code, "cannot go on" in refused.json()["error"]) == (422, True)


@pytest.mark.parametrize(
    ("wish", "status", "said"),
    [
        ({"temperature": 9}, 422, "the temperature must be at most 3"),
        ({"seconds": 31}, 422, "the length in seconds must be at most 30"),
        ({"seed": 2**32}, 422, "the seed must be less than"),
        ({"count": 0}, 422, "the number of sounds must be at least 1"),
        ({"moves": {"brightness": 1}}, 422, "'brightness' is not a direction of this model"),
        ({"how": "vary"}, 422, "0 sounds are given to start from; 1 are expected"),
        ({"how": "vary", "sounds": ["0123"]}, 404, "no longer available"),
        ({"how": "vary", "sounds": ["../../models/bells"]}, 404, "no longer available"),
    ],
)
def test_what_cannot_be_made_is_told_in_a_sentence(web: Web, bells: str, wish: dict, status: int, said: str) -> None:
    refused = web.client.post(f"{bells}/sounds/new", json=wish)
    assert (refused.status_code, said in refused.json()["error"]) == (status, True), refused.text


def test_a_fault_in_the_middle_ends_the_list_with_a_sentence(
    web: Web, bells: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distill.errors import AudioError
    from distill.web import listening

    usual = listening.Listening.add_made

    def failing(self, sound):
        if sound.origin.seed == 2:
            raise AudioError("the third sound is odd")
        return usual(self, sound)

    monkeypatch.setattr(listening.Listening, "add_made", failing)
    first, second, problem = make(web, bells, count=4, seed=0)
    assert [first["origin"]["seed"], second["origin"]["seed"]] == [0, 1]
    assert problem == {"error": "the third sound is odd"}


# The tray


def test_what_is_kept_outlasts_the_server_with_name_order_and_sound(web: Web, bells: str, home: Path) -> None:
    made = make(web, bells, count=3, seconds=0.3)
    kept = [web.post("/api/tray", sound=sound["sound"]) for sound in made]
    renamed = web.client.patch(f"/api/tray/{kept[0]['sound']}", json={"name": "Glocke: groß/klein"}).json()
    order = [kept[2]["sound"], kept[0]["sound"]]
    arranged = web.client.put("/api/tray/order", json={"sounds": order}).json()
    assert [one["sound"] for one in arranged] == [*order, kept[1]["sound"]]
    seconds = heard(web, made[1])
    web.state.listening._made.clear()
    (like,) = make(web, bells, how="vary", sounds=[kept[1]["sound"]], strength=0.2, count=1)  # kept ones go on, too
    assert like["origin"]["sources"] == [kept[1]["name"]]
    with web_server(home) as again:
        found = again.get("/api/tray")
        assert [one["name"] for one in found] == [made[2]["name"], "Glocke: groß/klein", made[1]["name"]]
        assert found[1]["origin"] == renamed["origin"] == made[0]["origin"]
        file = again.client.get(f"/api/tray/{found[2]['sound']}/file")
        assert "bells%201.wav" in file.headers["content-disposition"]
        trimmed = samples(file)
        assert trimmed[100:-1000] == pytest.approx(seconds[100 : len(trimmed) - 1000], abs=1e-6)  # but for the fades
        pack = again.client.get("/api/tray/pack", params={"name": "Küche", "bits": "16", "rate": 44100, "stereo": True})
        assert "K%C3%BCche.zip" in pack.headers["content-disposition"]
        with zipfile.ZipFile(io.BytesIO(pack.content)) as files:
            waves = [name for name in files.namelist() if name.endswith(".wav")]
            assert waves == [f"Küche/{name}.wav" for name in ("1 bells 2", "2 Glocke_ groß_klein", "3 bells 1")]
            assert "seed 2" in files.read("Küche/Küche.txt").decode()
            wave = soundfile.info(io.BytesIO(files.read(waves[0])))
            assert (wave.samplerate, wave.channels, wave.subtype) == (44100, 2, "PCM_16")


def test_a_sound_taken_out_of_the_tray_can_be_brought_back(web: Web, bells: str) -> None:
    kept = [web.post("/api/tray", sound=sound["sound"]) for sound in make(web, bells, count=2)]
    undo = web.client.delete(f"/api/tray/{kept[0]['sound']}").json()["undo"]
    assert web.get("/api/tray") == kept[1:]
    assert web.client.get(f"/api/tray/{kept[0]['sound']}/file").status_code == 404
    assert web.post("/api/tray/undo", undo=undo) == kept[0]
    assert web.get("/api/tray") == kept


def test_no_sound_is_lost_with_its_note_or_the_order(tmp_path: Path) -> None:
    tray = Tray(tmp_path / "kept")
    assert tray.sounds() == []
    one, two = (tray.keep(tone(frequency, 0.2) * 3, RATE, "loud", Origin("bells", "new")) for frequency in (300, 400))
    tray.arrange([two.key, one.key, "gone"])
    assert [kept.key for kept in tray.sounds()] == [two.key, one.key]
    assert np.array_equal(two.read()[0], tone(400, 0.2) * 3)  # nothing beyond full scale is cut off
    for content in ("", "[", "{}", '{"name": 1}', "7"):
        (tmp_path / "kept/order.json").write_text(content)
        one.path.with_suffix(".json").write_text(content)
        assert [kept.key for kept in tray.sounds()] == [one.key, two.key]
        assert tray.get(one.key).origin is None
    for key in ("../kept/order", "order", "", "0" * 16):
        with pytest.raises(KeyError):
            tray.get(key)


def test_what_was_removed_long_ago_is_forgotten(tmp_path: Path) -> None:
    tray = Tray(tmp_path / "kept")
    aside = tray.remove(tray.keep(tone(300, 0.1), RATE, "x", None).key)
    tray.forget_removed()
    assert aside.exists()
    tray.forget_removed(days=-1)
    assert list(aside.parent.iterdir()) == []
