"""A third family of models, that of the examples: all that a family has to bring, and all that it then gets."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import distill
from distill.audio.spectrogram import AudioSpectrogram
from distill.data.collection import find_audio_files
from distill.errors import ModelFileError
from distill.families import register, unregister
from distill.library.header import ModelMetadata
from distill.models.format import add_part
from distill.models.persistence import load_any, load_model_v2, save_family_model
from distill.training.execution import run_training
from distill.training.metrics import EpochEvent, TrainingCompleteEvent
from distill.training.request import TrainingRequest
from distill.training.run_folder import RunFolder
from examples.own_family import (
    PROFILES,
    LoadedProfiles,
    ProfileEpochMetrics,
    ProfileNet,
    ProfileObjective,
    ProfileStepMetrics,
    TiltSettings,
)
from support.commands import run as distill_command
from support.commands import strict
from support.runs import newest, same_run
from support.sounds import RATE
from support.stops import StopAt
from support.web_server import web_server


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    register(PROFILES)
    yield
    unregister(PROFILES.name)


def request_for(folder: Path, output_dir: Path, **changes: Any) -> TrainingRequest:
    models = output_dir.with_name(f"{output_dir.name} models")
    return TrainingRequest.for_folder(folder, family="profiles", output_dir=output_dir, models_dir=models, **changes)


# What it then gets


def test_a_third_family_trains_on_waveforms_with_two_optimizers_and_is_saved_listed_and_loaded(collection, tmp_path):
    events: list[Any] = []
    result = run_training(request_for(collection, tmp_path / "run"), events.append)
    assert [type(event) for event in events if isinstance(event, EpochEvent)] == [ProfileEpochMetrics] * 3
    assert isinstance(events[-1], TrainingCompleteEvent)
    assert result["profiles"] == 4
    losses = result["metrics_history"].get_loss_curves()
    assert losses["val_losses"][-1] < losses["val_losses"][0]
    assert losses["level_losses"][-1] < losses["level_losses"][0]  # which only the second optimizer lowers
    assert RunFolder(tmp_path / "run").events() == events
    (path,) = (tmp_path / "run models").glob("*.distill")
    loaded = load_any(path)
    assert isinstance(loaded, LoadedProfiles)
    assert loaded.profiles == 4
    (first, *_) = find_audio_files(collection)
    assert len(loaded.reconstruct(first)) == round(0.2 * RATE)
    with pytest.raises(ModelFileError, match=r"^Not a v2 VQ-VAE model\. Use load_model\(\) for v1 models\.$"):
        load_model_v2(path)


def test_a_cancelled_run_of_it_is_resumed_to_the_bit(collection, tmp_path):
    run_training(request_for(collection, tmp_path / "whole"))
    stop = StopAt(ProfileStepMetrics, epoch=1, step=1)
    run_training(request_for(collection, tmp_path / "run"), stop, stop.cancel)
    assert newest(tmp_path / "run", "profiles").own == {"profiles": 4}
    library = tmp_path / "run models"
    run_training(TrainingRequest.resume(tmp_path / "run", models_dir=library))
    same_run(tmp_path / "whole", tmp_path / "run", "profiles")


def test_a_run_of_it_that_diverges_is_rolled_back_with_half_the_rate_for_both_optimizers(
    collection, tmp_path, monkeypatch
):
    judge, judged = ProfileObjective.evaluate, []

    def evaluate(self, model, batch, progress):
        evaluation = judge(self, model, batch, progress)
        judged.append(model.training)
        if model.training and 15 < sum(judged) <= 25:
            return dataclasses.replace(evaluation, totals=tuple(total * torch.nan for total in evaluation.totals))
        return evaluation

    monkeypatch.setattr(ProfileObjective, "evaluate", evaluate)
    request = request_for(collection, tmp_path / "run", checkpoint_interval=1, augmentation_copies=12)
    history = run_training(request)["metrics_history"]
    assert len(history.epoch_metrics) == 3
    assert all(np.isfinite(event.train_loss) for event in history.step_metrics)
    assert newest(tmp_path / "run", "profiles").rollbacks == 1
    rates = [
        group["lr"] for state in newest(tmp_path / "run", "profiles").optimizer_state for group in state["param_groups"]
    ]
    assert len(rates) == 2
    assert history.step_metrics[-1].learning_rate < 0.5 * history.step_metrics[0].learning_rate


def test_the_command_line_knows_it(collection, home):
    end = distill_command("train", collection, "--model", "profiles", "--epochs", 1)
    assert end.code == 0, end.err
    assert "Level 0." in end.out
    assert distill_command("train", collection, "--model", "profiles", "--rvq-levels", 2).code == 2
    (entry,) = strict(distill_command("models", "list", "--json").out)
    assert (entry["name"], entry["model_type"]) == ("collection", "profiles")
    shown = distill_command("models", "show", "collection").out
    assert "profiles  4" in shown
    assert "lacks  tilt" in shown
    refused = distill_command("generate", "collection", "-o", home / "new")
    assert refused.code == 1
    assert "makes no new sounds" in refused.err
    assert distill.load("collection").lacks == ["tilt"]


def test_the_page_trains_it_and_shows_its_run_and_its_model(collection, home):
    with web_server(home) as web:
        (about,) = (family for family in web.get("/api/about")["families"] if family["name"] == "profiles")
        assert (about["title"], about["has_codes"], about["generates"]) == ("Profiles", False, False)
        assert "profiles" in about["settings"]
        assert [loss["label"] for loss in about["losses"]] == ["Level"]
        key = web.opened(collection)["id"]
        plan = web.post(f"/api/collections/{key}/plan", family="profiles", settings={"profiles": 6})
        assert plan["config"]["profiles"] == 6
        run = web.post("/api/runs", collection=key, family="profiles", settings={"max_epochs": 2})
        done = web.wait(f"/api/runs/{run['id']}", state="finished")
        assert (done["family"], done["levels"]) == ("profiles", None)
        log = web.client.get(f"/api/runs/{run['id']}/events").text
        assert log.count('"type": "epoch"') == 2
        model = web.get(f"/api/models/{done['model_id']}")
        assert (model["family"], model["settings"]["profiles"]) == ("profiles", 4)
        assert len(model["curves"]["level_losses"]) == 2


# Parts that come later


def test_a_part_lives_under_its_name_in_the_weights_and_the_settings(collection, tmp_path):
    run_training(request_for(collection, tmp_path / "run", max_epochs=1))
    (path,) = (tmp_path / "run models").glob("*.distill")
    without = load_any(path)
    assert without.lacks == ["tilt"]
    tilt = add_part(PROFILES, without.model, "tilt", TiltSettings(width=5))
    saved = save_family_model(
        PROFILES, without.model, without.spectrogram.config, {}, ModelMetadata(name="with"), tmp_path, {"profiles": 4}
    )
    again = load_any(saved)
    assert again.lacks == []
    assert again.model.settings["tilt"] == {"width": 5}
    assert torch.equal(again.model.state_dict()["tilt.weight"], tilt.weight)


@pytest.mark.parametrize("tilt", [{"width": 10**6}, {"width": 0}, {"wide": 3}, "tilt", None], ids=str)
def test_a_part_that_does_not_fit_is_refused_before_it_is_built(tilt, collection, tmp_path):
    model = ProfileNet()
    add_part(PROFILES, model, "tilt", TiltSettings())
    model.settings["tilt"] = tilt
    config = AudioSpectrogram().config
    with pytest.raises(ModelFileError, match="settings"):
        load_any(save_family_model(PROFILES, model, config, {}, ModelMetadata(), tmp_path, None))
