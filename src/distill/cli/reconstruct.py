"""`distill reconstruct`: sounds as a model reconstructs them."""

from pathlib import Path
from typing import Annotated

import typer

from distill.cli.options import Device, DeviceName, Limits, ModelArgument, ModelsDir, Overwrite, audio_limits


def reconstruct(
    context: typer.Context,
    model: ModelArgument,
    files: Annotated[list[Path], typer.Argument(help="Sound files, or folders of them; any length.")],
    output_dir: Annotated[Path, typer.Option("--output-dir", "-o", help="The folder for the WAV files.")],
    levels: Annotated[int | None, typer.Option(min=1, max=4, help="Use only the first N levels of codes.")] = None,
    mono: Annotated[bool, typer.Option("--mono", help="Mix stereo sounds to mono.")] = False,
    limit: Limits = None,
    models_dir: ModelsDir = None,
    device: Device = DeviceName.auto,
    overwrite: Overwrite = False,
) -> None:
    """Turn sounds into codes and back: hear what the model makes of them.

    Stereo comes back stereo; sounds with more channels are mixed to mono.
    """
    limits = audio_limits(context, limit)
    targets = _targets(files, output_dir, overwrite)
    from distill.api import load
    from distill.audio.io import write_wav
    from distill.audio.reader import AudioReader
    from distill.cli.console import out
    from distill.paths import printable
    from distill.training.device import resolve_device

    loaded = load(model, models_dir=models_dir, device=str(resolve_device(device)))
    with AudioReader(limits) as reader:
        for source, target in targets.items():
            recording, rate = reader.read(source), loaded.sample_rate
            heard = recording.mono(rate) if mono else recording.mono_or_stereo(rate)
            made = loaded.reconstruct(heard, rate, levels)
            write_wav(target, made, loaded.sample_rate)
            out.print(f"{printable(source)} → {printable(target)}", markup=False)


def _targets(files: list[Path], output_dir: Path, overwrite: bool) -> dict[Path, Path]:
    """Choose a WAV path for each source; raises `AudioError` for a missing source, `StorageError` for a taken path.

    It is all checked before the first sound is reconstructed, because that takes a while.
    """
    from distill.data.collection import find_audio_files
    from distill.errors import AudioError, StorageError
    from distill.paths import printable
    from distill.storage import portable_name

    sources = [source for file in files for source in (find_audio_files(file) if file.is_dir() else [file])]
    targets: dict[Path, Path] = {}
    taken: set[str] = set()
    originals = {source.resolve() for source in sources}
    for source in dict.fromkeys(sources):
        if not source.exists():
            raise AudioError(f"{printable(source)}: no such file")
        # Some file systems do not distinguish upper and lower case.
        target = next(
            path for path in _names(output_dir, portable_name(source.stem)) if path.name.casefold() not in taken
        )
        if target.resolve() in originals:  # not even with --overwrite
            raise StorageError(
                f"{printable(target)} would replace a sound that is to be read; choose another folder with -o"
            )
        if target.exists() and not overwrite:
            raise StorageError(
                f"{printable(target)} is there already; choose another folder with -o, or give --overwrite"
            )
        taken.add(target.name.casefold())
        targets[source] = target
    return targets


def _names(folder: Path, stem: str) -> "list[Path]":
    return [folder / f"{stem}{suffix}.wav" for suffix in ("", *(f"_{n}" for n in range(2, 10_000)))]
