"""A third family of models, defined here alone: all that a family has to bring, and all that it then gets."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pytest
import torch
from pydantic import Field
from pydantic import dataclasses as pydantic_dataclasses
from torch import Tensor, nn

import distill
from distill.audio.io import write_wav
from distill.audio.spectrogram import AudioSpectrogram, real_frames
from distill.data.collection import find_audio_files
from distill.errors import ModelFileError
from distill.families import Family, FileLayout, Loss, Part, register, unregister
from distill.library.header import ModelMetadata
from distill.models.format import CheckedFile, add_part
from distill.models.loaded import LoadedFamily
from distill.models.persistence import load_any, load_model_v2, save_family_model
from distill.schema import VALIDATED, Validated
from distill.training.conclusion import metadata, save_and_draw, training_config
from distill.training.config import EngineConfig
from distill.training.execution import run_training
from distill.training.metrics import EpochEvent, History, StepEvent, TrainingCompleteEvent
from distill.training.objective import Batch, EpochResult, Evaluation, Objective, StepResult
from distill.training.request import TrainingRequest
from distill.training.run import Run
from distill.training.run_folder import RunFolder
from support.commands import run as distill_command
from support.commands import strict
from support.runs import newest, same_run
from support.sounds import RATE
from support.stops import StopAt
from support.web_server import web_server

# The family: a mel through a few shared shapes ("profiles") and back, and a loudness learnt from the waveform beside it


@dataclass(frozen=True)
class ProfileStepMetrics(StepEvent):
    epoch: int
    step: int
    total_steps: int
    train_loss: float
    recon_loss: float
    level_loss: float
    learning_rate: float
    step_time_s: float


@dataclass(frozen=True)
class ProfileEpochMetrics(EpochEvent):
    epoch: int
    total_epochs: int
    train_loss: float
    val_loss: float
    val_recon_loss: float
    val_level_loss: float
    overfitting_gap: float
    learning_rate: float
    eta_seconds: float
    elapsed_seconds: float


class ProfileHistory(History[ProfileStepMetrics, ProfileEpochMetrics]):
    step_type, epoch_type = ProfileStepMetrics, ProfileEpochMetrics

    def get_loss_curves(self) -> dict[str, list[float]]:
        return self._curves(level_losses="val_level_loss")


@pydantic_dataclasses.dataclass(config=VALIDATED)
class ProfileSettings(Validated):
    profiles: int = Field(default=4, ge=1, le=64)
    n_mels: int = Field(default=128, ge=16, le=512)


@pydantic_dataclasses.dataclass(config=VALIDATED)
class ProfileConfig(EngineConfig):
    profiles: int = Field(default=4, ge=1, le=64)

    size_setting: ClassVar[str] = "profiles"

    def headline(self) -> str:
        return f"{self.profiles} profiles"


def profile_preset(file_count: int, seconds: float | None = None, **overrides: Any) -> ProfileConfig:
    preset = {"val_fraction": 0.3, "chunk_duration_s": 0.5, "batch_size": 4, "augmentation_copies": 3}
    return ProfileConfig(**(preset | {"max_epochs": 3, "learning_rate": 1e-2} | overrides))


class ProfileNet(nn.Module):
    def __init__(self, profiles: int = 4, n_mels: int = 128) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {"profiles": profiles, "n_mels": n_mels}
        self.down, self.up = nn.Linear(n_mels, profiles), nn.Linear(profiles, n_mels)
        self.level = nn.Linear(n_mels, 1)

    @staticmethod
    def large_shapes(settings: dict[str, int]) -> dict[str, tuple[int, ...]]:
        return {"down.weight": (settings["profiles"], settings["n_mels"])}

    def forward(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        return self.up(self.down(mel.mT)).mT, self.level(mel.mT).mean(dim=(1, 2, 3))


class ProfileObjective(Objective):
    terms: ClassVar[tuple[str, ...]] = ("recon_loss", "level_loss")
    result_keys: ClassVar[tuple[str, ...]] = ("profiles",)
    needs_waveform: ClassVar[bool] = True

    def build_model(self, request: TrainingRequest) -> ProfileNet:
        return ProfileNet(self.config.profiles, request.spectrogram_config.n_mels)

    def parameter_groups(self, model: nn.Module) -> Sequence[Iterable[nn.Parameter]]:
        return [[*model.down.parameters(), *model.up.parameters()], model.level.parameters()]

    def evaluate(self, model: nn.Module, batch: Batch, progress: Tensor) -> Evaluation:
        assert batch.waveform is not None
        recon, level = model(batch.mel)
        real = real_frames(batch.mel)
        recon_loss = torch.where(real, recon - batch.mel, 0.0).square().mean()
        level_loss = (level - batch.waveform.abs().mean(dim=(1, 2))).square().mean()
        terms = {"recon_loss": recon_loss.detach(), "level_loss": level_loss.detach()}
        return Evaluation((recon_loss, level_loss), terms, level.detach())

    def step_event(self, model: nn.Module, step: StepResult, observed: Tensor) -> ProfileStepMetrics:
        return ProfileStepMetrics(**step.fields())

    def epoch_event(self, model: nn.Module, epoch: EpochResult, observed: list[Tensor]) -> ProfileEpochMetrics:
        return ProfileEpochMetrics(**epoch.fields())

    def checkpoint_fields(self, history: History[Any, Any]) -> dict[str, Any]:
        return {"own": {"profiles": self.config.profiles}}

    def preview(
        self, model: nn.Module, spectrogram: AudioSpectrogram, waveforms: Tensor, folder: Path, epoch: int
    ) -> list[Path]:
        path = folder / f"epoch_{epoch:04d}_1_original.wav"
        return [write_wav(path, waveforms[0, 0].numpy(), spectrogram.config.sample_rate)]

    def conclude(self, run: Run, finished: bool) -> dict[str, Any]:
        model = run.best_model()

        def save(models_dir: Path) -> Path:
            return save_family_model(
                PROFILES, model, run.context.spectrogram.config, training_config(run), metadata(run), models_dir,
                {"profiles": self.config.profiles}, run.state.history.get_loss_curves(),
            )  # fmt: skip

        if finished:
            save_and_draw(run, save, lambda path: path.write_bytes(b"a picture"))
        return {"profiles": self.config.profiles}


@dataclass(frozen=True)
class LoadedProfiles(LoadedFamily):
    model: ProfileNet
    spectrogram: AudioSpectrogram
    metadata: ModelMetadata
    device: torch.device
    profiles: int

    family_name: ClassVar[str] = "profiles"

    @classmethod
    def from_file(cls, file: CheckedFile) -> Self:
        return cls(file.model, file.spectrogram, file.metadata, file.device, file.record["profiles"])

    def _mel_to_mel(self, mel: Tensor, levels: int | None) -> Tensor:
        return self.model(mel)[0]


@pydantic_dataclasses.dataclass(config=VALIDATED)
class TiltSettings(Validated):
    width: int = Field(default=3, ge=1, le=10**6)


TILT = Part(
    settings=TiltSettings,
    build=lambda model, settings: nn.Linear(settings.width, 1),
    large_shapes=lambda settings: {"weight": (1, settings.width)},
)

PROFILES = Family(
    name="profiles",
    title="Profiles",
    summary="Learns a few spectra that all sounds are mixed from.",
    config=ProfileConfig,
    preset=profile_preset,
    history=ProfileHistory,
    file=FileLayout(
        version=2,
        settings_key="profiles_config",
        settings=ProfileSettings,
        record_key="profiles_record",
        record_type=dict[str, int] | None,
        foreign="Not a model of profiles.",
        parts={"tilt": TILT},
    ),
    objective=ProfileObjective,
    model=ProfileNet,
    loaded=LoadedProfiles,
    losses=(Loss("val_level_loss", "level_losses", "Level", "How far the loudness is off"),),
)


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
