"""The protocol between the reader and its worker process: a message is one letter for its kind, a length, a payload."""

import json
import struct
from enum import Enum
from typing import Any, BinaryIO

BLOCK_BYTES = 1 << 20  # the longest payload; no size is ever taken from a file's header

_HEAD = struct.Struct("<cI")


class Kind(Enum):
    """The kinds of messages from the worker, in the order in which they come."""

    READY = b"R"  # once, when the worker has started
    COUNTED = b"C"  # JSON: seconds of sound that were decoded only to count them, and are not sent yet
    HEADER = b"H"  # JSON: sample_rate, channels, format
    BLOCK = b"B"  # float32 samples, frame by frame
    END = b"E"  # JSON: declared_frames, unfinished
    REFUSED = b"X"  # JSON of an `AudioError`: why the file cannot be read, and what would help


def send(stream: BinaryIO, kind: Kind, payload: bytes | memoryview = b"") -> None:
    """Write one message."""
    stream.write(_HEAD.pack(kind.value, len(payload)))
    stream.write(payload)
    stream.flush()


def send_json(stream: BinaryIO, kind: Kind, value: Any) -> None:
    """Write one message whose payload is `value` as JSON."""
    send(stream, kind, json.dumps(value).encode())


def receive(stream: BinaryIO) -> tuple[Kind, bytes]:
    """Read one message; raises `EOFError` when the other side is gone or sends something that is not a message."""
    kind, length = _HEAD.unpack(_read_exactly(stream, _HEAD.size))
    if length > BLOCK_BYTES:  # before anything is allocated
        raise EOFError
    try:
        return Kind(kind), _read_exactly(stream, length)
    except ValueError as error:
        raise EOFError from error


def _read_exactly(stream: BinaryIO, count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise EOFError
    return data
