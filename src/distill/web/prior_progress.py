"""How far the prior is that a run trains last, as the page shows it: from the log in a folder within the run's."""

from pathlib import Path
from typing import Any

from distill.training.metrics import PriorEpochMetrics
from distill.training.preview_files import preview_files
from distill.training.prior_request import PRIOR_FOLDER
from distill.training.run_folder import RunFolder, is_entry
from distill.training.strict_json import to_json
from distill.web.feed import Entry, entries_in, lines_of

_EPOCH = f'"event": "{PriorEpochMetrics.__name__}"'.encode()


def prior_folder(run: RunFolder) -> RunFolder:
    """The folder of the prior of a run, whether or not it has one."""
    return RunFolder(run.path / PRIOR_FOLDER)


def prior_progress(run: RunFolder) -> dict[str, Any] | None:
    """The JSON of a run's prior, with its newest previews; None before its training has begun.

    `bits` has a value for each epoch: of a code of the sounds set aside. `copied` is the share of new sounds that are
    near copies, when last looked for, or None. `made` changes with the file of a preview.
    """
    folder = prior_folder(run)
    if not folder.info_path.is_file() or folder.path.is_symlink():
        return None
    epochs = _epochs(folder.events_path)
    last = epochs[-1] if epochs else {}
    return {
        "epochs": len(epochs),
        "total_epochs": last.get("total_epochs"),
        "eta_seconds": last.get("eta_seconds"),
        "bits": [to_json(_short(epoch["val_code_bits"])) for epoch in epochs],
        "unigram_bits": last.get("unigram_bits"),
        "copied": next((epoch["copied"] for epoch in reversed(epochs) if epoch.get("copied") is not None), None),
        "previews": _newest_previews(folder),
    }


def _epochs(path: Path) -> list[Entry]:
    """The epochs in a log; the many lines of steps between them are not parsed."""
    return [epoch for epoch in entries_in([line for line in lines_of(path) if _EPOCH in line]) if is_entry(epoch)]


def _short(bits: Any) -> Any:
    return round(bits, 3) if isinstance(bits, float) else bits


def _newest_previews(folder: RunFolder) -> list[Entry]:
    files = preview_files(folder.previews)
    newest = [file for file in files if file.epoch == files[-1].epoch]
    return [{"name": file.path.stem, "epoch": file.epoch, "made": str(file.path.stat().st_mtime_ns)} for file in newest]
