"""`distill vary`, `extend`, `inpaint` and `morph`: new sounds made from sounds that are given."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distill.cli.options import Device, DeviceName, ModelArgument, ModelsDir

if TYPE_CHECKING:
    from distill.audio.recording import Samples
    from distill.models.loaded import LoadedFamily

Sound = Annotated[Path, typer.Argument(help="A sound file.")]
OutputDir = Annotated[Path, typer.Option("--output-dir", "-o", help="The folder for the WAV files.")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Same seed, same sounds.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that are there already.")]


def vary(
    model: ModelArgument,
    sound: Sound,
    output_dir: OutputDir,
    strength: Annotated[float, typer.Option(min=0, max=1, help="0 is the sound itself, 1 a new one.")] = 0.5,
    count: Annotated[int, typer.Option("-n", "--count", min=1, max=10_000, help="The number of sounds.")] = 1,
    seed: Seed = 0,
    models_dir: ModelsDir = None,
    device: Device = DeviceName.auto,
    overwrite: Overwrite = False,
) -> None:
    """Make sounds that differ from one that is given, a little or a lot."""
    names = [f"{sound.stem}_varied_{number:03d}" for number in range(1, count + 1)]
    _make(
        model, models_dir, device, new_files(output_dir, names, overwrite),
        lambda loaded: loaded.vary(sound, strength, count, seed),
    )  # fmt: skip


def extend(
    model: ModelArgument,
    sound: Sound,
    output_dir: OutputDir,
    seconds: Annotated[float, typer.Option(min=0.01, max=600, help="How much longer the sound becomes.")] = 1.0,
    seed: Seed = 0,
    models_dir: ModelsDir = None,
    device: Device = DeviceName.auto,
    overwrite: Overwrite = False,
) -> None:
    """Go on from a sound: what could come next."""
    targets = new_files(output_dir, [f"{sound.stem}_extended"], overwrite)
    _make(model, models_dir, device, targets, lambda loaded: [loaded.extend(sound, seconds, seed)])


def inpaint(
    model: ModelArgument,
    sound: Sound,
    output_dir: OutputDir,
    start: Annotated[float, typer.Option("--from", min=0, help="Where the gap begins, in seconds.")],
    end: Annotated[float, typer.Option("--to", min=0, help="Where it ends, in seconds.")],
    seed: Seed = 0,
    models_dir: ModelsDir = None,
    device: Device = DeviceName.auto,
    overwrite: Overwrite = False,
) -> None:
    """Make a part of a sound anew, so that it fits what comes before and after it."""
    targets = new_files(output_dir, [f"{sound.stem}_inpainted"], overwrite)
    _make(model, models_dir, device, targets, lambda loaded: [loaded.inpaint(sound, start, end, seed)])


def morph(
    model: ModelArgument,
    first: Annotated[Path, typer.Argument(metavar="A", help="A sound file to begin with.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="A sound file to end with.")],
    output_dir: OutputDir,
    steps: Annotated[int, typer.Option(min=2, max=1000, help="The number of sounds, both ends included.")] = 5,
    models_dir: ModelsDir = None,
    device: Device = DeviceName.auto,
    overwrite: Overwrite = False,
) -> None:
    """Move from one sound to another in steps, each of them a sound of its own."""
    shares = [step / (steps - 1) for step in range(steps)]
    names = [f"{first.stem}_to_{second.stem}_{number:03d}" for number in range(1, steps + 1)]
    _make(
        model, models_dir, device, new_files(output_dir, names, overwrite),
        lambda loaded: loaded.morph(first, second, shares),
    )  # fmt: skip


def new_files(folder: Path, names: list[str], overwrite: bool) -> list[Path]:
    """The WAV files to write; raises `StorageError` if one of them is there already."""
    from distill.errors import StorageError

    targets = [folder / f"{name}.wav" for name in names]
    if (taken := next((target for target in targets if target.exists()), None)) and not overwrite:
        raise StorageError(f"{taken} is there already", "choose another folder with -o, or give --overwrite")
    return targets


def _make(
    model: str,
    models_dir: Path | None,
    device: DeviceName,
    targets: list[Path],
    make: "Callable[[LoadedFamily], Iterable[Samples]]",
) -> None:
    """Load the model, and write what it makes."""
    from distill.api import load
    from distill.audio.io import write_wav
    from distill.cli.console import out
    from distill.paths import printable
    from distill.training.device import resolve_device

    loaded = load(model, models_dir=models_dir, device=str(resolve_device(device.value)))
    for target, sound in zip(targets, make(loaded)):
        write_wav(target, sound, loaded.sample_rate)
        out.print(printable(target), markup=False)
