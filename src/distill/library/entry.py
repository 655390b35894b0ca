"""The entry of one model in the library: what its file says of itself, and the state of the file when it said so."""

import os
import stat
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, PlainValidator
from pydantic.dataclasses import dataclass

from distill.errors import ConfigError, ModelFileError
from distill.library.header import read_header, why_not_loaded
from distill.schema import VALIDATED, Validated


def _file_name(value: Any) -> str:
    """Check that a value is a bare file name; pydantic's own `str` refuses names that are not UTF-8."""
    if not (isinstance(value, str) and value and Path(value).name == value):
        raise ValueError("it should be the name of a file in the library's folder")
    return value


@dataclass(frozen=True, config=VALIDATED)
class ModelEntry(Validated):
    """One model in the library; `file` is its name within the folder."""

    model_id: str
    name: str
    file: Annotated[str, PlainValidator(_file_name)]
    model_type: str
    save_date: str
    dataset_name: str = ""
    file_count: int = 0
    epochs: int = 0
    val_loss: float | None = None
    # Bounded, because a file from a stranger can hold an integer too large to be written as JSON.
    num_quantizers: int | None = Field(default=None, ge=0, le=10**9)
    codebook_size: int | None = Field(default=None, ge=0, le=10**9)
    size_bytes: int = 0
    modified_ns: int = 0
    problem: str = ""  # why it cannot be loaded

    @classmethod
    def of_file(cls, path: Path) -> Self:
        """The entry that the model file at `path` describes; raises `ModelFileError`."""
        status = _status(path)  # before the content, so that a file replaced in between is read again next time
        header = read_header(path)
        about = header.metadata
        try:
            return cls(
                model_id=about.model_id,
                name=about.name,
                file=path.name,
                model_type=header.model_type,
                save_date=about.save_date,
                dataset_name=about.dataset_name,
                file_count=about.file_count,
                epochs=about.epochs,
                val_loss=about.val_loss,
                num_quantizers=header.settings.get("num_quantizers"),
                codebook_size=header.settings.get("codebook_size"),
                size_bytes=status.st_size,
                modified_ns=status.st_mtime_ns,
                problem=why_not_loaded(path, header),
            )
        except ConfigError as error:
            raise ModelFileError(f"{path}: its metadata is damaged ({error})") from error

    def describes(self, path: Path) -> bool:
        """True if the file at `path` is still the one that this entry was made from."""
        try:
            status = _status(path)
        except ModelFileError:
            return False
        return (self.size_bytes, self.modified_ns) == (status.st_size, status.st_mtime_ns)


def _status(path: Path) -> os.stat_result:
    """The size and time of a model file; raises `ModelFileError` when there is none, or something else in its place."""
    try:
        status = path.stat()
    except OSError as error:
        raise ModelFileError(f"{path}: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise ModelFileError(f"{path}: not a file", "give a model file")
    return status
