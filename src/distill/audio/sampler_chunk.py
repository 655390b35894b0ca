"""The `smpl` chunk of a WAV file, in which samplers look for the key of a sound and for its loop."""

import math
import struct

from distill.audio.loops import Loop

_ANY_KEY = 60.0
_FORWARD, _ENDLESS = 0, 0


def with_sampler_chunk(wav: bytes, rate: int, key: float | None, loop: Loop | None) -> bytes:
    """The content of a WAV file with a chunk that says the MIDI `key` it plays at its own pitch, and its loop."""
    if key is None and loop is None:
        return wav
    whole = _ANY_KEY if key is None else key
    unity = math.floor(whole)
    fraction = min(round((whole - unity) * 2**32), 2**32 - 1)
    loops = b"" if loop is None else struct.pack("<6L", 0, _FORWARD, loop.start, loop.stop - 1, 0, _ENDLESS)
    head = struct.pack("<9L", 0, 0, round(1e9 / rate), unity, fraction, 0, 0, 1 if loops else 0, 0)
    padding = b"\0" if len(wav) % 2 else b""
    made = wav + padding + b"smpl" + struct.pack("<L", len(head) + len(loops)) + head + loops
    return b"RIFF" + struct.pack("<L", len(made) - 8) + made[8:]
