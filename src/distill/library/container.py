"""Reading the structure of a file written by `torch.save` without torch, and without running anything from it.

The file is a zip archive: one pickle for the dictionary's structure (`data.pkl`), one member per tensor (`data/0`, …).
A file from a stranger may be anything, so nothing in it is trusted: its members must be laid out as torch does it
(`library.members`) and match their checksums; of the pickle opcodes, only those that plain values and dense tensors
need are accepted; each tensor must fill a member of its own, and occur in one place.
"""

import math
import pickletools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from distill.errors import DistillError
from distill.library.members import Malformed, Member, find_members, read_member, read_through

_PICKLE = "data.pkl"
_TENSORS = "data/"
_MAX_SMALL = 64  # bytes of a member that is neither the pickle nor a tensor
_MAX_PICKLE = 64 << 20  # bytes; the longest part of a real one is the history of a run, one string
_MAX_OPCODES = 600_000  # a real file has some thousands, and four per epoch for its curves
_MAX_DEPTH = 16
_MAX_AXES = 8

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_VALUES = frozenset({"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"})
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_ITEM_SIZES = {
    "torch BoolStorage": 1,
    "torch BFloat16Storage": 2,
    "torch HalfStorage": 2,
    "torch IntStorage": 4,
    "torch FloatStorage": 4,
    "torch LongStorage": 8,
    "torch DoubleStorage": 8,
}
_EXPONENTS = {  # the bits that are all set in what is no finite number
    "torch BFloat16Storage": 0x7F80,
    "torch HalfStorage": 0x7C00,
    "torch FloatStorage": 0x7F80_0000,
    "torch DoubleStorage": 0x7FF0_0000_0000_0000,
}
_TENSOR = "torch._utils _rebuild_tensor_v2"
_NO_HOOKS = "collections OrderedDict"  # torch writes an empty one for the hooks of every tensor


@dataclass(frozen=True)
class TensorRecord:
    """A placeholder in the structure for a tensor of this `shape`, whose numbers are in the member `key`."""

    shape: tuple[int, ...]
    key: str
    storage: str = "torch FloatStorage"  # the name of its type


@dataclass(frozen=True)
class _Name:
    """A placeholder for the function or class of this name; nothing is ever imported."""

    name: str


@dataclass(frozen=True)
class _Storage:
    key: str
    items: int
    type_name: str


def read_structure(file: BinaryIO) -> Any:
    """Read the dictionary in the file, with a `TensorRecord` for each tensor, whose numbers are not read.

    Raises `Malformed`, `OSError`.
    """
    return _structure(file, _members(file))


def check_container(file: BinaryIO) -> None:
    """Check what `read_structure` checks, and the checksums of all members; raises `Malformed`, `OSError`."""
    members = _members(file)
    for member in members.values():
        read_through(file, member)
    order = members.get("byteorder")
    if order and read_member(file, order) != b"little":
        raise Malformed("its numbers are in another byte order")
    _structure(file, members)


def check_numbers(file: BinaryIO) -> None:
    """Check the numbers of all tensors: their checksums, and that they are finite; raises `Malformed`, `OSError`."""
    members = _members(file)
    for value, _ in _walk(_structure(file, members), 0):
        if isinstance(value, TensorRecord):
            read_through(file, members[_TENSORS + value.key], partial(_check_finite, value.storage))


def _check_finite(storage: str, block: bytes) -> None:
    if exponent := _EXPONENTS.get(storage):
        import numpy as np  # here, because only files that are new to a library come to this

        bits = np.frombuffer(block, f"<u{_ITEM_SIZES[storage]}") & exponent
        if (bits == exponent).any():
            raise Malformed("its weights are not all finite numbers")


def _members(file: BinaryIO) -> dict[str, Member]:
    members = find_members(file)
    for name, member in members.items():
        if member.size > (_MAX_PICKLE if name == _PICKLE else _MAX_SMALL) and not name.startswith(_TENSORS):
            raise Malformed(f"its member {name!r} is too large")
    if _PICKLE not in members:
        raise Malformed("its members are not those of a model file")
    return members


def _structure(file: BinaryIO, members: dict[str, Member]) -> Any:
    program = read_member(file, members[_PICKLE])
    reader = _StructureReader()
    try:
        structure = reader.read(program)
    except Malformed:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise Malformed("its structure is damaged") from error
    # Exactly as large, and no member without a tensor: no bytes that nobody has asked for.
    stored = {name: member.size for name, member in members.items() if name.startswith(_TENSORS)}
    if stored != {_TENSORS + key: size for key, size in reader.sizes.items()}:
        raise Malformed("its tensors are not as large as they claim")
    _check_values(structure, reader.opcodes, len(program), set(reader.sizes))
    return structure


class _StructureReader:
    """Builds the plain values and tensor records of a pickle; any other opcode or name in it is refused.

    Python's own unpickler would accept anything hashable as a key, and hashing nested tuples can keep it busy for
    years, or crash the process.
    """

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}  # bytes of each tensor's member
        self.opcodes = 0
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []  # the stacks below the marks
        self._memo: dict[int, Any] = {}

    def read(self, program: bytes) -> Any:
        """Build the value that the pickle describes; raises `Malformed`, or anything else if it is damaged."""
        last = -1
        # `genops` parses opcodes one by one, and runs nothing.
        for opcode, argument, place in pickletools.genops(program):
            last = place or 0
            self.opcodes += 1
            if self.opcodes > _MAX_OPCODES:
                raise Malformed("its structure is too large")
            if opcode.name in _CONSTANTS:
                self._stack.append(_CONSTANTS[opcode.name])
            elif opcode.name in _VALUES:
                self._stack.append(argument)
            elif opcode.name in _TUPLES:
                self._stack.append(tuple(self._pop(_TUPLES[opcode.name])))
            else:
                self._do(opcode.name, argument)
        [structure] = self._stack
        if last != len(program) - 1:
            raise Malformed("there is more after the end of its structure")
        return structure

    def _do(self, opcode: str, argument: Any) -> None:
        match opcode:
            case "EMPTY_DICT":
                self._stack.append({})
            case "EMPTY_LIST":
                self._stack.append([])
            case "MARK":
                self._below.append(self._stack)
                self._stack = []
            case "TUPLE":
                values = self._since_mark()  # first, because it replaces the stack
                self._stack.append(tuple(values))
            case "APPEND":
                self._append(self._pop(1))
            case "APPENDS":
                self._append(self._since_mark())
            case "SETITEM":
                self._set(self._pop(2))
            case "SETITEMS":
                self._set(self._since_mark())
            case "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = self._stack[-1]
            case "BINGET" | "LONG_BINGET":
                self._stack.append(self._memo[argument])
            case "GLOBAL":
                self._stack.append(_allowed_global(argument))
            case "REDUCE":
                function, arguments = self._pop(2)
                self._stack.append(_reduce(function, arguments))
            case "BINPERSID":
                self._stack.append(self._storage(*self._pop(1)[0]))
            case "BUILD":  # the attributes of an `OrderedDict`, as `state_dict()` returns it, which are not needed
                if [type(value) for value in (*self._pop(1), self._stack[-1])] != [dict, dict]:
                    raise Malformed("its structure is damaged")
            case "PROTO" | "STOP":
                pass
            case _:
                raise Malformed(f"its structure uses {opcode}, which plain values never need")

    def _pop(self, count: int) -> list[Any]:
        values = self._stack[-count:]
        if len(values) < count:
            raise Malformed("its structure is damaged")
        del self._stack[-count:]
        return values

    def _since_mark(self) -> list[Any]:
        values, self._stack = self._stack, self._below.pop()
        return values

    def _append(self, values: list[Any]) -> None:
        if type(self._stack[-1]) is not list:
            raise Malformed("its structure is damaged")
        self._stack[-1].extend(values)

    def _set(self, values: list[Any]) -> None:
        keys = values[::2]
        if type(self._stack[-1]) is not dict or not all(type(key) in (str, int) for key in keys):
            raise Malformed("its dictionaries have keys that are not names")
        self._stack[-1].update(zip(keys, values[1::2], strict=True))

    def _storage(self, kind: Any, storage: Any, key: Any, location: Any, items: Any) -> _Storage:
        """Read a reference to a tensor's storage, which no other tensor may share."""
        if (kind, location) != ("storage", "cpu") or type(storage) is not _Name or storage.name not in _ITEM_SIZES:
            raise Malformed("its tensors are damaged")
        if type(key) is not str or key in self.sizes or type(items) is not int or items < 0:
            raise Malformed("its tensors share data, or are damaged")
        self.sizes[key] = _ITEM_SIZES[storage.name] * items
        return _Storage(key, items, storage.name)


def _allowed_global(name: str) -> _Name:
    if name not in (_TENSOR, _NO_HOOKS, *_ITEM_SIZES):
        raise Malformed(f"it refers to {name[:80]}, which does not belong in a model file")
    return _Name(name)


def _reduce(function: Any, arguments: Any) -> Any:
    if function == _Name(_NO_HOOKS) and arguments == ():
        return {}
    if function != _Name(_TENSOR) or type(arguments) is not tuple:
        raise Malformed("it makes something other than tensors")
    return _tensor(*arguments)


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, requires_grad: Any, hooks: Any) -> TensorRecord:
    if type(storage) is not _Storage or type(shape) is not tuple or type(stride) is not tuple:
        raise Malformed("its tensors are damaged")
    if len(shape) > _MAX_AXES or not all(type(size) is int and size >= 0 for size in shape):
        raise Malformed("its tensors have impossible shapes")
    dense = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    # The stride of an axis with one entry has no meaning, and torch may write anything there.
    wrong = any(found != wanted for found, wanted, size in zip(stride, dense, shape, strict=True) if size > 1)
    if wrong or offset != 0 or requires_grad is not False or hooks != {} or math.prod(shape) != storage.items:
        raise Malformed("its tensors are not dense")
    return TensorRecord(shape, storage.key, storage.type_name)


def _check_values(structure: Any, max_values: int, max_text: int, tensors: set[str]) -> None:
    """Check that there are plain values only, and none many times over; raises `Malformed`.

    References make that cost a file nothing, but its reader all its memory. So there may not be more values than
    opcodes, nor much more text than bytes, and each tensor has to occur once.
    """
    text = 0
    for values, (value, depth) in enumerate(_walk(structure, 0), start=1):
        text += len(value) if isinstance(value, str) else 0
        if values > max_values or text > 4 * max_text or depth > _MAX_DEPTH:
            raise Malformed("its structure is too large")
        if isinstance(value, TensorRecord):
            if value.key not in tensors:
                raise Malformed("its tensors share data")
            tensors.remove(value.key)
        elif not isinstance(value, bool | int | float | str | dict | list | tuple | None):
            raise Malformed("it holds something other than plain values")
    if tensors:
        raise Malformed("it holds data that belongs to no tensor")


def check_depth(value: Any) -> None:
    """Raise `Malformed` if dictionaries and lists are nested deeper than any model file has them."""
    if any(depth > _MAX_DEPTH for _, depth in _walk(value, 0)):
        raise Malformed("its structure is too deep")


def _walk(value: Any, depth: int) -> Iterator[tuple[Any, int]]:
    yield value, depth
    if depth > _MAX_DEPTH:
        return
    inner = [*value.keys(), *value.values()] if isinstance(value, dict) else value
    if isinstance(inner, list | tuple):
        for item in inner:
            yield from _walk(item, depth + 1)


@contextmanager
def malformed_as(error: type[DistillError], path: Path, what: str) -> Iterator[None]:
    """Turn `Malformed` and `OSError` from the body into `error`, which says that `path` is not a readable `what`."""
    try:
        yield
    except DistillError:  # some of which are an OSError or a ValueError, too
        raise
    except FileNotFoundError:
        raise error(f"{path}: no such file") from None
    except OSError as cause:
        raise error(f"{path}: {cause.strerror or cause}") from cause
    except Malformed as cause:
        raise error(f"{path}: not a readable {what} ({cause})", "another copy of it may be whole") from cause
