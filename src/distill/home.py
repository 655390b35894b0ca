"""The default folders for models and runs, below `$DISTILL_HOME` or the user's data folder."""

import os
from pathlib import Path

import platformdirs


def home() -> Path:
    """The folder that holds `models` and `runs`."""
    chosen = os.environ.get("DISTILL_HOME")
    return Path(chosen) if chosen else platformdirs.user_data_path("distill", appauthor=False)


def is_at_home(path: Path) -> bool:
    """True if `path` is, or would be, in the folder that DISTILL_HOME sets."""
    return path.absolute().is_relative_to(home().absolute())


def default_models_dir() -> Path:
    """The folder of the default model library."""
    return home() / "models"


def default_runs_dir() -> Path:
    """The folder in which run folders are created by default."""
    return home() / "runs"
