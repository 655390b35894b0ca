"""How far the prior is that a run trains last, as the page shows it: from the log in a folder within the run's."""

import json
from pathlib import Path
from typing import Any

from distill.training.metrics import PriorEpochMetrics, to_json
from distill.training.preview_files import preview_files
from distill.training.prior_request import PRIOR_FOLDER
from distill.training.run_folder import RunFolder
from distill.web.feed import Entry

_EPOCH = f'"event": "{PriorEpochMetrics.__name__}"'.encode()


def prior_folder(run: RunFolder) -> RunFolder:
    """The folder of the prior of a run, whether or not it has one."""
    return RunFolder(run.path / PRIOR_FOLDER)


def prior_progress(run: RunFolder) -> dict[str, Any] | None:
    """The JSON of a run's prior, with its newest previews; None before its training has begun.

    `bits` has a value for each epoch: of a code of the sounds set aside. `made` changes with the file of a preview.
    """
    folder = prior_folder(run)
    if not folder.info_path.exists():
        return None
    epochs = _epochs(folder.events_path)
    last = epochs[-1] if epochs else {}
    return {
        "epochs": len(epochs),
        "total_epochs": last.get("total_epochs"),
        "eta_seconds": last.get("eta_seconds"),
        "bits": [to_json(_short(epoch["val_code_bits"])) for epoch in epochs],
        "unigram_bits": last.get("unigram_bits"),
        "previews": _newest_previews(folder),
    }


def _epochs(path: Path) -> list[Entry]:
    """The epochs in a log; the many lines of steps between them are not parsed."""
    if not path.exists():
        return []
    # The last line may not be complete yet.
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1] if _EPOCH in line]


def _short(bits: Any) -> Any:
    return round(bits, 3) if isinstance(bits, float) else bits


def _newest_previews(folder: RunFolder) -> list[Entry]:
    files = preview_files(folder.previews)
    newest = [file for file in files if file.epoch == files[-1].epoch]
    return [{"name": file.path.stem, "epoch": file.epoch, "made": str(file.path.stat().st_mtime_ns)} for file in newest]
