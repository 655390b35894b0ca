"""New sounds on the page: a run whose prior is watched, and what a model with a prior makes."""

import io
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from distill.library.header import read_header
from distill.models.persistence import load_any
from distill.training.metrics import PriorEpochMetrics
from distill.training.prior_loop import PriorObjective
from distill.training.run_folder import RunFolder
from support.models import write_model
from support.runs import run_with_prior
from support.sounds import RATE, tone
from support.waiting import PATIENCE_S
from support.web_server import Web, web_server

SETTINGS = {"codebook_size": 16, "codebook_dim": 8, "batch_size": 4, "chunk_duration_s": 0.5, "val_fraction": 0.3}


@pytest.fixture
def web(home: Path):
    with web_server(home) as web:
        yield web


@pytest.fixture(scope="module")
def made(quick_runs: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run with a prior, and the library that it ended in."""
    base = tmp_path_factory.mktemp("made")
    run_with_prior(base)
    return base


@pytest.fixture
def bells(web: Web, made: Path) -> str:
    """The address of the library's only model, which has a prior."""
    shutil.copytree(made / "models", web.state.library.folder, dirs_exist_ok=True)
    return f"/api/models/{web.get('/api/models')[0]['id']}"


def samples(content: bytes) -> np.ndarray:
    return soundfile.read(io.BytesIO(content), dtype="float32")[0]


def dropped(web: Web, model: str, frequency: float = 330) -> str:
    """The id of a sound of 0.4 s that was dropped on a model."""
    buffer = io.BytesIO()
    soundfile.write(buffer, tone(frequency, 0.4), RATE, format="WAV")
    return web.client.post(f"{model}/sounds", params={"name": "a.wav"}, content=buffer.getvalue()).json()["sound"]


def heard(web: Web, path: str, **query) -> np.ndarray:
    answer = web.client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return samples(answer.content)


# The run


def test_a_finished_run_tells_of_its_prior_and_plays_its_sounds(web: Web, made: Path, home: Path) -> None:
    shutil.copytree(made / "runs", home / "runs", dirs_exist_ok=True)
    prior = web.get("/api/runs/bells")["prior"]
    epochs = [event for event in RunFolder(home / "runs/bells/prior").events() if isinstance(event, PriorEpochMetrics)]
    assert (prior["epochs"], prior["total_epochs"], prior["eta_seconds"]) == (2, 2, 0)
    assert prior["bits"] == pytest.approx([epoch.val_code_bits for epoch in epochs], abs=1e-3)
    assert prior["unigram_bits"] == epochs[-1].unigram_bits
    assert len({preview["name"] for preview in prior["previews"]}) == len(prior["previews"]) == 4
    for preview in prior["previews"]:
        assert len(heard(web, f"/api/runs/bells/prior/previews/{preview['name']}")) > 0
    assert web.client.get("/api/runs/bells/prior/previews/run").status_code == 404
    assert "prior" not in web.get("/api/runs")[0]  # the list of runs is asked for often
    stream = web.client.get("/api/runs/bells/events").text
    assert '"unigram_bits"' in stream


@pytest.fixture
def held_prior(monkeypatch: pytest.MonkeyPatch):
    """Two events: that a prior takes its first step, and that it may go on from there."""
    steps, goes_on, usual = threading.Event(), threading.Event(), PriorObjective.step_event

    def step_event(*args, **kwargs):
        steps.set()
        assert goes_on.wait(PATIENCE_S)
        return usual(*args, **kwargs)

    monkeypatch.setattr(PriorObjective, "step_event", step_event)
    yield steps, goes_on
    goes_on.set()


def test_a_run_stopped_while_its_prior_is_trained_has_a_model_and_goes_on_with_it(
    web: Web, collection: Path, held_prior
) -> None:
    steps, goes_on = held_prior
    wishes = {"collection": web.opened(collection)["id"], "name": "bells"}
    place = f"/api/runs/{web.post('/api/runs', **wishes, settings=SETTINGS | {'max_epochs': 1})['id']}"
    assert steps.wait(PATIENCE_S)
    run = web.get(place)
    assert (run["state"], run["prior"]["epochs"], run["prior"]["bits"]) == ("running", 0, [])
    model = f"/api/models/{run['model_id']}"
    assert web.get(model)["generates"] is False
    for refused in (web.client.delete(model), web.client.patch(model, json={"name": "other"})):
        assert (refused.status_code, "still being trained" in refused.json()["error"]) == (422, True), refused.text
    web.post(f"{place}/cancel")
    goes_on.set()
    stopped = web.wait(place, state="interrupted")
    assert stopped["model_id"] == run["model_id"]
    renamed = web.client.patch(model, json={"name": "other"}).json()
    web.post(f"{place}/resume")
    finished = web.wait(place, state="finished")
    assert (finished["model_id"], finished["prior"]["epochs"]) == (renamed["id"], 1)
    assert web.get(f"/api/models/{renamed['id']}")["generates"] is True
    assert len(web.get("/api/models")) == 1


# What is made


def test_new_sounds_have_the_seed_length_and_temperature_that_are_asked_for(web: Web, bells: str) -> None:
    model = load_any(web.state.library.path(web.state.library.entries()[0]))
    first, second = model.generate(2, seed=5)
    for seed, expected in ((5, first), (6, second)):
        assert heard(web, f"{bells}/generate", seed=seed) == pytest.approx(expected.clip(-1, 1), abs=1e-3)
    assert len(heard(web, f"{bells}/generate", seed=5, seconds=0.7)) == round(0.7 * RATE)
    bold = next(model.generate(1, seed=5, temperature=2.0))
    assert heard(web, f"{bells}/generate", seed=5, temperature=2) == pytest.approx(bold.clip(-1, 1), abs=1e-3)
    (loop,) = model.generate(1, seed=5, seconds=0.5, loop=True)
    assert heard(web, f"{bells}/generate", seed=5, seconds=0.5, loop=True) == pytest.approx(loop, abs=1e-3)


def test_a_dropped_sound_is_varied_and_morphed_into_another(web: Web, bells: str) -> None:
    sound, other = dropped(web, bells), dropped(web, bells, 700)
    same = [heard(web, f"/api/sounds/{sound}/variation", strength=0, seed=seed) for seed in (0, 1)]
    assert np.array_equal(*same)
    assert len(same[0]) == round(0.4 * RATE)
    far = [heard(web, f"/api/sounds/{sound}/variation", strength=1, seed=seed) for seed in (0, 1)]
    assert not np.array_equal(*far)
    ends = [heard(web, f"{bells}/between", first=sound, second=other, share=share) for share in (0, 0.5, 1)]
    assert ends[0] == pytest.approx(same[0], abs=1e-3)
    assert [len(step) for step in ends] == [len(same[0])] * 3
    gone = web.client.get("/api/sounds/0123/variation")
    assert (gone.status_code, "drop it again" in gone.json()["error"]) == (404, True)


@pytest.mark.parametrize(
    ("path", "query", "said"),
    [
        ("generate", {"temperature": 9}, "the temperature must be at most 3"),
        ("generate", {"seconds": 31}, "the length in seconds must be at most 30"),
        ("generate", {"set": "brightness:1"}, "'brightness' is not a direction of this model"),
        ("variation", {"strength": 1.5}, "the strength must be at most 1"),
    ],
)
def test_what_cannot_be_made_is_told_in_a_sentence(web: Web, bells: str, path: str, query: dict, said: str) -> None:
    base = bells if path == "generate" else f"/api/sounds/{dropped(web, bells)}"
    refused = web.client.get(f"{base}/{path}", params=query)
    assert (refused.status_code, said in refused.json()["error"]) == (422, True), refused.text


def test_whether_a_model_makes_new_sounds_is_read_from_its_header(web: Web, bells: str) -> None:
    folder = web.state.library.folder
    assert read_header(next(folder.glob("*.distill"))).generates
    cases = [("plain", {}, False), ("space", {"model_type": "vae"}, True), ("tides", {"model_type": "tides"}, False)]
    for name, about, generates in cases:
        write_model(folder / f"{name}.distill", name, **about)
        (entry,) = web.get("/api/models", search=name)
        assert web.get(f"/api/models/{entry['id']}")["generates"] is generates
    parts = {family["name"]: family["parts"] for family in web.get("/api/about")["families"]}
    assert parts == {"vqvae": ["prior"], "vae": []}
