"""The Opus codec as an anchor, by Debian's opus-tools: what it makes of a sound, and how many bits that took."""

import shutil
import subprocess
import tempfile
from pathlib import Path

import soundfile
from torch import Tensor

from mel_distance import RATE, read_mono

KBPS = (6, 12, 24)  # what opusenc is asked for; what it takes can be less


def available() -> bool:
    """Whether opusenc and opusdec are installed."""
    return all(map(shutil.which, ("opusenc", "opusdec")))


def through_opus(sound: Tensor, kbps: int) -> tuple[Tensor, int]:
    """Mono `[S]` at 48 kHz there and back, and the bits of its packets."""
    with tempfile.TemporaryDirectory() as name:
        original, coded, back = (Path(name, file) for file in ("a.wav", "a.opus", "b.wav"))
        soundfile.write(original, sound.numpy(), RATE)
        subprocess.run(["opusenc", "--quiet", "--bitrate", str(kbps), original, coded], check=True)
        subprocess.run(["opusdec", "--quiet", "--rate", str(RATE), coded, back], check=True)
        return read_mono(back), 8 * packet_bytes(coded.read_bytes())


def packet_bytes(ogg: bytes) -> int:
    """Bytes of sound in an Ogg Opus file: those of its pages (RFC 3533, 6) after the two of the header (RFC 7845, 3).

    The container is left out: a short sound in it would be mostly header.
    """
    pages, place = [], 0
    while place < len(ogg):
        segments = ogg[place + 26]
        size = sum(ogg[place + 27 : place + 27 + segments])
        pages.append(size)
        place += 27 + segments + size
    return sum(pages[2:])
