"""The request for a training run: one value that goes from the command line, the page or Python to the trainer.

Imports no torch, so that a request can be made and checked while torch is still being imported.
"""

import dataclasses
import datetime
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from distill.audio.limits import AudioLimits
from distill.audio.settings import SpectrogramConfig
from distill.data.collection import Collection, Progress, Sound, find_audio_files
from distill.data.opening import open_collection
from distill.errors import (
    CheckpointError,
    CollectionError,
    ConfigError,
    CutRecordings,
    FindSounds,
    StorageError,
    UsedFolder,
)
from distill.families import Family, get_family
from distill.home import default_models_dir, default_runs_dir
from distill.library.header import ModelMetadata
from distill.paths import printable
from distill.storage import another_place, safe_stem
from distill.training.config import EngineConfig
from distill.training.run_folder import RunFolder


@dataclass(frozen=True)
class TrainingRequest:
    """A request for a training run; `new` and `resume` make one, `with_sounds` fits it to a collection."""

    family_name: str
    config: EngineConfig
    output_dir: Path
    file_paths: tuple[Path, ...] = ()
    seconds: float = 0.0  # of sound in the files, where it is known
    models_dir: Path | None = None  # the library; None saves no model
    dataset_name: str = ""
    model_name: str = ""
    resume_from: Path | None = None  # a checkpoint or a run folder
    device: str = "auto"  # overrides the device of the configuration, unless it is "auto"
    chosen: frozenset[str] = frozenset()  # settings that the user set; the others are the preset's
    spectrogram_config: SpectrogramConfig = field(default_factory=SpectrogramConfig)
    sample_rate: int | None = None  # Hz, if the user has set it; otherwise the rate follows the sounds
    audio_limits: AudioLimits = field(default_factory=AudioLimits)
    sounds: tuple[Sound, ...] | None = field(default=None, repr=False, compare=False)  # of the files, if opened

    @property
    def family(self) -> Family:
        """The entry of the family in the registry."""
        return get_family(self.family_name)

    @classmethod
    def new(
        cls,
        dataset_name: str,
        *,
        family: str = "vqvae",
        model_name: str | None = None,
        models_dir: Path | None = None,
        output_dir: Path | None = None,
        audio_limits: AudioLimits | None = None,
        sample_rate: int | None = None,
        **settings: Any,
    ) -> Self:
        """A request whose sounds are not yet known, checked as far as possible before they are read.

        `settings` override the preset. Without a `sample_rate` in Hz, the rate follows the sounds. Raises
        `ConfigError`, `StorageError`.
        """
        name = model_name or dataset_name or "model"
        usual = _usual_spectrogram(family)
        request = cls(
            family_name=family,
            config=get_family(family).preset(0, 0.0, **settings),  # until `with_sounds` knows how much sound there is
            output_dir=output_dir or new_run_folder(name),
            models_dir=models_dir or default_models_dir(),
            dataset_name=dataset_name,
            model_name=name,
            chosen=frozenset(settings),
            spectrogram_config=usual if sample_rate is None else usual.at_rate(sample_rate),
            sample_rate=sample_rate,
            audio_limits=audio_limits or AudioLimits(),
        )
        request._check()
        return request

    @classmethod
    def for_folder(cls, folder: Path, **options: Any) -> Self:
        """`new` and `with_sounds` in one, for the sounds in `folder`; `options` are those of `new`.

        Raises `CollectionError`, `ConfigError`, `StorageError`.
        """
        request = cls.new(printable(folder.resolve().name), **options)
        return request.with_sounds(request.open(find_audio_files(folder)), folder)

    def open(self, paths: Sequence[Path], progress: Progress | None = None) -> Collection:
        """Open a collection and keep its sounds at the rate to train at; raises `StorageError`."""
        usual = self.spectrogram_config.sample_rate
        return open_collection(paths, self.sample_rate, usual_rate=usual, progress=progress, limits=self.audio_limits)

    @classmethod
    def of_arguments(
        cls,
        family: str,
        config: EngineConfig,
        file_paths: Sequence[Path | str],
        output_dir: Path | str,
        *,
        device: object = "auto",
        models_dir: Path | str | None = None,
        resume_from: Path | str | None = None,
        sounds: Sequence[Sound] | None = None,
        spectrogram_config: SpectrogramConfig | None = None,
        audio_limits: AudioLimits | None = None,
        dataset_name: str = "",
        model_name: str = "",
    ) -> Self:
        """The request made of the arguments of `train_vqvae` or `train`; paths and `device` may be given as text."""
        return cls(
            family_name=family,
            config=config,
            output_dir=Path(output_dir),
            file_paths=tuple(map(Path, file_paths)),
            models_dir=Path(models_dir) if models_dir is not None else None,
            resume_from=Path(resume_from) if resume_from is not None else None,
            device=str(device),
            spectrogram_config=spectrogram_config or _usual_spectrogram(family),
            audio_limits=audio_limits or AudioLimits(),
            sounds=tuple(sounds) if sounds is not None else None,
            dataset_name=dataset_name,
            model_name=model_name,
        )

    def _check(self) -> None:
        """Raise errors that would otherwise come only after the sounds are read, or at the very end."""
        if self.config.device != "auto":
            from distill.training.device import resolve_device  # which imports torch

            resolve_device(self.config.device)
        ModelMetadata(name=self.model_name)  # refuses a name that the model could not be saved under
        for folder in (self.models_dir, self.output_dir):
            if folder is not None:
                _check_writable(folder)
        if RunFolder(self.output_dir).used:
            raise ConfigError(f"{self.output_dir} holds a run already", UsedFolder())

    def with_sounds(self, collection: Collection, shown_as: Path | str | None = None) -> Self:
        """The request for the usable sounds of a collection, with the preset for that much sound and their rate.

        Raises `CollectionError` when there is too little to train on; `shown_as` names the collection in the message.
        """
        check_usable(shown_as or self.dataset_name, collection)
        seconds = sum(file.duration_s for file in collection.usable)
        settings = {name: getattr(self.config, name) for name in self.chosen}
        mel = self.spectrogram_config
        rate = collection.sample_rate or self.sample_rate or collection.common_rate or mel.sample_rate
        return dataclasses.replace(
            self,
            config=self.family.preset(len(collection.usable), seconds, **settings),
            file_paths=tuple(file.path for file in collection.usable),
            seconds=seconds,
            sounds=collection.sounds,
            spectrogram_config=mel if rate == mel.sample_rate else _usual_spectrogram(self.family_name).at_rate(rate),
        )

    @property
    def kilobits(self) -> float | None:
        """The bit rate of the codes in kbit/s, or None for a model without codes."""
        return self.config.kilobits(self.spectrogram_config.frame_rate)

    @property
    def rate_remark(self) -> str:
        """How the model hears its sounds, in words: in mono, and at which rate."""
        rate, usual = self.spectrogram_config.sample_rate, _usual_spectrogram(self.family_name).sample_rate
        # The record of a run that is resumed does not hold the reason.
        follows = rate != usual and self.sample_rate is None and self.resume_from is None
        return f"trained in mono, at {rate:,} Hz" + (", the rate of all sounds" if follows else "")

    @classmethod
    def resume(
        cls,
        run_folder: Path,
        *,
        device: str = "auto",
        models_dir: Path | None = None,
        files: Sequence[Path] | None = None,
        finished_too: bool = False,
    ) -> Self:
        """The request to resume the run in `run_folder` from its newest checkpoint; raises `CheckpointError`.

        `files` says where its sounds are now, in the order of its record, if they were moved.
        A run that is finished is refused, unless `finished_too`: then its end is done again.
        """
        info = RunFolder(run_folder).read_info()
        try:
            if info.model_path and Path(info.model_path).is_file() and not finished_too:
                raise CheckpointError(f"{run_folder}: this run is finished; its model is {info.model_path}")
            paths = tuple(map(Path, info.files)) if files is None else tuple(files)
            _check_files_exist(run_folder, paths)
            family = get_family(info.family)
            # The record has every setting, so nothing of the preset is left, whatever number of files it is for.
            config = family.preset(0, 0.0, **{**family.file.before, **info.config, "device": device})
            spectrogram = SpectrogramConfig(**info.spectrogram_config)
            limits = AudioLimits(**info.audio_limits)
        except (ConfigError, TypeError, OSError, ValueError) as error:  # the record may hold anything
            raise CheckpointError(f"{run_folder}: its run.json is damaged ({error})", "start a new run") from error
        return cls(
            family_name=family.name,
            config=config,
            output_dir=run_folder,
            file_paths=paths,
            seconds=info.duration_s,
            models_dir=models_dir or Path(info.models_dir or default_models_dir()),
            dataset_name=info.dataset_name,
            model_name=info.model_name,
            resume_from=run_folder,
            # The record does not hold which settings the user set; those that differ from the preset must be theirs.
            chosen=_differing(config, family.preset(len(paths), info.duration_s)),
            spectrogram_config=spectrogram,
            audio_limits=limits,
        )

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary, with absolute paths; `from_dict` makes the request of it, without decoded sounds."""
        plain = dataclasses.asdict(dataclasses.replace(self, sounds=None))  # `asdict` would copy all samples
        places = {name: str(value.absolute()) for name, value in plain.items() if isinstance(value, Path)}
        files = [str(path.absolute()) for path in self.file_paths]
        return plain | places | {"file_paths": files, "chosen": sorted(self.chosen)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`; raises `ConfigError`, `KeyError` or `TypeError` for anything else."""
        # Some keys were added later, and may be missing.
        given = dict(data)
        family = get_family(given.pop("family", None) or given["family_name"])  # "family" is what 0.1.0 wrote
        before = family.file.before if given["resume_from"] is not None else {}
        for name in ("output_dir", "models_dir", "resume_from"):
            given[name] = Path(given[name]) if given[name] is not None else None
        return cls(
            **given
            | {
                "family_name": family.name,
                "config": family.preset(0, 0.0, **{**before, **given["config"]}),
                "file_paths": tuple(map(Path, given["file_paths"])),
                "chosen": frozenset(given.get("chosen", ())),
                "audio_limits": AudioLimits(**given["audio_limits"]),
                "spectrogram_config": SpectrogramConfig(**given.get("spectrogram_config", {})),
                "sounds": None,
            }
        )


def new_run_folder(name: str) -> Path:
    """A new folder below the default one for runs, named after the model and the time; it is not created."""
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    return default_runs_dir() / f"{safe_stem(name)}-{stamp}"


def _usual_spectrogram(family: str) -> SpectrogramConfig:
    return get_family(family).spectrogram or SpectrogramConfig()


def check_usable(folder: Path | str, collection: Collection) -> None:
    """Raise `CollectionError` unless there are two usable sounds, one to learn from and one to check with."""
    if len(collection.usable) >= 2:
        return
    place = printable(folder)
    if not collection.files and not collection.unreadable:
        raise CollectionError(f"{place}: no sound is left; training needs at least two different ones")
    if not collection.files:
        first = collection.unreadable[0]
        raise CollectionError(
            f"{place}: none of its {len(collection.unreadable)} audio files could be read; "
            f"the first: {printable(first.path.name)}: {first.reason}",
            first.remedy,
        )
    if not collection.usable:
        mute = collection.files[0]
        raise CollectionError(
            f"{place}: none of its {len(collection.files)} readable files can be used; "
            f"the first: {printable(mute.path.name)}: {mute.notes[0]}",
            mute.remedy,
        )
    only = printable(collection.usable[0].path.name)
    raise CollectionError(
        f"{place}: only one usable sound ({only}); training needs at least two different "
        "ones, one to learn from and one to check the learning with",
        CutRecordings(),
    )


def _check_files_exist(run_folder: Path, files: tuple[Path, ...]) -> None:
    gone = [printable(path.name) for path in files if not path.is_file()]
    if gone:
        raise CheckpointError(
            f"{run_folder}: {len(gone)} of the {len(files)} sound files it was started with are no longer where they "
            f"were ({gone[0]}{', …' if len(gone) > 1 else ''})",
            FindSounds(),
        )


def _differing(config: EngineConfig, preset: EngineConfig) -> frozenset[str]:
    """The names of the settings in which two configurations of a family differ."""
    return frozenset(name for name, value in vars(config).items() if value != vars(preset).get(name))


def _check_writable(folder: Path) -> None:
    """Raise `StorageError` for a folder that cannot be written to, so that a run fails before training, not after."""
    # The folder need not exist yet: its nearest existing parent decides.
    place = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    remedy = another_place(folder, "give another folder")
    if not place.is_dir():
        raise StorageError(f"{folder}: cannot be created, because {place} is a file", remedy)
    if not os.access(place, os.W_OK | os.X_OK):
        raise StorageError(f"{place}: no permission to write there", remedy)
