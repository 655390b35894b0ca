"""A run whose prior is watched on the page, and which models make new sounds."""

import io
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from distill.library.header import read_header
from distill.training.metrics import PriorEpochMetrics, VQEpochMetrics
from distill.training.prior_loop import PriorObjective
from distill.training.run_folder import RunFolder
from support.models import write_model
from support.waiting import PATIENCE_S
from support.web_server import Web

SETTINGS = {"codebook_size": 16, "codebook_dim": 8, "batch_size": 4, "chunk_duration_s": 0.5, "val_fraction": 0.3}


def samples(content: bytes) -> np.ndarray:
    return soundfile.read(io.BytesIO(content), dtype="float32")[0]


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
    assert (prior["unigram_bits"], prior["copied"]) == (epochs[-1].unigram_bits, epochs[-1].copied)
    assert len({preview["name"] for preview in prior["previews"]}) == len(prior["previews"]) == 4
    for preview in prior["previews"]:
        assert len(heard(web, f"/api/runs/bells/prior/previews/{preview['name']}")) > 0
        file = web.client.get(f"/api/runs/bells/prior/previews/{preview['name']}").headers["content-disposition"]
        assert f"bells%20{preview['name']}.wav" in file or f"bells {preview['name']}.wav" in file
    assert web.client.get("/api/runs/bells/prior/previews/run").status_code == 404
    losses = [epoch["val_loss"] for epoch in web.get("/api/runs/bells/epochs")]
    assert losses == [
        event.val_loss for event in RunFolder(home / "runs/bells").events() if isinstance(event, VQEpochMetrics)
    ]
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
