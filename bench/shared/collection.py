"""A collection to measure on, as given on the command line."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True)
class Collection:
    """A folder of sounds, and its name in tables and pictures."""

    name: str
    folder: Path

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `NAME=DIR`, or from `DIR`, which is then named after the folder."""
        name, _, folder = text.rpartition("=")
        path = Path(folder).expanduser()
        if not path.is_dir():
            raise argparse.ArgumentTypeError(f"{folder}: no such folder")
        return cls(name or path.resolve().name, path)
