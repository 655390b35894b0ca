"""From a folder and a few wishes to everything a run needs: checked files, fitting settings, places.

Imports no torch, so that it can be imported while sounds are looked through.
"""

import dataclasses
import datetime
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, get_args

from distill.audio.limits import AudioLimits
from distill.audio.recording import Recording
from distill.audio.settings import SpectrogramConfig
from distill.data.collection import Collection, Progress, Sound, find_audio_files, scan
from distill.data.prefetch import prefetched_sounds
from distill.data.probe import probe_headers
from distill.data.waveforms import Waveform, WaveformStore
from distill.errors import CheckpointError, CollectionError, ConfigError, StorageError
from distill.home import default_models_dir, default_runs_dir
from distill.library.header import ModelMetadata
from distill.paths import printable
from distill.storage import safe_stem
from distill.training.config import Device, TrainingConfig, VQVAEConfig, get_adaptive_config, get_adaptive_vqvae_config
from distill.training.run_folder import RunFolder, used_folder

ModelFamily = Literal["vqvae", "vae"]

_FAMILIES: tuple[ModelFamily, ...] = get_args(ModelFamily)


@dataclass(frozen=True)
class RunPlan:
    """What `train_vqvae` or `train` is to be called with."""

    family: ModelFamily
    config: VQVAEConfig | TrainingConfig
    file_paths: tuple[Path, ...]
    seconds: float  # of sound in them
    output_dir: Path
    models_dir: Path
    dataset_name: str
    model_name: str
    resume_from: Path | None = None
    audio_limits: AudioLimits = field(default_factory=AudioLimits)
    sounds: tuple[Sound, ...] | None = field(default=None, repr=False)  # of the files, where they were looked through

    def arguments(self) -> dict[str, Any]:
        """The arguments of the training function, its callback and cancel event aside."""
        return {
            "config": self.config,
            "file_paths": list(self.file_paths),
            "output_dir": self.output_dir,
            "device": self.config.device,
            "models_dir": self.models_dir,
            "dataset_name": self.dataset_name,
            "model_name": self.model_name,
            "resume_from": self.resume_from,
            "audio_limits": self.audio_limits,
            "sounds": self.sounds,
        }

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary; `from_dict` makes the plan of it, with absolute paths and without decoded sounds."""
        plain = dataclasses.asdict(dataclasses.replace(self, sounds=None))
        places = {name: str(value.absolute()) for name, value in plain.items() if isinstance(value, Path)}
        return plain | places | {"file_paths": [str(path.absolute()) for path in self.file_paths]}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The inverse of `to_dict`; raises `ConfigError`, `KeyError` or `TypeError` for anything else."""
        places = {name: Path(data[name]) for name in ("output_dir", "models_dir")}
        return cls(
            **data
            | places
            | {
                "config": _preset(data["family"], 0, 0.0, **data["config"]),
                "file_paths": tuple(map(Path, data["file_paths"])),
                "resume_from": data["resume_from"] and Path(data["resume_from"]),
                "audio_limits": AudioLimits(**data["audio_limits"]),
            }
        )


def plan_run(
    folder: Path,
    *,
    model_name: str | None = None,
    models_dir: Path | None = None,
    output_dir: Path | None = None,
    progress: Progress | None = None,
    family: ModelFamily = "vqvae",
    audio_limits: AudioLimits | None = None,
    **settings: Any,
) -> tuple[RunPlan, Collection]:
    """Look through `folder` and plan a run on its usable files; `settings` override fields of the preset.

    Raises `CollectionError` when there is too little to train on, `ConfigError` for a bad setting.
    """
    dataset_name = printable(folder.resolve().name)
    limits = audio_limits or AudioLimits()
    places = _Places.of(model_name or dataset_name or "model", models_dir, output_dir)
    _check_wishes(family, places, settings)  # what is wrong is told before the files are read, not after
    collection, sounds = _look_through(find_audio_files(folder), progress, limits)
    _check_usable(folder, collection)
    plan = _plan(collection, family, dataset_name, places, limits, settings)
    return dataclasses.replace(plan, sounds=sounds), collection


def _look_through(
    paths: list[Path], progress: Progress | None, limits: AudioLimits
) -> tuple[Collection, tuple[Sound, ...]]:
    """What there is, and the sounds that can be used of it: decoded, or of a long collection, awaited."""
    rate = SpectrogramConfig().sample_rate
    if (seen := probe_headers(paths, progress, limits)) is not None:
        return seen, prefetched_sounds(seen, rate)
    store, kept = WaveformStore(), dict[Path, Waveform]()

    def keep(path: Path, recording: Recording) -> None:
        kept[path] = store.keep(recording.mono(rate))

    collection = scan(paths, progress, limits, keep)
    usable = sorted(collection.usable, key=lambda file: file.digest)
    return collection, tuple(Sound(file.path, file.digest, kept[file.path]) for file in usable)


def plan_files(
    collection: Collection,
    *,
    dataset_name: str,
    model_name: str,
    models_dir: Path,
    output_dir: Path,
    family: ModelFamily = "vqvae",
    **settings: Any,
) -> RunPlan:
    """Plan a run on files that were looked through before; raises what `plan_run` does."""
    places = _Places.of(model_name, models_dir, output_dir)
    _check_wishes(family, places, settings)
    _check_usable(Path(dataset_name), collection)
    return _plan(collection, family, dataset_name, places, AudioLimits(), settings)


@dataclass(frozen=True)
class _Places:
    """What a model is to be called, and where it and its run are to lie."""

    model_name: str
    models_dir: Path
    output_dir: Path

    @classmethod
    def of(cls, name: str, models_dir: Path | None, output_dir: Path | None) -> Self:
        return cls(name, models_dir or default_models_dir(), output_dir or new_run_folder(name))


def new_run_folder(name: str) -> Path:
    """A place for a run that makes a model called `name`, with the time in it."""
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    return default_runs_dir() / f"{safe_stem(name)}-{stamp}"


def _check_wishes(family: ModelFamily, places: _Places, settings: dict[str, Any]) -> None:
    """Raises `ConfigError`, `StorageError`."""
    if family not in _FAMILIES:
        raise ConfigError(f"there is no family {family!r}; there are {', '.join(_FAMILIES)}")
    _preset(family, 0, 0.0, **settings)
    if (device := settings.get("device", "auto")) != "auto":
        from distill.training.device import resolve_device  # which imports torch

        resolve_device(device)
    ModelMetadata(name=places.model_name)
    _check_folder(places.models_dir)
    _check_folder(places.output_dir)
    if RunFolder(places.output_dir).used:
        raise ConfigError(used_folder(places.output_dir))


def _plan(
    collection: Collection,
    family: ModelFamily,
    dataset_name: str,
    places: _Places,
    limits: AudioLimits,
    settings: dict[str, Any],
) -> RunPlan:
    seconds = sum(file.duration_s for file in collection.usable)
    return RunPlan(
        family=family,
        config=_preset(family, len(collection.usable), seconds, **settings),
        file_paths=tuple(file.path for file in collection.usable),
        seconds=seconds,
        output_dir=places.output_dir,
        models_dir=places.models_dir,
        dataset_name=dataset_name,
        model_name=places.model_name,
        audio_limits=limits,
    )


def plan_resume(run_folder: Path, *, device: Device = "auto", models_dir: Path | None = None) -> RunPlan:
    """The plan of the run in `run_folder`, to go on from its newest checkpoint; raises `CheckpointError`."""
    facts = RunFolder(run_folder).read_info()
    try:
        if Path(facts.get("model_path") or "").is_file():
            raise CheckpointError(f"{run_folder}: this run is finished; its model is {facts['model_path']}")
        family: ModelFamily = facts["family"]
        _check_there(run_folder, tuple(Path(path) for path in facts["files"]))
        return RunPlan(
            family=family,
            config=_preset(family, 0, 0.0, **(facts["config"] | {"device": device})),
            file_paths=tuple(Path(path) for path in facts["files"]),
            seconds=float(facts["duration_s"]),
            output_dir=run_folder,
            models_dir=models_dir or Path(facts["models_dir"] or default_models_dir()),
            dataset_name=facts["dataset_name"],
            model_name=facts["model_name"],
            resume_from=run_folder,
            audio_limits=AudioLimits(**(facts.get("audio_limits") or {})),
        )
    except (KeyError, TypeError, OSError) as error:
        raise CheckpointError(f"{run_folder}: its run.json is incomplete ({error}); start a new run") from error


def _check_there(run_folder: Path, files: tuple[Path, ...]) -> None:
    gone = [printable(path.name) for path in files if not path.is_file()]
    if gone:
        raise CheckpointError(
            f"{run_folder}: {len(gone)} of the {len(files)} sound files it was started with are no longer where they "
            f"were ({gone[0]}{', …' if len(gone) > 1 else ''}); put them back, or start a new run"
        )


def _preset(family: ModelFamily, files: int, seconds: float, **settings: Any) -> VQVAEConfig | TrainingConfig:
    if family == "vae":
        return get_adaptive_config(files, **settings)
    return get_adaptive_vqvae_config(files, seconds, **settings)


def overridden(plan: RunPlan) -> set[str]:
    """The settings in which a plan differs from the preset for its sounds."""
    preset = dataclasses.asdict(_preset(plan.family, len(plan.file_paths), plan.seconds))
    return {name for name, value in dataclasses.asdict(plan.config).items() if value != preset[name]}


def _check_folder(folder: Path) -> None:
    """A place that cannot be written to is told before the training, not after; raises `StorageError`."""
    place = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not place.is_dir():
        raise StorageError(f"{folder}: cannot be made, for {place} is a file; give another folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise StorageError(f"{place}: no permission to write there; give another folder")


def _check_usable(folder: Path, collection: Collection) -> None:
    if len(collection.usable) >= 2:
        return
    if not collection.files and not collection.unreadable:
        raise CollectionError(f"{printable(folder)}: no sound is left; training needs at least two different ones")
    if not collection.files:
        raise CollectionError(
            f"{printable(folder)}: none of its {len(collection.unreadable)} audio files could be read; "
            f"the first: {printable(collection.unreadable[0].path.name)}: {collection.unreadable[0].reason}"
        )
    if not collection.usable:
        raise CollectionError(
            f"{printable(folder)}: all {len(collection.files)} readable files are silent; there is nothing to learn"
        )
    only = printable(collection.usable[0].path.name)
    raise CollectionError(
        f"{printable(folder)}: only one usable sound ({only}); training needs at least two different "
        "ones, one to learn from and one to check the learning with (a long recording can be cut into several)"
    )
