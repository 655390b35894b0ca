"""Recognition of sound files by their first bytes, whatever their names."""

import os
import re
import stat
from contextlib import suppress
from pathlib import Path

from distill.audio.suffixes import AUDIO_SUFFIXES, PYAV_SUFFIXES

HEAD_BYTES = 32

_UNFINISHED = frozenset({".part", ".partial", ".crdownload", ".download", ".tmp"})  # that other programs still write

_LIBSNDFILE = re.compile(
    rb"(RIFF|RIFX|RF64|BW64).{4}WAVE|FORM.{4}(AIFF|AIFC|8SVX|16SV)|riff\x2e\x91\xcf\x11|caff\0\x01|\.snd|dns\.|fLaC|OggS"
    rb"|ID3[\x02-\x04]|Creative Voice File|NIST_1A|2BIT|PVF1\n| paf|fap |ALawSoundFile|Extended Instrument: "
    rb"|\x64\xa3[\x01-\x04]\0|\0[\x01-\x04]\xa3\x64",  # the last two are IRCAM's
    re.DOTALL,
)
_MP4 = re.compile(rb".{4}ftyp", re.DOTALL)
_MP4_SOUND = re.compile(rb".{4}ftypM4[AB] ", re.DOTALL)


def is_sound_file(path: Path) -> bool:
    """True for a file that is named like a sound file or begins like one; False for a folder."""
    if path.suffix.lower() in AUDIO_SUFFIXES:
        return not path.is_dir()
    head = b"" if path.suffix.lower() in _UNFINISHED else _head(path)
    return bool(_LIBSNDFILE.match(head) or _MP4_SOUND.match(head))


def needs_pyav(head: bytes, suffix: str) -> bool:
    """True if PyAV is to decode a file that begins with these `HEAD_BYTES`; the suffix decides where they do not."""
    return bool(_MP4.match(head)) or (suffix.lower() in PYAV_SUFFIXES and not _LIBSNDFILE.match(head))


def _head(path: Path) -> bytes:
    """The first bytes of a regular file; none of anything else, or where they cannot be read."""
    with suppress(OSError, ValueError):
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        try:  # without waiting for whoever may write to a FIFO
            return os.read(handle, HEAD_BYTES) if stat.S_ISREG(os.fstat(handle).st_mode) else b""
        finally:
            os.close(handle)
    return b""
