"""What a file written by `torch.save` holds, found out without torch and without running anything from it.

The file is a zip archive: one pickle for the dictionary's structure (`data.pkl`), one member per tensor (`data/0`, …).
A file from a stranger may be anything, so it is believed nothing: the members must be exactly those that torch
writes, stored as they are (what is not compressed cannot be a bomb), whole by their checksums; the pickle may
use only the opcodes that plain values and dense tensors need; each tensor must fill a member of its own.
"""

import io
import math
import pickle
import pickletools
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from distill.errors import DistillError

_PICKLE = "data.pkl"
_TENSORS = "data/"
_FOLDER = 0x10  # torch reads no content of a member with this mark, and takes what lies in memory for it
_SMALL_MEMBERS = frozenset({".format_version", ".storage_alignment", "byteorder", "version", ".data/serialization_id"})
_MAX_SMALL = 64  # bytes
_MAX_OPCODES = 1_000_000  # a real file has some thousands, and four per epoch for its curves
_MAX_DEPTH = 16
_BLOCK = 1 << 20

_OPCODES = frozenset(
    {
        *("PROTO", "STOP", "MARK", "GLOBAL", "REDUCE", "BUILD", "BINPERSID"),
        *("NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"),
        *("EMPTY_DICT", "SETITEM", "SETITEMS", "EMPTY_LIST", "APPEND", "APPENDS"),
        *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
        *("BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
    }
)
_MEMO_WRITES = frozenset({"BINPUT", "LONG_BINPUT"})
_ITEM_SIZES = {
    "BoolStorage": 1,
    "BFloat16Storage": 2,
    "HalfStorage": 2,
    "IntStorage": 4,
    "FloatStorage": 4,
    "LongStorage": 8,
    "DoubleStorage": 8,
}


class Malformed(ValueError):
    """The file is not what `torch.save` makes of plain values and dense tensors; the message says in what."""


@dataclass(frozen=True)
class TensorRecord:
    """Stands in the structure where the file has a tensor of this `shape`."""

    shape: tuple[int, ...]

    def __setstate__(self, state: object) -> None:
        """Refuse to become another tensor than the one that was checked; raises `Malformed`."""
        raise Malformed("its tensors are changed after they were made")


class _Dictionary(dict[Any, Any]):
    """An `OrderedDict` of the file, without the attributes that torch gives one."""

    def __setstate__(self, state: object) -> None:
        """Leave the attributes out."""


@dataclass(frozen=True)
class _Storage:
    key: str
    items: int


@dataclass(frozen=True)
class _Container:
    """An archive, and its members by their names below its one folder."""

    archive: zipfile.ZipFile
    members: dict[str, zipfile.ZipInfo]


def read_structure(file: BinaryIO) -> Any:
    """The dictionary in the file, with a `TensorRecord` for each tensor, whose numbers are not looked at.

    Raises `Malformed`, `OSError`.
    """
    return _structure(_open(file))


def check_container(file: BinaryIO) -> Any:
    """`read_structure`, after every member was read through and found whole; raises `Malformed`, `OSError`."""
    container = _open(file)
    for member in container.members.values():
        _read_through(container.archive, member)
    order = container.members.get("byteorder")
    if order and container.archive.read(order) != b"little":
        raise Malformed("its numbers are in another byte order")
    return _structure(container)


def _open(file: BinaryIO) -> _Container:
    try:
        archive = zipfile.ZipFile(file)
        infos = archive.infolist()
    except OSError:
        raise
    except Exception as error:  # a damaged directory can raise anything
        raise Malformed("it is no archive, or was cut short") from error
    root = infos[0].filename.partition("/")[0] + "/" if infos else ""  # torch calls it after the file
    members = {info.filename.removeprefix(root): info for info in infos if info.filename.startswith(root)}
    if archive.comment or len(members) != len(infos) or _PICKLE not in members:
        raise Malformed("its members are not those of a model file")
    _check_members(members, file.seek(0, io.SEEK_END))
    return _Container(archive, members)


def _check_members(members: dict[str, zipfile.ZipInfo], size: int) -> None:
    for name, info in members.items():
        if not (name == _PICKLE or name in _SMALL_MEMBERS or name.removeprefix(_TENSORS).isdecimal()):
            raise Malformed(f"it has a member {name[:80]!r} that no model file has")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size or info.flag_bits & 1:
            raise Malformed("its members are compressed or encrypted")
        if info.external_attr & _FOLDER:
            raise Malformed("a member of it is marked as a folder")
        if name in _SMALL_MEMBERS and info.file_size > _MAX_SMALL:
            raise Malformed(f"its member {name!r} is too large")
    if min(info.header_offset for info in members.values()) != 0 or sum(i.file_size for i in members.values()) > size:
        raise Malformed("its members overlap, or something stands before them")


def _structure(container: _Container) -> Any:
    try:
        program = container.archive.read(container.members[_PICKLE])
    except OSError:
        raise
    except Exception as error:
        raise Malformed("its structure is damaged") from error
    _check_program(program)
    reader = _StructureReader(io.BytesIO(program))
    try:
        structure = reader.load()
    except Malformed:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise Malformed("its structure is damaged") from error
    stored = {name: info.file_size for name, info in container.members.items() if name.startswith(_TENSORS)}
    if stored != {_TENSORS + key: size for key, size in reader.sizes.items()}:
        raise Malformed("its tensors are not as large as they claim")
    check_values(structure, len(program))
    return structure


def _check_program(program: bytes) -> None:
    """Only harmless opcodes, not too many, and no memo index that would make the reader allocate for it."""
    count = 0
    try:
        for opcode, argument, _ in pickletools.genops(program):
            count += 1
            if opcode.name not in _OPCODES:
                raise Malformed(f"its structure uses {opcode.name}, which plain values never need")
            if count > _MAX_OPCODES or (opcode.name in _MEMO_WRITES and _index(argument) > count):
                raise Malformed("its structure is too large")
    except Malformed:
        raise
    except Exception as error:
        raise Malformed("its structure is damaged") from error


def _index(argument: object) -> int:
    return argument if isinstance(argument, int) else _MAX_OPCODES


class _StructureReader(pickle.Unpickler):
    """Builds plain values and tensor records; any other name in the file is refused."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.sizes: dict[str, int] = {}  # bytes of each tensor's member

    def persistent_load(self, pid: Any) -> _Storage:
        """A tensor's storage, which no other tensor may share."""
        kind, item_size, key, location, items = pid
        if kind != "storage" or location != "cpu" or key in self.sizes or not isinstance(items, int) or items < 0:
            raise Malformed("its tensors share their numbers, or are damaged")
        self.sizes[str(key)] = item_size * items
        return _Storage(str(key), items)

    def find_class(self, module: str, name: str) -> Any:
        """What stands for the few names that torch writes."""
        if module == "torch" and name in _ITEM_SIZES:
            return _ITEM_SIZES[name]
        known: dict[tuple[str, str], Callable[..., Any]] = {
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            ("collections", "OrderedDict"): _Dictionary,
        }
        if (module, name) not in known:
            raise Malformed(f"it asks for {module[:80]}.{name[:80]}, which has no place in a model file")
        return known[module, name]


def _tensor(
    storage: _Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], requires_grad: bool, hooks: Any
) -> TensorRecord:
    dense = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    # The stride of an axis of one entry says nothing, and torch writes what it likes there.
    wrong = any(found != wanted for found, wanted, size in zip(stride, dense, shape, strict=True) if size > 1)
    if wrong or offset or requires_grad or hooks or math.prod(shape) != storage.items or any(n < 0 for n in shape):
        raise Malformed("its tensors are not dense")
    return TensorRecord(shape)


def check_values(structure: Any, budget: int) -> None:
    """Plain values only, and at most `budget`, the size in bytes of what they were read from.

    More values than bytes would be one value many times over. Raises `Malformed`.
    """
    left = budget
    for value, depth in _walk(structure, 0):
        left -= 1
        if left < 0 or depth > _MAX_DEPTH:
            raise Malformed("its structure is too large")
        if not isinstance(value, bool | int | float | str | dict | list | tuple | TensorRecord | None):
            raise Malformed("it holds what is no plain value")


def _walk(value: Any, depth: int) -> Iterator[tuple[Any, int]]:
    yield value, depth
    if depth > _MAX_DEPTH:
        return
    inner = [*value.keys(), *value.values()] if isinstance(value, dict) else value
    if isinstance(inner, list | tuple):
        for item in inner:
            yield from _walk(item, depth + 1)


def _read_through(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Read a member block by block; `zipfile` compares its checksum at the end."""
    try:
        with archive.open(member) as file:
            while file.read(_BLOCK):
                pass
    except OSError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise Malformed("its content is damaged: a checksum does not agree") from error


@contextmanager
def malformed_as(error: type[DistillError], path: Path, what: str) -> Iterator[None]:
    """Turn `Malformed` and `OSError` from the body into `error`, which says that `path` is no readable `what`."""
    try:
        yield
    except DistillError:
        raise
    except FileNotFoundError:
        raise error(f"{path}: no such file") from None
    except OSError as cause:
        raise error(f"{path}: {cause.strerror or cause}") from cause
    except Malformed as cause:
        raise error(f"{path}: not a readable {what} ({cause}); it may be damaged or cut short") from cause
