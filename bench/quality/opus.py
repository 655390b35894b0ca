"""The Opus codec as an anchor, with Debian's opus-tools: its reconstructions, and the bits they take."""

import shutil
import subprocess
import tempfile
from pathlib import Path

import soundfile
from torch import Tensor

from bench.quality.mel_distance import RATE, read_mono

KBPS = (6, 12, 24, 32)  # requested of opusenc, which may use less


def available() -> bool:
    """True when opusenc and opusdec are installed."""
    return all(map(shutil.which, ("opusenc", "opusdec")))


def encode_and_decode(sound: Tensor, kbps: int) -> tuple[Tensor, int]:
    """Mono `[S]` at 48 kHz encoded and decoded again, and the bits of its packets."""
    with tempfile.TemporaryDirectory() as name:
        original, encoded, decoded = (Path(name, file) for file in ("a.wav", "a.opus", "b.wav"))
        soundfile.write(original, sound.numpy(), RATE)
        subprocess.run(["opusenc", "--quiet", "--bitrate", str(kbps), original, encoded], check=True)
        subprocess.run(["opusdec", "--quiet", "--rate", str(RATE), encoded, decoded], check=True)
        return read_mono(decoded), 8 * packet_bytes(encoded.read_bytes())


def packet_bytes(ogg: bytes) -> int:
    """Bytes of audio in an Ogg Opus file: those of its pages (RFC 3533, 6) after the two header pages (RFC 7845, 3).

    The container is not counted: for a short sound it would be most of the file.
    """
    pages, position = [], 0
    while position < len(ogg):
        segments = ogg[position + 26]
        size = sum(ogg[position + 27 : position + 27 + segments])
        pages.append(size)
        position += 27 + segments + size
    return sum(pages[2:])
