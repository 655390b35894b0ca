"""The request for the prior of a model: as the last part of the run that makes the model, or for a saved one."""

import dataclasses
from pathlib import Path
from typing import Any

from distill.library.header import read_header
from distill.training.config import EngineConfig, get_adaptive_prior_config
from distill.training.request import TrainingRequest
from distill.training.run import Run
from distill.training.run_folder import RunFolder

PRIOR_FOLDER = "prior"  # within the run's
_SHARED = ("seed", "val_fraction", "device", "num_workers", "augment")  # settings of both
_LEAST_SHARE = 0.1  # of a budget of minutes, however little of it is left


def prior_request(request: TrainingRequest, run: Run) -> TrainingRequest | None:
    """The request for the prior of the model that `run` has saved; None if it has been trained already."""
    assert run.model_path is not None
    folder = RunFolder(request.output_dir / PRIOR_FOLDER)
    if folder.used:
        info = folder.read_info()
        # The model may have been deleted since, and be the codec's alone again.
        if info.model_path and not read_header(run.model_path).lacks:
            return None
        resumed = TrainingRequest.resume(
            folder.path, device=request.device, files=request.file_paths, finished_too=True
        )
        # The model may have been renamed, or saved anew, since it was stopped.
        config = dataclasses.replace(resumed.config, model_file=str(run.model_path))  # type: ignore[call-arg]
        return dataclasses.replace(resumed, config=config, models_dir=None, sounds=request.sounds)
    config = run.config
    # Not more epochs than the codec has, so that a quick trial is quick.
    settings: dict[str, Any] = {"max_epochs": min(config.max_epochs, get_adaptive_prior_config(1).max_epochs)}
    settings |= {name: getattr(config, name) for name in _SHARED}
    if config.minutes is not None:
        settings["minutes"] = max(config.minutes - run.elapsed() / 60, _LEAST_SHARE * config.minutes)
    return for_model(request, run.model_path, folder.path, settings)


def for_model(request: TrainingRequest, model: Path, folder: Path, settings: dict[str, Any]) -> TrainingRequest:
    """The request for the prior of the model at `model`, on the sounds of another request; `settings` override."""
    config: EngineConfig = get_adaptive_prior_config(
        len(request.file_paths), request.seconds, model_file=str(model.absolute()), **settings
    )
    return dataclasses.replace(
        request, family_name="prior", config=config, output_dir=folder, models_dir=None, resume_from=None
    )
