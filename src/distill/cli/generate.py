"""`distill generate`: new sounds."""

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distill.cli.new_sounds import new_files
from distill.cli.options import Device, DeviceName, ModelArgument, ModelsDir

if TYPE_CHECKING:
    from distill.models.loaded import LoadedFamily


_COUNT = 8  # not the option's default: -n is refused beside --interpolate, but only if it was given


def generate(
    context: typer.Context,
    model: ModelArgument,
    output_dir: Annotated[Path, typer.Option("--output-dir", "-o", help="The folder for the WAV files.")],
    count: Annotated[
        int | None, typer.Option("-n", "--count", min=1, max=10_000, help="The number of sounds.", show_default="8")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Same seed, same sounds.")] = 0,
    seconds: Annotated[
        float | None,
        typer.Option(
            min=0.01, max=600, help="The length of each sound in seconds.", show_default="as in the collection"
        ),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(min=0.05, max=3, help="Low: what is usual; high: what is not.", show_default="0.8, a vae's 1"),
    ] = None,
    loop: Annotated[bool, typer.Option("--loop", help="Let the end of each sound meet its beginning.")] = False,
    move: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=AMOUNT", help="Move along a direction, in standard deviations."),
    ] = None,
    interpolate: Annotated[
        tuple[Path, Path] | None, typer.Option(metavar="A.wav B.wav", help="Move from one sound to another instead.")
    ] = None,
    steps: Annotated[int, typer.Option(min=2, max=1000, help="The number of sounds on the way.")] = 5,
    models_dir: ModelsDir = None,
    device: Device = DeviceName.auto,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there already.")] = False,
) -> None:
    """Make new sounds, as the collection could have them.

    A vae model can move them along directions that `distill models show MODEL` lists.
    """
    amounts = _amounts(context, move or [])
    if interpolate and count is not None:
        raise typer.BadParameter("--interpolate makes --steps sounds; leave out -n", ctx=context)
    # Only now, because importing torch takes longer than finding wrong usage.
    from distill.api import load
    from distill.audio.io import write_wav
    from distill.cli.console import out
    from distill.training.device import resolve_device

    loaded = load(model, models_dir=models_dir, device=str(resolve_device(device.value)))
    if interpolate:
        shares = [step / max(1, steps - 1) for step in range(steps)]
        sounds, number = loaded.morph(*interpolate, shares, seconds, moves=amounts), steps
    else:
        number = count or _COUNT
        sounds = loaded.generate(number, seconds, seed, amounts, temperature=temperature, loop=loop)
    first = next(sounds)  # before anything is written, because the model may be of a family that makes no new sounds
    _warn_beyond_safe_range(loaded, amounts)
    targets = new_files(output_dir, [f"{place:03d}" for place in range(1, number + 1)], overwrite)
    for target, sound in zip(targets, itertools.chain([first], sounds)):
        write_wav(target, sound, loaded.sample_rate)
        out.print(str(target), markup=False)


def _amounts(context: typer.Context, given: list[str]) -> dict[str, float]:
    amounts = {}
    for item in given:
        name, _, amount = item.partition("=")
        try:
            amounts[name] = float(amount)
        except ValueError:
            raise typer.BadParameter(f"--set {item}: give NAME=AMOUNT, as in brightness=+1.5", ctx=context) from None
        if not abs(amounts[name]) <= 100:  # not `> 100`, which NaN would pass
            raise typer.BadParameter(f"--set {item}: the amount must be a number from -100 to 100", ctx=context)
    return amounts


def _warn_beyond_safe_range(loaded: "LoadedFamily", amounts: dict[str, float]) -> None:
    from distill.cli.console import err

    for name, amount in amounts.items():
        low, high = loaded.directions()[name]
        if not low <= amount <= high:
            err.print(f"{name} {amount:+g} is outside {low:+.1f} to {high:+.1f}, where the sounds are", style="yellow")
