"""Setting a run up: data, seeded model, optimizer, run folder; from the start or from a checkpoint."""

import dataclasses
import datetime
import hashlib
import logging
import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR

from distill import __version__
from distill.audio.limits import AudioLimits
from distill.audio.spectrogram import AudioSpectrogram, SpectrogramConfig
from distill.data.chunks import ChunkDataset
from distill.data.collection import Sound
from distill.errors import Cancelled, CheckpointError, ConfigError
from distill.storage import free_bytes, readable_size
from distill.training.budget import UNPLANNED
from distill.training.checkpoint import Checkpoint, find_checkpoint
from distill.training.config import EngineConfig
from distill.training.dataset import Loader, create_data_loaders
from distill.training.device import resolve_device
from distill.training.metrics import MetricsCallback, MetricsHistory, VQMetricsHistory
from distill.training.objective import Context, Family
from distill.training.preview import PAIRS
from distill.training.run_folder import RunFolder, used_folder
from distill.training.state import State, environment
from distill.training.trainer import Trainer

logger = logging.getLogger(__name__)

_MAY_DIFFER = {"device", "num_workers", "checkpoint_interval", "preview_interval", "max_checkpoints"}
_UNSAID = "not said"  # a setting that is None is said


@dataclass(frozen=True)
class RunRequest:
    """What a caller asks for."""

    config: EngineConfig
    file_paths: Sequence[Path | str]
    output_dir: Path
    device: str
    dataset_name: str
    model_name: str
    spectrogram_config: SpectrogramConfig
    models_dir: Path | str | None
    resume_from: Path | str | None
    audio_limits: AudioLimits
    sounds: Sequence[Sound] | None


def set_up(
    family: Family,
    make_model: Callable[[], nn.Module],
    history: VQMetricsHistory | MetricsHistory,
    request: RunRequest,
    callback: MetricsCallback | None,
    cancel_event: threading.Event | None,
) -> Trainer:
    """A trainer at the start of the run, or where its checkpoint left it.

    Raises `CollectionError`, `ConfigError`, `StorageError`; `CheckpointError` when the checkpoint is of another run;
    `Cancelled` when that happens before there is a run.
    """
    if cancel_event is not None and cancel_event.is_set():
        raise Cancelled("stopped before training began")
    config, folder = request.config, RunFolder(request.output_dir)
    if request.resume_from is None and folder.used:
        raise ConfigError(used_folder(folder.path))
    checkpoint = None
    if request.resume_from is not None:
        checkpoint = find_checkpoint(Path(request.resume_from), family.name)
    context, loaders, optimizer = build_components(family, make_model, request, cancel_event)
    trainer = Trainer(
        context=context,
        loaders=loaders,
        config=config,
        state=State(history, config.max_epochs, planned=config.minutes is None),
        folder=folder,
        facts={"model_id": uuid.uuid4().hex} | _known_facts(folder, checkpoint) | _facts(context, request, loaders),
        callback=callback,
        cancel_event=cancel_event,
        identity=_identity(request, loaders),
        optimizer=optimizer,
        scheduler=CosineAnnealingLR(optimizer, T_max=UNPLANNED if config.minutes else config.max_epochs),
    )
    if checkpoint is None:
        _begin(trainer, request)
    else:
        _go_on(trainer, checkpoint)
    trainer.note(total_epochs=trainer.state.total_epochs if trainer.state.planned else None)
    return trainer


def build_components(
    family: Family, make_model: Callable[[], nn.Module], request: RunRequest, cancel_event: threading.Event | None
) -> tuple[Context, tuple[Loader, Loader], AdamW]:
    """What every process of a run has: a seeded model, its sounds and its optimizer; raises as `set_up` does."""
    config, device = request.config, run_device(request)
    spectrogram = AudioSpectrogram(request.spectrogram_config).to(device)
    loaders = create_data_loaders(
        request.file_paths, config, spectrogram.config.sample_rate, request.audio_limits, cancel_event, request.sounds,
        spectrogram.config, device if device.type == "cuda" else "cpu",
    )  # fmt: skip
    model = seeded(config.seed, make_model).to(device)
    optimizer = AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)
    return Context(family, model, spectrogram, device), loaders, optimizer


def run_device(request: RunRequest) -> torch.device:
    """Where the run is to be computed; raises `ConfigError`."""
    return resolve_device(request.config.device if request.device == "auto" else request.device)


def _begin(trainer: Trainer, request: RunRequest) -> None:
    """Write a first checkpoint: whatever happens from now on, there is a way to go on."""
    _warn_of_space(trainer, request)
    trainer.folder.rewind(0, 0)
    trainer.checkpoint()


def _go_on(trainer: Trainer, checkpoint: Checkpoint) -> None:
    _check_identity(checkpoint, trainer.identity)
    then, now = checkpoint.environment, environment(trainer.context.device)
    if then.keys() != now.keys():
        raise CheckpointError("the checkpoint does not say what it was made with; it is damaged")
    trainer.restore(checkpoint)
    # Where several processes train together, a step takes so many times as many sounds.
    trainer.state.step = trainer.state.step * int(then["processes"]) // int(now["processes"])
    if then != now:  # told now, for the log has just been taken back to the checkpoint
        changes = ", ".join(f"{name} {then[name]} → {now[name]}" for name in now if then[name] != now[name])
        how_much = "" if then["processes"] != now["processes"] else " in the last digits"
        logger.warning("the run goes on in other circumstances (%s); its outcome can differ%s", changes, how_much)


def _warn_of_space(trainer: Trainer, request: RunRequest) -> None:
    """Tell before a run that its checkpoints or its model will not fit on the disk."""
    model = sum(tensor.nbytes for tensor in trainer.context.model.state_dict().values())
    checkpoints = (trainer.config.max_checkpoints + 2) * 4 * model  # weights, the best, two moments; one being written
    places = {trainer.folder.path: checkpoints}
    if request.models_dir is not None:
        places[Path(request.models_dir)] = 2 * model
    for place, needed in places.items():
        if (free := free_bytes(place)) < needed:
            logger.warning(
                "%s: the run will need about %s there, and %s are free; make room, or it will have to stop",
                place, readable_size(needed), readable_size(free),
            )  # fmt: skip


def _known_facts(folder: RunFolder, checkpoint: Checkpoint | None) -> dict[str, Any]:
    """What an earlier part of the run noted, its model's path above all."""
    return folder.read_info() if checkpoint is not None and folder.info_path.exists() else {}


def seeded(seed: int, make: Callable[[], nn.Module]) -> nn.Module:
    """The model as every run with `seed` begins with it; torch's own random numbers stay where they are."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def _identity(request: RunRequest, loaders: tuple[Loader, Loader]) -> dict[str, Any]:
    """What makes a run this run and no other: settings, mel, and the content of its files."""
    config = dataclasses.asdict(request.config)
    contents = [sorted(loader.dataset.digests) for loader in loaders]  # type: ignore[attr-defined]
    return {
        "config": {name: value for name, value in config.items() if name not in _MAY_DIFFER},
        "spectrogram_config": dataclasses.asdict(request.spectrogram_config),
        "files": hashlib.sha256(repr(contents).encode()).hexdigest(),
    }


def _check_identity(checkpoint: Checkpoint, identity: dict[str, Any]) -> None:
    then = checkpoint.identity
    if then.keys() != identity.keys():
        raise CheckpointError("the checkpoint does not say which run it is of; it is damaged")
    for part in ("config", "spectrogram_config"):
        before, now = then[part], identity[part]
        names = sorted(before.keys() | now)
        if changed := [name for name in names if before.get(name, _UNSAID) != now.get(name, _UNSAID)]:
            listed = ", ".join(
                f"{name} (was {before.get(name, _UNSAID)}, is {now.get(name, _UNSAID)})" for name in changed
            )
            raise CheckpointError(f"a run goes on with the settings it began with; these differ: {listed}")
    if then["files"] != identity["files"]:
        raise CheckpointError(
            "the sound files are not those the run was started with; "
            "put them back as they were, or start a new run without --resume"
        )


def _facts(context: Context, request: RunRequest, loaders: tuple[Loader, Loader]) -> dict[str, Any]:
    train, validation = (cast(ChunkDataset, loader.dataset) for loader in loaders)
    return {
        "format": "distill_run",
        "version": 1,
        "distill_version": __version__,
        "family": context.family.name,
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "dataset_name": request.dataset_name,
        "model_name": request.model_name or request.dataset_name or "model",
        "models_dir": str(Path(request.models_dir).absolute()) if request.models_dir is not None else None,
        "config": dataclasses.asdict(request.config),
        "spectrogram_config": dataclasses.asdict(request.spectrogram_config),
        "audio_limits": dataclasses.asdict(request.audio_limits),
        "files": [str(Path(path).absolute()) for path in request.file_paths],
        "model_settings": context.model.settings,
        "train_files": len(train.digests),
        "validation_files": len(validation.digests),
        "preview_sounds": [validation.title(index) for index in validation.examples(PAIRS)],
        "duration_s": round(train.duration_s + validation.duration_s, 3),
    }
