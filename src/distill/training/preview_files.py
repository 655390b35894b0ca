"""The preview files of a run and the scheme of their names. Imports no torch."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_NAME = re.compile(r"epoch_(\d+)_(\d+)_([a-z]+)\.wav")


@dataclass(frozen=True)
class PreviewFile:
    """A preview on disk: the `number`th sound of an epoch as "original", "reconstruction" or "random" (its `role`)."""

    path: Path
    epoch: int
    number: int
    role: str

    @classmethod
    def place(cls, folder: Path | str, epoch: int, number: int, role: str) -> Self:
        """The file for a preview in `folder`, to be written."""
        return cls(Path(folder) / f"epoch_{epoch:04d}_{number}_{role}.wav", epoch, number, role)

    @classmethod
    def parse(cls, path: Path) -> Self | None:
        """The preview that a file's name denotes, None for any other file."""
        match = _NAME.fullmatch(path.name)
        return cls(path, int(match[1]), int(match[2]), match[3]) if match else None


def preview_files(folder: Path | str) -> list[PreviewFile]:
    """The previews in a folder, oldest epoch first; links to elsewhere are none."""
    place = Path(folder)
    files = () if place.is_symlink() else (path for path in place.glob("*.wav") if not path.is_symlink())
    found = filter(None, map(PreviewFile.parse, files))
    return sorted(found, key=lambda file: (file.epoch, file.number, file.role))
