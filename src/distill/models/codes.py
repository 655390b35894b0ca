"""The codes of a sound as a value of its own, and the `.npz` files that keep it. Imports no torch.

Such a file may come from anybody: nothing in it is unpickled, and no size that it states is believed before as many
bytes are there.
"""

import io
import math
import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from distill.errors import CodesError
from distill.storage import atomic_write

_NO_CODE = -1  # `distill.models.quantizer.NO_CODE`, which cannot be imported without torch
_MAX_LEVELS, _MAX_ROWS, _MAX_CODE = 4, 32, 65_535  # of any model
_MAX_PLACES = 1 << 24  # in a grid: hours of sound
_MAX_SECONDS = 360_000.0
_MAX_ID = 64  # characters
_MAX_FILE = 1 << 27  # bytes
_MAX_HEADER = 1024  # bytes of the header of an array, which states its shape and type
_FORM = {"grid": np.dtype("<i4"), "model": np.dtype(f"<U{_MAX_ID}"), "seconds": np.dtype("<f8")}


@dataclass(frozen=True, eq=False)
class Codes:
    """The codes of one sound: `grid` int64 `[Q, H, W]`, -1 where there is none; the id of their `model`; `seconds`.

    A column without codes is silent; a level without codes adds nothing. Raises `CodesError` for what no model has.
    """

    grid: npt.NDArray[np.int64]
    model: str
    seconds: float

    def __post_init__(self) -> None:
        grid = np.asarray(self.grid)
        if grid.ndim != 3 or grid.dtype.kind not in "iu" or grid.size == 0:
            raise CodesError(f"the codes are {grid.dtype} of shape {grid.shape}", "they must be integers [Q, H, W]")
        if grid.shape[0] > _MAX_LEVELS or grid.shape[1] > _MAX_ROWS or grid.size > _MAX_PLACES:
            raise CodesError(f"a grid of codes of shape {grid.shape} is larger than that of any model")
        if grid.min() < _NO_CODE or grid.max() > _MAX_CODE:
            raise CodesError(f"the codes are from {grid.min()} to {grid.max()}", f"they may be from -1 to {_MAX_CODE}")
        if len(self.model) > _MAX_ID:
            raise CodesError(f"the id of the model has {len(self.model)} characters", f"it may have {_MAX_ID}")
        if not 0 < self.seconds <= _MAX_SECONDS:  # which NaN is not either
            raise CodesError(f"the codes last {self.seconds} s", f"it must be above 0 and at most {_MAX_SECONDS:.0f}")
        own = np.array(grid, np.int64, order="C")  # which a file of codes needs
        own.setflags(write=False)
        object.__setattr__(self, "grid", own)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Codes):
            return NotImplemented
        return (self.model, self.seconds) == (other.model, other.seconds) and np.array_equal(self.grid, other.grid)

    def to_bytes(self) -> bytes:
        """The content of an `.npz` file: `grid`, `model` and `seconds`."""
        buffer = io.BytesIO()
        values: dict[str, Any] = {name: np.asarray(getattr(self, name), form) for name, form in _FORM.items()}
        np.savez_compressed(buffer, **values)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The codes that `to_bytes` gave; raises `CodesError` for anything else."""
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                if sorted(archive.namelist()) != sorted(f"{name}.npy" for name in _FORM):
                    raise CodesError(f"it does not hold just {', '.join(_FORM)}")
                grid, model, seconds = (_read_array(archive, name, form) for name, form in _FORM.items())
        except CodesError:
            raise
        # What damage leads to in `zipfile`, `zlib` and numpy's reader of headers.
        except (
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            OSError,
            NotImplementedError,
            RuntimeError,
            ValueError,
        ) as error:
            raise CodesError("it is no archive of arrays, or damaged") from error
        if model.shape or seconds.shape:
            raise CodesError("its id of a model or its seconds are more than one")
        return cls(grid.astype(np.int64), str(model), float(seconds))

    def save(self, path: Path | str) -> Path:
        """Write an `.npz` file, which `load` reads; raises `StorageError`."""
        atomic_write(Path(path), self.to_bytes())
        return Path(path)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read a file that `save` wrote, or anybody; raises `CodesError` where it is not one."""
        data = _read(Path(path))
        try:
            return cls.from_bytes(data)
        except CodesError as error:
            raise CodesError(f"{path}: not the codes of a sound: {error}") from error


@dataclass(frozen=True)
class Codebook:
    """What there is to know of all codes of a model: their vectors float32 `[Q, K, D]`, and the time of columns."""

    vectors: npt.NDArray[np.float32]
    column_seconds: float  # from one column to the next
    span_seconds: float  # that a column describes; where columns overlap, the first begins before the sound does

    def counts(self, codes: Codes) -> npt.NDArray[np.int64]:
        """How often each code occurs, int64 `[q, K]`."""
        size = self.vectors.shape[1]
        return np.stack([np.bincount(level[level >= 0], minlength=size) for level in codes.grid])


def _read(path: Path) -> bytes:
    """The content of a file that may be one of codes; raises `CodesError`."""
    try:
        status = path.stat()  # before opening it: opening a pipe would block
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_FILE:
            raise CodesError(f"{path}: not a file, or far too large for codes")
        return path.read_bytes()
    except OSError as error:
        raise CodesError(f"{path}: {error.strerror or error}") from error


def _largest(name: str) -> int:
    """The number of bytes of an array with its header."""
    return _MAX_HEADER + (_MAX_PLACES if name == "grid" else 1) * _FORM[name].itemsize


def _read_array(archive: zipfile.ZipFile, name: str, form: np.dtype[Any]) -> npt.NDArray[Any]:
    """An array of type `form`, as large as it says."""
    largest = _largest(name)
    if archive.getinfo(f"{name}.npy").file_size > largest:
        raise CodesError(f"its {name} is far too large")
    with archive.open(f"{name}.npy") as member:
        data = io.BytesIO(member.read(largest + 1))
    if np.lib.format.read_magic(data) != (1, 0):
        raise CodesError(f"its {name} is in another format")
    shape, fortran, found = np.lib.format.read_array_header_1_0(data, max_header_size=_MAX_HEADER)
    rest = data.read()
    # numpy itself would make room for any shape before it looks for the numbers.
    if found != form or fortran or len(shape) > 3 or math.prod(shape) * form.itemsize != len(rest):
        raise CodesError(f"its {name} is not {form}, or not as large as it says")
    return np.frombuffer(rest, form).reshape(shape)
