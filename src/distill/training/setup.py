"""Setup of a run, from scratch or from a checkpoint: sounds, seeded model, optimizers, run folder."""

import dataclasses
import datetime
import hashlib
import logging
import threading
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR

from distill import __version__
from distill.audio.settings import BEFORE
from distill.audio.spectrogram import AudioSpectrogram
from distill.data.batches import Loader
from distill.data.chunks import ChunkDataset
from distill.errors import Cancelled, CheckpointError, ConfigError, NewRun, UsedFolder
from distill.families import Family, get_family
from distill.notices import DiskNearlyFull, EnvironmentChanged
from distill.storage import free_bytes
from distill.training.budget import UNPLANNED
from distill.training.checkpoint import Checkpoint, find_checkpoint
from distill.training.dataset import create_data_loaders
from distill.training.device import resolve_device
from distill.training.metrics import MetricsCallback
from distill.training.objective import Context, Objective
from distill.training.preview import PAIRS
from distill.training.request import TrainingRequest
from distill.training.run import Run
from distill.training.run_folder import RunFolder
from distill.training.run_info import RunInfo
from distill.training.snapshot import environment, restore, save_checkpoint
from distill.training.state import State

logger = logging.getLogger(__name__)

_MAY_DIFFER = {
    "device",
    "num_workers",
    "model_file",  # a model may be renamed
    "checkpoint_interval",
    "preview_interval",
    "max_checkpoints",
    "with_prior",
}  # when resuming
_ABSENT = "not set"  # not None, which is a value that a setting can have


def set_up(
    request: TrainingRequest,
    objective: Objective,
    callback: MetricsCallback | None,
    cancel_event: threading.Event | None,
    clock: Callable[[], float],
) -> Run:
    """A run at its start, or at its checkpoint.

    Raises `CollectionError`, `ConfigError`, `StorageError`; `CheckpointError` when the checkpoint is of another run;
    `Cancelled` when it is cancelled before there is a run.
    """
    if cancel_event is not None and cancel_event.is_set():
        raise Cancelled("stopped before training began")
    config, folder = request.config, RunFolder(request.output_dir)
    if request.resume_from is None and folder.used:
        raise ConfigError(f"{folder.path} holds a run already", UsedFolder())
    checkpoint = None
    if request.resume_from is not None:
        checkpoint = find_checkpoint(request.resume_from, request.family_name)
    context, loaders, optimizers = build_components(objective, request, cancel_event)
    # Under a time budget the schedules get their length once some epochs have been timed (`validation.py`).
    epochs = UNPLANNED if config.minutes else config.max_epochs
    run = Run(
        context=context,
        loaders=loaders,
        config=config,
        state=State(request.family.history(), config.max_epochs, planned=config.minutes is None),
        folder=folder,
        info=_run_info(request, context, loaders, _earlier_info(folder, checkpoint)),
        optimizers=optimizers,
        schedulers=tuple(CosineAnnealingLR(optimizer, T_max=epochs) for optimizer in optimizers),
        identity=_identity(request, loaders),
        callback=callback,
        cancel_event=cancel_event,
        clock=clock,
    )
    objective.begin(run)
    if checkpoint is None:
        _start(run)
    else:
        _resume(run, checkpoint)
    run.update_info(total_epochs=run.state.total_epochs if run.state.planned else None)
    return run


def build_components(
    objective: Objective, request: TrainingRequest, cancel_event: threading.Event | None
) -> tuple[Context, tuple[Loader, Loader], tuple[AdamW, ...]]:
    """The components that every rank of a run has: seeded model, loaders, optimizers; raises as `set_up` does."""
    config, device = request.config, run_device(request)
    spectrogram = AudioSpectrogram(request.spectrogram_config).to(device)
    # Loaders of mels are faster, but there are no waveforms in their batches.
    loaders = create_data_loaders(
        request.file_paths, config, spectrogram.config.sample_rate, request.audio_limits, cancel_event, request.sounds,
        None if objective.needs_waveform else spectrogram.config, device if device.type == "cuda" else "cpu",
    )  # fmt: skip
    model = seeded(config.seed, partial(objective.build_model, request)).to(device)
    # Fused, because only a fused optimizer can skip a step by a flag on the GPU (`step.step_unless`).
    optimizers = tuple(
        AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)
        for parameters in objective.parameter_groups(model)
    )
    return Context(objective, model, spectrogram, device), loaders, optimizers


def run_device(request: TrainingRequest) -> torch.device:
    """The device that the run computes on; raises `ConfigError`."""
    return resolve_device(request.config.device if request.device == "auto" else request.device)


def seeded(seed: int, make: Callable[[], nn.Module]) -> nn.Module:
    """The model that `make` returns, its weights drawn with `seed`; torch's global generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def _start(run: Run) -> None:
    """Write the first checkpoint, before any step: from now on the run can always be resumed."""
    _warn_of_space(run)
    run.folder.rewind(0, 0)
    save_checkpoint(run)


def _resume(run: Run, checkpoint: Checkpoint) -> None:
    _check_identity(checkpoint, run.identity, get_family(run.info.family))
    then, now = checkpoint.environment, environment(run.context.device)
    if then.keys() != now.keys() or not then["processes"].isdecimal():
        raise CheckpointError("the checkpoint does not say in which environment it was made; it is damaged")
    restore(run, checkpoint)
    # A step of several processes takes that many times as many sounds.
    run.state.step = run.state.step * int(then["processes"]) // int(now["processes"])
    if then != now:  # warned of only now: `restore` cuts the log back to the checkpoint
        changes = {name: (then[name], now[name]) for name in now if then[name] != now[name]}
        logger.warning(EnvironmentChanged(changes))


def _warn_of_space(run: Run) -> None:
    """Warn before a run whose checkpoints or model will not fit on the disk."""
    model = sum(tensor.nbytes for tensor in run.context.model.state_dict().values())
    # Each holds weights, best weights and two moments. There are the newest, as many between epochs, the best, and the
    # one that is being written.
    checkpoints = (2 * run.config.max_checkpoints + 2) * 4 * model
    places = {run.folder.path: checkpoints}
    if run.info.models_dir is not None:
        places[Path(run.info.models_dir)] = 2 * model
    for place, needed in places.items():
        if (free := free_bytes(place)) < needed:
            logger.warning(DiskNearlyFull(str(place), needed, free))


def _earlier_info(folder: RunFolder, checkpoint: Checkpoint | None) -> RunInfo | None:
    """The record that the earlier part of a resumed run has left, or None."""
    return folder.read_info() if checkpoint is not None and folder.info_path.exists() else None


def _run_info(
    request: TrainingRequest, context: Context, loaders: tuple[Loader, Loader], known: RunInfo | None
) -> RunInfo:
    train, validation = (cast(ChunkDataset, loader.dataset) for loader in loaders)
    digests = train.contents | validation.contents
    info = RunInfo(
        family=request.family_name,
        model_name=request.model_name or request.dataset_name or "model",
        dataset_name=request.dataset_name,
        files=[str(path.absolute()) for path in request.file_paths],
        digests=[digests.get(path, "") for path in request.file_paths],
        duration_s=round(train.duration_s + validation.duration_s, 3),
        config=dataclasses.asdict(request.config),
        model_id=uuid.uuid4().hex,
        started=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        distill_version=__version__,
        models_dir=str(request.models_dir.absolute()) if request.models_dir is not None else None,
        spectrogram_config=dataclasses.asdict(request.spectrogram_config),
        audio_limits=dataclasses.asdict(request.audio_limits),
        model_settings=cast(dict[str, Any], context.model.settings),
        train_files=len(train.digests),
        validation_files=len(validation.digests),
        preview_sounds=[validation.title(index) for index in validation.examples(PAIRS)],
    )
    if known is None:
        return info
    # Results so far, and the id, by which a model that an earlier part has saved is found in the library.
    return dataclasses.replace(
        info,
        model_id=known.model_id or info.model_id,
        validation_vectors=known.validation_vectors,
        final_codebook_health=known.final_codebook_health,
        skipped_steps=known.skipped_steps,
        others=known.others,
    )


def _identity(request: TrainingRequest, loaders: tuple[Loader, Loader]) -> dict[str, Any]:
    """The identity of a run, by which a checkpoint is accepted: settings, mel, and the content of its files."""
    # Digests, not paths: the same files may have been moved or renamed.
    config = dataclasses.asdict(request.config)
    contents = [sorted(cast(ChunkDataset, loader.dataset).digests) for loader in loaders]
    return {
        "config": {name: value for name, value in config.items() if name not in _MAY_DIFFER},
        "spectrogram_config": dataclasses.asdict(request.spectrogram_config),
        "files": hashlib.sha256(repr(contents).encode()).hexdigest(),
    }


def _check_identity(checkpoint: Checkpoint, identity: dict[str, Any], family: Family) -> None:
    then = checkpoint.identity
    # Settings that checkpoints of earlier versions do not have.
    older = {"config": family.file.before, "spectrogram_config": BEFORE}
    if then.keys() != identity.keys() or not all(isinstance(then[part], dict) for part in older):
        raise CheckpointError("the checkpoint does not say which run it belongs to; it is damaged")
    for part, defaults in older.items():
        before, now = {**defaults, **then[part]}, identity[part]
        names = sorted(before.keys() | now)
        if changed := [name for name in names if before.get(name, _ABSENT) != now.get(name, _ABSENT)]:
            listed = ", ".join(
                f"{name} (was {before.get(name, _ABSENT)}, is {now.get(name, _ABSENT)})" for name in changed
            )
            raise CheckpointError(f"a run is resumed with the settings it began with; these differ: {listed}")
    if then["files"] != identity["files"]:
        raise CheckpointError(
            "the sound files are not those the run was started with", NewRun("put them back as they were")
        )
