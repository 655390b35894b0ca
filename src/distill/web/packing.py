"""Kept sounds as a pack: WAV files in the order of the tray, and where they come from."""

import io
import zipfile
from collections.abc import Sequence

from distill.audio.io import wav_bytes
from distill.storage import safe_stem
from distill.web.tray import KeptSound


def zipped(sounds: Sequence[KeptSound]) -> bytes:
    """The content of a zip file with all these sounds; raises `AudioError`."""
    buffer, lines = io.BytesIO(), list[str]()
    with zipfile.ZipFile(buffer, "w") as pack:
        for number, kept in enumerate(sounds, start=1):
            name = f"{number:0{len(str(len(sounds)))}} {safe_stem(kept.name)}.wav"
            pack.writestr(name, wav_bytes(*kept.read()))
            lines.append(f"{name}: {', '.join(f'{key} {value}' for key, value in kept.made.items())}")
        pack.writestr("about these sounds.txt", "\n".join(["Made with distill.", "", *lines, ""]))
    return buffer.getvalue()
