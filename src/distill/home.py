"""The folders in which distill keeps things when it is not told where: `$DISTILL_HOME`, or the user's data folder."""

import os
from pathlib import Path

import platformdirs


def home() -> Path:
    """The folder that holds `models` and `runs`."""
    chosen = os.environ.get("DISTILL_HOME")
    return Path(chosen) if chosen else platformdirs.user_data_path("distill", appauthor=False)


def default_models_dir() -> Path:
    """The library used when no other is named."""
    return home() / "models"


def default_runs_dir() -> Path:
    """The folder in which run folders are made when no place is named."""
    return home() / "runs"
