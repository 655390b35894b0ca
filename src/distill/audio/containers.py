"""Sound files made of chunks: where their samples are, and a new header where libsndfile cannot use the one there is.

A recorder that lost power leaves a header without a length, or with that of an earlier moment, and 32 bits wrap at
4 GiB; the sound is all there. BW64 is RF64 by another name, and samples may be in several chunks. Nothing is written:
what libsndfile reads is put together from parts of the file and the new header.
"""

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import BinaryIO

_MOST_CHUNKS = 1000  # in a file; one with more is left to libsndfile
_LEAST_REST = 4096  # bytes; fewer behind the samples are padding or a tag, and no sound
_BLOCK = 1 << 20
_UNKNOWN = 1 << 62  # bytes, and everything beyond: the header gives no length
_STREAMED = 0x7FFF0000  # bytes; programs that do not know the length yet write at least this much into 32 bits
_TAGS = (b"TAG", b"ID3", b"APETAGEX", b"LYRICSBEGIN", b"<?xml")  # that follow the samples without being a chunk
_KNOWN = (b"LIST", b"bext", b"cue ", b"id3 ", b"ID3 ", b"iXML", b"smpl", b"JUNK", b"PAD ", b"FLLR")  # even if cut off

Span = tuple[int, int]  # of bytes of a file: from, to


class Spliced:
    """Parts of a file, and bytes between them, that are read as if they were one file."""

    def __init__(self, file: BinaryIO, parts: Sequence[bytes | Span]) -> None:
        self._file, self._parts, self._place = file, parts, 0
        begins = [0]
        for part in self._parts:
            begins.append(begins[-1] + _size(part))
        self._bounds = list(pairwise(begins))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place and return it."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._bounds[-1][1]}[whence]
        self._place = max(0, origin + offset)
        return self._place

    def tell(self) -> int:
        """The place from which `read` goes on."""
        return self._place

    def read(self, count: int) -> bytes:
        """The next `count` bytes, fewer at the end."""
        pieces = []
        for (begin, end), part in zip(self._bounds, self._parts, strict=True):
            first, last = max(self._place, begin), min(self._place + count, end)
            if first < last:
                pieces.append(_cut(self._file, part, first - begin, last - begin))
        content = b"".join(pieces)
        self._place += len(content)
        return content


@dataclass(frozen=True)
class Samples:
    """Where the samples of a file are, and for how many of their bytes its header accounts."""

    spans: tuple[Span, ...]
    claimed: int
    unfinished: bool = False  # the header gives no length, or too little

    @property
    def size(self) -> int:
        """The number of bytes that there are."""
        return sum(map(_size, self.spans))

    @property
    def counted(self) -> int:
        """The number of bytes that a right header gives; more than there are where the file is cut short."""
        unknown = self.claimed >= _STREAMED and self.claimed > self.size
        return self.size if self.unfinished or unknown else self.claimed


@dataclass(frozen=True)
class Contents:
    """What was found in a file, and, where its header is of no use to libsndfile, the parts to read in its place."""

    samples: Samples
    parts: Sequence[bytes | Span] = ()


def contents(file: BinaryIO) -> Contents | None:
    """The contents of a file that is made of chunks, or None for any other."""
    size = os.fstat(file.fileno()).st_size
    magic = _at(file, 0, 12)
    if magic[:4] in _RIFF and magic[8:] == b"WAVE":
        return _wav(file, size, magic[:4])
    if magic[:4] == b"FORM" and magic[8:] in (b"AIFF", b"AIFC"):
        return _aiff(file, size)
    if magic[:4] == b"riff":
        return _w64(file, size)
    if magic[:4] == b"caff":
        return _caf(file, size)
    if magic[:4] in _AU:
        return _au(file, size, magic)
    return None


# Kinds of files


@dataclass(frozen=True)
class _Syntax:
    """How chunks are written."""

    head: struct.Struct  # name and size
    data: bytes  # the name of the chunk with the samples
    before: int = 0  # bytes in it, before them
    counted: int = 0  # bytes of the head, included in the size
    align: int = 2
    wraps: int = 1 << 32  # the first size that cannot be written


_RIFF = {b"RIFF": "<", b"RF64": "<", b"BW64": "<", b"RIFX": ">"}  # the order of bytes
_AU = {b".snd": ">", b"dns.": "<"}
_AIFF_SYNTAX = _Syntax(struct.Struct(">4sI"), b"SSND", before=8)
_W64_TAIL = bytes.fromhex("f3acd3118cd100c04f8edb8a")  # of all names
_W64_SYNTAX = _Syntax(struct.Struct("<16sQ"), b"data" + _W64_TAIL, counted=24, align=8, wraps=1 << 64)
_CAF_SYNTAX = _Syntax(struct.Struct(">4sQ"), b"data", before=4, align=1, wraps=1 << 64)
_CAF_PLAIN = (b"lpcm", b"ulaw", b"alaw")  # without tables that have to be kept


def _wav(file: BinaryIO, size: int, magic: bytes) -> Contents | None:
    syntax = _Syntax(struct.Struct(f"{_RIFF[magic]}4sI"), b"data")
    long_size = None
    if magic in (b"RF64", b"BW64"):
        ds64 = _at(file, 12, 24)
        long_size = struct.unpack_from("<Q", ds64, 16)[0] if ds64[:4] == b"ds64" and len(ds64) == 24 else None
    chunks = _chunks(file, 12, size, syntax, long_size)
    samples, fmt = _samples(file, size, chunks, syntax), _named(chunks, b"fmt ")
    if samples is None or fmt is None:
        return None
    if not samples.unfinished and len(samples.spans) == 1 and magic != b"BW64" and samples.claimed < _UNKNOWN:
        return Contents(samples)
    total = samples.counted
    if total < _STREAMED:
        form = b"RIFX" if magic == b"RIFX" else b"RIFF"
        head = form + syntax.head.pack(b"", total)[4:] + b"WAVE"
    else:
        head = b"RF64\xff\xff\xff\xffWAVE" + struct.pack("<4sIQQQI", b"ds64", 28, total, total, 0, 0)
    data = syntax.head.pack(b"data", total if total < _STREAMED else 0xFFFFFFFF)
    return Contents(samples, [head, fmt.span, data, *samples.spans])


def _aiff(file: BinaryIO, size: int) -> Contents | None:
    chunks = _chunks(file, 12, size, _AIFF_SYNTAX)
    samples, common = _samples(file, size, chunks, _AIFF_SYNTAX), _named(chunks, b"COMM")
    if samples is None or common is None:
        return None
    if not samples.unfinished and len(samples.spans) == 1:
        return Contents(samples)
    frames = common.start + 2  # four bytes; libsndfile counts for itself where they are 0
    data = _AIFF_SYNTAX.head.pack(b"SSND", min(8 + samples.counted, 0xFFFFFFFF)) + bytes(8)
    head: list[bytes | Span] = [(0, 12), (common.begin, frames), bytes(4), (frames + 4, common.end)]
    return Contents(samples, [*head, data, *samples.spans])


def _w64(file: BinaryIO, size: int) -> Contents | None:
    chunks = _chunks(file, 40, size, _W64_SYNTAX)
    samples, fmt = _samples(file, size, chunks, _W64_SYNTAX), _named(chunks, b"fmt " + _W64_TAIL)
    if samples is None or fmt is None:
        return None
    # libsndfile ignores the length, and reads on through whatever follows the samples.
    if samples.spans[-1][1] == size and not samples.unfinished:
        return Contents(samples)
    data = _W64_SYNTAX.head.pack(_W64_SYNTAX.data, 24 + samples.counted)
    return Contents(samples, [(0, 40), fmt.span, data, *samples.spans])


def _caf(file: BinaryIO, size: int) -> Contents | None:
    chunks = _chunks(file, 8, size, _CAF_SYNTAX)
    samples, described = _samples(file, size, chunks, _CAF_SYNTAX), _named(chunks, b"desc")
    if samples is None or described is None or _at(file, described.start + 8, 4) not in _CAF_PLAIN:
        return None
    if not samples.unfinished and samples.claimed == samples.size:
        return Contents(samples)
    # libsndfile refuses a CAF that is cut short, so its header says what there is.
    data = _CAF_SYNTAX.head.pack(b"data", 4 + samples.size) + bytes(4)
    return Contents(samples, [(0, 8), described.span, data, *samples.spans])


def _au(file: BinaryIO, size: int, magic: bytes) -> Contents | None:
    start, claimed = struct.unpack(f"{_AU[magic[:4]]}II", magic[4:])
    if start > size:
        return None
    end = start + claimed
    if end >= size or not _sounds(file, end, size):
        return Contents(Samples((_span(start, min(end, size)),), claimed))
    return Contents(Samples(((start, size),), claimed, unfinished=True), [(0, 8), b"\xff" * 4, (12, size)])


# Chunks


@dataclass(frozen=True)
class _Chunk:
    name: bytes
    begin: int  # of its head
    start: int  # of its content
    size: int  # of its content, as far as its head says

    @property
    def end(self) -> int:
        return self.start + self.size

    @property
    def span(self) -> Span:
        return self.begin, self.end


def _chunks(file: BinaryIO, at: int, size: int, syntax: _Syntax, long_size: int | None = None) -> list[_Chunk]:
    """The chunks from `at` on, as far as there are any; `long_size` is that of the samples, if 32 bits are too few."""
    found: list[_Chunk] = []
    while len(found) < _MOST_CHUNKS and at < size:
        head = _at(file, at, syntax.head.size)
        if len(head) < syntax.head.size or not _is_text(head[:4]):
            break
        name, length = syntax.head.unpack(head)
        if name == syntax.data and long_size is not None and length == 0xFFFFFFFF:
            length = long_size
        found.append(_Chunk(name, at, at + len(head), max(0, length - syntax.counted)))
        if found[-1].end >= size:
            break
        at = _next(file, found[-1].end, syntax)
    return found


def _next(file: BinaryIO, end: int, syntax: _Syntax) -> int:
    """Where the chunk begins that follows one that ends at `end`."""
    aligned = end + -end % syntax.align
    # Some programs do not pad.
    return end if aligned != end and _is_text(_at(file, end, 4)) and not _is_text(_at(file, aligned, 4)) else aligned


def _named(chunks: list[_Chunk], name: bytes) -> _Chunk | None:
    return next((chunk for chunk in chunks if chunk.name == name), None)


def _samples(file: BinaryIO, size: int, chunks: list[_Chunk], syntax: _Syntax) -> Samples | None:
    """Where the samples are, whatever the header says of their length; None if there is no chunk for them."""
    data = [chunk for chunk in chunks if chunk.name == syntax.data and chunk.start + syntax.before <= size]
    if not data:
        return None
    last = data[-1]
    # A length that does not fit into its field begins again at 0.
    ends = range(last.end, size + 1, syntax.wraps)
    end = next((end for end in ends if not _goes_on(file, end, size, syntax)), size)
    starts = [chunk.start + syntax.before for chunk in data]
    spans = tuple(map(_span, starts, [*(chunk.end for chunk in data[:-1]), end]))
    return Samples(spans, sum(map(_size, map(_span, starts, [chunk.end for chunk in data]))), end > last.end)


def _goes_on(file: BinaryIO, end: int, size: int, syntax: _Syntax) -> bool:
    """True if the samples cannot end at `end`, because what follows is no chunk."""
    at = _next(file, end, syntax)
    if _at(file, at, 16).startswith(_TAGS):
        return False
    behind = _chunks(file, at, size, syntax)
    if not behind:
        return _sounds(file, at, size)
    # Sound can look like the head of a chunk, but not one that fits, all the way to the end of the file.
    fits = behind[-1].end <= size and not _sounds(file, _next(file, behind[-1].end, syntax), size)
    return not fits and behind[0].name[:4] not in _KNOWN


def _sounds(file: BinaryIO, start: int, end: int) -> bool:
    """True if the bytes there, which are no chunk, are likely sound."""
    blocks = (_at(file, at, min(_BLOCK, end - at)) for at in range(start, end, _BLOCK))
    return end - start >= _LEAST_REST and any(map(any, blocks))


def _is_text(name: bytes) -> bool:
    return len(name) == 4 and all(32 <= byte < 127 for byte in name)


# Bytes


def _at(file: BinaryIO, start: int, count: int) -> bytes:
    file.seek(start)
    return file.read(count)


def _span(start: int, end: int) -> Span:
    return start, max(start, end)


def _size(part: bytes | Span) -> int:
    return len(part) if isinstance(part, bytes) else part[1] - part[0]


def _cut(file: BinaryIO, part: bytes | Span, first: int, last: int) -> bytes:
    return part[first:last] if isinstance(part, bytes) else _at(file, part[0] + first, last - first)
