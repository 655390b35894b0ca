"""The members of a zip archive in the layout of `torch.save`, the only one that is accepted.

A zip archive states most things two or three times, and readers differ in which of these they believe: we could be
shown harmless members, and torch, which reads the file next, quite different ones. So only the one layout is accepted
in which all readers must agree: stored members, each directly after the one before, then the directory, then the end,
with nothing in between.
"""

import io
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

MAX_BYTES = (4 << 30) - 1  # of a file: beyond it, zip records sizes in extra fields, which are refused

_LOCAL = struct.Struct("<4s2x2H4x3L2H")  # signature, flags, compression, checksum, sizes, lengths of name and extra
_DESCRIPTOR = struct.Struct("<4s3L")  # signature, checksum, sizes
_ENTRY = struct.Struct("<4s4x2H4x3L3H4x2L")  # as `_LOCAL`, the length of a comment, attributes, the member's place
_END = struct.Struct("<4sQ4x2L4Q4sLQL4s4H2LH")  # the end in its 64-bit form, the place of that, and the end once more
_END_SIZE = 44  # of the 64-bit form, as stated in it
_UTF8, _DESCRIBED = 0x800, 8  # flags
_NAME = re.compile(
    rb"([^/]*)/(data\.pkl|data/[0-9]+|byteorder|version|\.format_version|\.storage_alignment|\.data/serialization_id)"
)
_MAX_DIRECTORY = 1 << 20  # bytes; a real one has some thousands
_BLOCK = 1 << 20


class Malformed(ValueError):
    """The file is not what `torch.save` makes of plain values and dense tensors; the message says how it differs."""


@dataclass(frozen=True)
class Member:
    """The place of a member's content in the file."""

    start: int
    size: int
    checksum: int


def find_members(file: BinaryIO) -> dict[str, Member]:
    """Find the members of an archive, by their names below its one folder; raises `Malformed`, `OSError`."""
    members: dict[str, Member] = {}
    roots = set()
    try:
        for full_name, member in _walk(file):
            name = _NAME.fullmatch(full_name)
            if name is None or name[2].decode() in members:
                raise Malformed(f"it has a member {full_name[:80]!r} that no model file has")
            roots.add(name[1])
            members[name[2].decode()] = member
    except struct.error as error:
        raise Malformed("it is not an archive, or was cut short") from error
    if len(roots) != 1:  # its name may be any: torch names it after the file
        raise Malformed("its members are not those of a model file")
    return members


def read_member(file: BinaryIO, member: Member) -> bytes:
    """Read a member and check its checksum; raises `Malformed`, `OSError`."""
    file.seek(member.start)
    content = file.read(member.size)
    _check(zlib.crc32(content), member)
    return content


def read_through(file: BinaryIO, member: Member, look: Callable[[bytes], object] = lambda _: None) -> None:
    """Check the checksum of a member without keeping its content, which `look` gets in blocks of whole numbers.

    Raises `Malformed`, `OSError`.
    """
    file.seek(member.start)
    checksum, left = 0, member.size
    while block := file.read(min(left, _BLOCK)):
        checksum, left = zlib.crc32(block, checksum), left - len(block)
        look(block)
    _check(checksum, member)


def _check(checksum: int, member: Member) -> None:
    if checksum != member.checksum:
        raise Malformed("its content is damaged: a checksum does not agree")


def _walk(file: BinaryIO) -> Iterator[tuple[bytes, Member]]:
    """Yield every member in turn; they must fill the file up to the directory without a gap."""
    directory, directory_place, count = _directory(file)
    place = offset = 0
    for _ in range(count):
        entry = _ENTRY.unpack_from(directory, offset)
        signature, flags, method, checksum, stored, size, name_length, extra, comment, attributes, at = entry
        offset += _ENTRY.size
        name = directory[offset : offset + name_length]
        offset += name_length
        if method or stored != size or flags not in (_UTF8, _UTF8 | _DESCRIBED):
            raise Malformed("its members are compressed or encrypted")
        if attributes:  # torch reads nothing of a member marked as a folder, and uses whatever is in memory instead
            raise Malformed("its members are marked as something other than files")
        if signature != b"PK\x01\x02" or extra or comment or at != place:
            raise Malformed("its members overlap, or something stands between them")
        start = _start(file, place, name, flags)
        yield name, Member(start, size, checksum)
        place = start + size
        if flags & _DESCRIBED:
            file.seek(place)
            if _DESCRIPTOR.unpack(file.read(_DESCRIPTOR.size)) != (b"PK\x07\x08", checksum, size, size):
                raise Malformed("its members are not as large as its directory says")
            place += _DESCRIPTOR.size
    if (place, offset) != (directory_place, len(directory)):
        raise Malformed("its members overlap, or something stands between them")


def _directory(file: BinaryIO) -> tuple[bytes, int, int]:
    """Read the directory; returns it, its place and the number of members in it."""
    end_place = max(0, file.seek(0, io.SEEK_END) - _END.size)
    file.seek(end_place)
    end: tuple[Any, ...] = _END.unpack(file.read())
    count, length, place = end[5], end[6], end[7]
    expected: tuple[Any, ...] = (b"PK\x06\x06", _END_SIZE, 0, 0, count, count, length, place)
    expected += (b"PK\x06\x07", 0, end_place, 1, b"PK\x05\x06", 0, 0, count, count, length, place, 0)
    if end != expected or length > _MAX_DIRECTORY or place + length != end_place:
        raise Malformed("it is not an archive, or was cut short")
    file.seek(place)
    return file.read(length), place, count


def _start(file: BinaryIO, place: int, name: bytes, flags: int) -> int:
    """The start of the content of the member at `place`, whose own header must agree with the directory."""
    file.seek(place)
    *found, extra = _LOCAL.unpack(file.read(_LOCAL.size))
    # Checksum and sizes are 0 here: they come after the content, and an empty member has none but 0.
    if found != [b"PK\x03\x04", flags, 0, 0, 0, 0, len(name)] or file.read(len(name)) != name:
        raise Malformed("its members are not those that its directory names")
    return place + _LOCAL.size + len(name) + int(extra)
