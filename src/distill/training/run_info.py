"""The record of a run in `run.json`: settings, files, split, and, as it progresses, its outcome."""

import dataclasses
from dataclasses import field
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from distill.errors import ConfigError
from distill.schema import Validated

FORMAT = "distill_run"
VERSION = 1

_STRICT = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, config=_STRICT)
class RunInfo(Validated):
    """The content of a `run.json`; raises `ConfigError` for a value of the wrong type."""

    family: str
    model_name: str
    dataset_name: str
    files: list[str]  # absolute paths
    duration_s: Annotated[float, Field(ge=0, lt=1e9)]  # of sound in the files that are used
    config: dict[str, Any]
    digests: list[str] = field(default_factory=list)  # of the sounds in the files, as `SoundFile.digest`
    model_id: str = ""
    started: str = ""  # ISO 8601, UTC
    distill_version: str = ""
    models_dir: str | None = None
    spectrogram_config: dict[str, Any] = field(default_factory=dict)
    audio_limits: dict[str, Any] = field(default_factory=dict)
    model_settings: dict[str, Any] = field(default_factory=dict)
    train_files: int = 0
    validation_files: int = 0
    preview_sounds: list[str] = field(default_factory=list)  # titles, in the order of the previews' numbers
    # Not known from the beginning:
    total_epochs: int | None = None
    validation_vectors: int | None = None  # over which codebook health is counted
    final_codebook_health: dict[str, dict[str, float]] | None = None
    model_path: str | None = None
    skipped_steps: int | None = None
    others: dict[str, Any] = field(default_factory=dict)  # keys of another version of distill, kept as they are

    def number(self, name: str) -> int | float | None:
        """A setting of the run, its mel or its model, if it is a number: in a stranger's record it can be anything."""
        value = {**self.spectrogram_config, **self.config, **self.model_settings}.get(name)
        return value if isinstance(value, int | float) else None

    def to_dict(self) -> dict[str, Any]:
        """The dictionary that `run.json` holds, without fields that are not yet known."""
        named = {item.name: getattr(self, item.name) for item in dataclasses.fields(self) if item.name != "others"}
        known = {name: value for name, value in named.items() if value is not None or name in _ALWAYS}
        return {"format": FORMAT, "version": VERSION} | known | self.others

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """The inverse of `to_dict`; raises `ConfigError`."""
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise ConfigError("not written by distill")
        names = {item.name for item in dataclasses.fields(cls)} - {"others"}
        others = {name: value for name, value in data.items() if name not in names | {"format", "version"}}
        missing = [name for name in _NEEDED if name not in data]
        if missing:
            raise ConfigError(f"{', '.join(missing)} missing")
        return cls(**{name: data[name] for name in names if name in data}, others=others)


_NEEDED = ("family", "model_name", "dataset_name", "files", "duration_s", "config")
_ALWAYS = {"models_dir", "total_epochs"}  # written even where they are None
