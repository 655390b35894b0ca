"""`distill train`: a model from a folder of sounds."""

import dataclasses
import importlib
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from distill.audio.rates import LOWEST_RATE, USUAL_RATE
from distill.cli.cutting import CutOption, Cutting, cutting, list_files
from distill.cli.messages import COMMAND_LINE
from distill.cli.options import Bell, Device, DeviceName, Limits, ModelsDir, audio_limits, family_named
from distill.cli.run import run_shown
from distill.cli.streams import flush_output
from distill.paths import printable
from distill.signals import EXIT_CODES

if TYPE_CHECKING:
    from distill.audio.settings import SpectrogramConfig
    from distill.families import Family
    from distill.training.request import TrainingRequest

# Options that are not called after their setting.
_OPTIONS = {
    "max_epochs": "--epochs",
    "num_quantizers": "--rvq-levels",
    "augment": "--augment/--no-augment",
    "with_prior": "--prior/--no-prior",
}


def train(
    context: typer.Context,
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="FOLDER", help="The folder with your sounds; subfolders are included."),
    ] = None,
    model_name: Annotated[
        str | None, typer.Option(help="What to call the model.", show_default="the folder's name")
    ] = None,
    models_dir: ModelsDir = None,
    output_dir: Annotated[
        Path | None,
        typer.Option(help="The run folder: events, checkpoints, previews, picture.", show_default="a new one"),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="The number of passes through the sounds.", show_default="auto")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.01, max=1e6, help="Train for about this long instead of a number of epochs.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="FAMILY",
            help="vqvae learns levels of codes; vae a continuous space to generate from.",
            show_default="vqvae",
        ),
    ] = None,
    rvq_levels: Annotated[
        int | None, typer.Option(min=2, max=4, help="Levels of codes: more detail, more to learn.", show_default="auto")
    ] = None,
    codebook_size: Annotated[
        int | None, typer.Option(min=2, max=65536, help="Codes per level.", show_default="auto")
    ] = None,
    codebook_dim: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Length of a code's vector.", show_default="18")
    ] = None,
    commitment_weight: Annotated[
        float | None,
        typer.Option(min=0, max=100, help="How strongly sounds are pulled to their codes.", show_default="0.25"),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, max=4096, help="Chunks per step.", show_default="16")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(min=1e-8, max=1, help="The learning rate at the start.", show_default="auto")
    ] = None,
    augment: Annotated[
        bool | None,
        typer.Option(
            "--augment/--no-augment", help="Vary the gain, speed and cut of the sounds.", show_default="--augment"
        ),
    ] = None,
    prior: Annotated[
        bool | None,
        typer.Option(
            "--prior/--no-prior", help="Learn to make new sounds, in a third of the time.", show_default="--prior"
        ),
    ] = None,
    prior_only: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Train only the prior, of a model that there is already.")
    ] = None,
    rate: Annotated[
        int | None,
        typer.Option(
            metavar="HZ",
            min=LOWEST_RATE,
            max=USUAL_RATE,
            help="The sample rate of the model.",
            show_default=f"that of the sounds if all have the same, else {USUAL_RATE}",
        ),
    ] = None,
    device: Device = DeviceName.auto,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**32 - 1, help="Same seed, same machine: same model.", show_default="0")
    ] = None,
    cut: CutOption = None,
    limit: Limits = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN_FOLDER", help="Continue an interrupted run, with its settings.")
    ] = None,
    sounds: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="With --resume: where the sounds are, if they were moved.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print events and a summary as JSON lines.")] = False,
    bell: Bell = False,
) -> None:
    """Train a model on the sounds in FOLDER. Press Ctrl-C once to stop with a checkpoint."""
    del bell
    settings = {
        "max_epochs": epochs,
        "minutes": minutes,
        "num_quantizers": rvq_levels,
        "codebook_size": codebook_size,
        "codebook_dim": codebook_dim,
        "commitment_weight": commitment_weight,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "augment": augment,
        "with_prior": prior,
        "seed": seed,
    }
    overrides: dict[str, Any] = {name: value for name, value in settings.items() if value is not None}
    family = family_named(context, model) if prior_only is None else _prior_family(context, model)
    _check_settings(context, family, set(overrides))
    new_only = {
        "--model": model,
        "--model-name": model_name,
        "--output-dir": output_dir,
        "--rate": rate,
        "--cut": cut,
        "--limit": limit,
        "--prior-only": prior_only,
    }
    _check_usage(context, folder, resume, overrides | new_only)
    if sounds is not None and resume is None:
        raise typer.BadParameter("--sounds goes with --resume; to train on a folder, give it alone", ctx=context)
    limits, pieces = audio_limits(context, limit), cutting(context, cut)
    from distill.training.request import TrainingRequest

    is_worker = int(os.environ.get("RANK", "0")) > 0  # set by torchrun, in all processes of a run but the first
    if resume is not None:
        files = _moved(resume, sounds, quiet=json or is_worker) if sounds is not None else None
        request = TrainingRequest.resume(resume, device=device.value, models_dir=models_dir, files=files)
    else:
        assert folder is not None  # `_check_usage` has seen to it
        mel = None
        if prior_only is not None:
            overrides["model_file"], mel, model_name = _model_of(prior_only, models_dir)
            rate = mel.sample_rate
        # Before the sounds are read, so that a setting or a folder that is refused is refused at once.
        request = TrainingRequest.new(
            printable(folder.resolve().name),
            family=family.name,
            model_name=model_name,
            models_dir=models_dir,
            output_dir=None if is_worker else output_dir,
            audio_limits=limits,
            sample_rate=rate,
            device=device.value,
            **overrides,
        )
        request = _with_sounds(request, folder, pieces, quiet=json, is_worker=is_worker)
        # Without the device, which `new` counts as a setting: the summary should not mark it as an override.
        request = dataclasses.replace(
            request, chosen=frozenset(overrides), spectrogram_config=mel or request.spectrogram_config
        )
    _end(_work(request) if is_worker else run_shown(request, json))


def _prior_family(context: typer.Context, model: str | None) -> "Family":
    """The family of priors; raises `BadParameter` beside `--model`."""
    from distill.families import get_family

    if model is not None:
        raise typer.BadParameter("--prior-only trains a part of a model that there is; leave out --model", ctx=context)
    return get_family("prior")


def _model_of(model: str, models_dir: Path | None) -> tuple[str, "SpectrogramConfig", str]:
    """The file, the mel and the name of a model; raises `LibraryError`, `ModelFileError`."""
    from distill.home import default_models_dir
    from distill.library.catalog import locate
    from distill.models.persistence import load_model_v2

    library, entry = locate(model, models_dir or default_models_dir())
    path = library.path(entry)
    return str(path.absolute()), load_model_v2(path).spectrogram.config, entry.name


def _moved(run_folder: Path, folder: Path, *, quiet: bool) -> list[Path]:
    """Find the sounds of a run in `folder`."""
    from distill.cli.progress import file_progress
    from distill.training.moved import moved_sounds

    with file_progress(quiet=quiet) as progress:
        return moved_sounds(run_folder, folder, progress)


def _with_sounds(
    request: "TrainingRequest", folder: Path, pieces: Cutting | None, *, quiet: bool, is_worker: bool
) -> "TrainingRequest":
    """Complete a request with the sounds in `folder`, or in its recordings, which then are cut.

    The training code is imported while they are read.
    """
    from distill.cli.progress import file_progress
    from distill.data.collection import find_sounds

    found = find_sounds(folder)
    paths: Sequence[Path] = found.sounds
    if pieces:
        paths = pieces.files(list(paths), request.output_dir / "sounds", request.audio_limits, quiet=quiet)
    with _background_imports(), file_progress(quiet=quiet or is_worker) as progress:
        collection = request.open(paths, progress)
    request = request.with_sounds(collection, folder)
    if not is_worker:
        list_files("left out", [(file.path, file.worded(COMMAND_LINE)) for file in collection.left_out])
        list_files("used", [(file.path, "; ".join(file.notes)) for file in collection.usable if file.notes])
        _say_passed_over(found.passed_over)
    return request


def _check_settings(context: typer.Context, family: "Family", settings: set[str]) -> None:
    """Refuse options that a family does not have; raises `BadParameter`."""
    foreign = settings - {item.name for item in dataclasses.fields(family.config)}
    if foreign:
        options = ", ".join(sorted(_OPTIONS.get(name, f"--{name.replace('_', '-')}") for name in foreign))
        raise typer.BadParameter(f"a {family.name} does not use {options}; leave it out", ctx=context)


@contextmanager
def _background_imports() -> Iterator[None]:
    """Import the training code, torch above all, while the body waits for files to be read."""
    thread = threading.Thread(target=importlib.import_module, args=("distill.training.runner",))
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _check_usage(context: typer.Context, folder: Path | None, resume: Path | None, given: dict[str, Any]) -> None:
    def refuse(message: str) -> None:
        raise typer.BadParameter(message, ctx=context)

    if (folder is None) == (resume is None):
        refuse("give a FOLDER of sounds to train on, or --resume RUN_FOLDER" + (", not both" if folder else ""))
    if resume is not None and any(value is not None for value in given.values()):
        refuse("--resume keeps the settings the run began with; only --device, --models-dir and --sounds can be added")
    if any(value != value for value in given.values()):  # NaN, which passes every range check
        refuse("a setting is not a number; give it a value")
    if "max_epochs" in given and "minutes" in given:
        refuse("give --epochs or --minutes, not both")


def _say_passed_over(files: str) -> None:
    from distill.cli.console import err

    if files:
        err.print(files, style="dim", markup=False)


def _end(code: int) -> NoReturn:
    """End the command with an exit code."""
    # Where several processes train, a thread of torch's can abort this one during Python's shutdown, so there is none.
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        flush_output()
        os._exit(code)
    raise typer.Exit(code)


def _work(request: "TrainingRequest") -> int:
    """Train beside the first process of a run, which prints and decides everything; returns the exit code."""
    from distill.training.execution import run_training

    for number in EXIT_CODES:  # Ctrl-C reaches all processes of a terminal, but the first one decides when to stop
        signal.signal(number, signal.SIG_IGN)
    run_training(request)
    return 0
