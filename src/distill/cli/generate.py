"""`distill generate`: new sounds."""

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distill.cli.new_sounds import each, origin, write_morph
from distill.cli.options import ModelArgument, Seed
from distill.cli.output import Output, seeds, with_output, write_sounds

if TYPE_CHECKING:
    from distill.models.loaded import LoadedFamily


_COUNT = 8  # not the option's default: -n is refused beside --interpolate, but only if it was given


@with_output
def generate(
    context: typer.Context,
    model: ModelArgument,
    *,
    count: Annotated[
        int | None, typer.Option("-n", "--count", min=1, max=10_000, help="The number of sounds.", show_default="8")
    ] = None,
    seed: Seed = None,
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
    move: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=AMOUNT", help="Move along a direction, in standard deviations."),
    ] = None,
    interpolate: Annotated[tuple[Path, Path] | None, typer.Option(hidden=True)] = None,
    steps: Annotated[int, typer.Option(min=2, max=1000, hidden=True)] = 5,
    output: Output,
) -> None:
    """Make new sounds, as the collection could have them.

    A vae model can move them along directions that `distill models show MODEL` lists.
    """
    amounts = _amounts(context, move or [])
    if interpolate and count is not None:
        raise typer.BadParameter("--interpolate makes --steps sounds; leave out -n", ctx=context)
    # Only now, because importing torch takes longer than finding wrong usage.
    from distill.cli.console import err

    if interpolate:
        write_morph(output, model, interpolate, steps, seconds, seed, amounts)
        err.print("generate --interpolate is now `distill morph MODEL A B`", style="yellow", markup=False)
        return
    loaded, number = output.load(model), count or _COUNT
    seamless = output.loop and loaded.makes_loops
    given = amounts if temperature is None else amounts | {"temperature": temperature}
    series = origin(loaded, "loop" if seamless else "new", **given)
    numbers = seeds(output, series, seed, number)
    sounds = loaded.generate(number, seconds, numbers.start, amounts, temperature=temperature, loop=seamless)
    first = next(sounds)  # before it is warned, because the model may be of a family that makes no new sounds
    _warn_beyond_safe_range(loaded, amounts)
    write_sounds(
        output, loaded, zip(each(series, numbers), itertools.chain([first], sounds)), number, seamless=seamless
    )


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
