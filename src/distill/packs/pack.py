"""A pack as files: the sounds, presets for samplers, and a text; or all of them in one archive."""

import io
import zipfile
from collections import Counter
from collections.abc import Sequence

from distill.errors import ConfigError
from distill.packs import presets
from distill.packs.keys import ONE_SHOTS, zones
from distill.packs.sounds import SoundFile
from distill.storage import safe_stem

SUFFIXES = (".sfz", ".dspreset", ".multisample", ".txt")  # of the files beside the sounds


def preset_files(name: str, sounds: Sequence[SoundFile]) -> dict[str, bytes]:
    """The files of a pack beside its sounds, by name; sounds that fit on no keyboard have further ones, numbered.

    Raises `ConfigError` where there are no sounds, or two of one name.
    """
    _check(sounds)
    stem, files = safe_stem(name), {}
    banks = [sounds[start : start + ONE_SHOTS] for start in range(0, len(sounds), ONE_SHOTS)]
    for number, bank in enumerate(banks, 1):
        mapped, own = zones(bank), stem if number == 1 else f"{stem} {number}"
        files[f"{own}.sfz"] = presets.sfz(mapped).encode()
        files[f"{own}.dspreset"] = presets.dspreset(mapped)
        files[f"{own}.multisample"] = presets.multisample(own, mapped)
    return files | {f"{stem}.txt": presets.text(name, sounds).encode()}


def pack_files(name: str, sounds: Sequence[SoundFile]) -> dict[str, bytes]:
    """All files of a pack by name; raises as `preset_files` does."""
    return preset_files(name, sounds) | {sound.file: sound.wav for sound in sounds}


def pack_zip(name: str, sounds: Sequence[SoundFile]) -> bytes:
    """An archive with a folder that is the pack; raises as `preset_files` does."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file, content in pack_files(name, sounds).items():
            info = zipfile.ZipInfo(f"{safe_stem(name)}/{file}", presets.ARCHIVE_DATE)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return buffer.getvalue()


def _check(sounds: Sequence[SoundFile]) -> None:
    # Some file systems do not distinguish upper and lower case.
    name, times = Counter(sound.file.casefold() for sound in sounds).most_common(1)[0] if sounds else ("", 0)
    if times != 1:
        wrong = (
            (f"{times} sounds are called {name}", "rename all but one")
            if times
            else ("there are no sounds to pack", "")
        )
        raise ConfigError(*wrong)
