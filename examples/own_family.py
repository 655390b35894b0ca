"""A family of models of your own, in one file: all that a family has to bring.

python examples/own_family.py FOLDER

It maps a mel through a few shared shapes ("profiles") and back, and learns a loudness from the waveform beside it.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from pydantic import Field
from pydantic import dataclasses as pydantic_dataclasses
from torch import Tensor, nn

from distill.audio.io import write_wav
from distill.audio.spectrogram import AudioSpectrogram, real_frames
from distill.families import Family, FileLayout, Loss, Part, register
from distill.library.header import ModelMetadata
from distill.models.format import CheckedFile
from distill.models.loaded import LoadedFamily
from distill.models.persistence import save_family_model
from distill.schema import VALIDATED, Validated
from distill.training.conclusion import metadata, save_and_draw, training_config
from distill.training.config import EngineConfig
from distill.training.metrics import EpochEvent, History, StepEvent
from distill.training.objective import Batch, EpochResult, Evaluation, Objective, StepResult
from distill.training.request import TrainingRequest
from distill.training.run import Run


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
        assert isinstance(model, ProfileNet)
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
        recon: Tensor = self.model(mel)[0]
        return recon


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


if __name__ == "__main__":
    import distill

    register(PROFILES)
    made = distill.train(sys.argv[1], family="profiles")
    print(f"{made.metadata.name}: loss {made.metadata.val_loss:.4f} after {made.metadata.epochs} epochs")
