"""`distill vary`, `extend`, `inpaint` and `morph`: new sounds made from sounds that are given."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distill.cli.options import Count, ModelArgument, Seed
from distill.cli.output import Output, seeds, with_output, write_sounds

if TYPE_CHECKING:
    from distill.models.loaded import LoadedFamily
    from distill.packs.origin import Origin

Sound = Annotated[Path, typer.Argument(help="A sound file.")]


@with_output
def vary(
    model: ModelArgument,
    sound: Sound,
    *,
    strength: Annotated[float, typer.Option(min=0, max=1, help="0 is the sound itself, 1 a new one.")] = 0.5,
    count: Count = 1,
    seed: Seed = None,
    output: Output,
) -> None:
    """Make sounds that differ from one that is given, a little or a lot."""
    loaded = output.load(model)
    series = origin(loaded, "varied", sound, strength=strength)
    numbers = seeds(output, series, seed, count)
    made = loaded.vary(sound, strength, count, numbers.start)
    write_sounds(output, loaded, zip(each(series, numbers), made), count)


@with_output
def extend(
    model: ModelArgument,
    sound: Sound,
    *,
    seconds: Annotated[float, typer.Option(min=0.01, max=600, help="How much longer the sound becomes.")] = 1.0,
    count: Count = 1,
    seed: Seed = None,
    output: Output,
) -> None:
    """Go on from a sound: what could come next."""
    loaded = output.load(model)
    series = origin(loaded, "extended", sound, seconds=seconds)
    numbers = seeds(output, series, seed, count)
    made = (loaded.extend(sound, seconds, number) for number in numbers)
    write_sounds(output, loaded, zip(each(series, numbers), made), count)


@with_output
def inpaint(
    model: ModelArgument,
    sound: Sound,
    *,
    start: Annotated[float, typer.Option("--from", min=0, help="Where the gap begins, in seconds.")],
    stop: Annotated[float, typer.Option("--to", min=0, help="Where it ends, in seconds.")],
    count: Count = 1,
    seed: Seed = None,
    output: Output,
) -> None:
    """Make a part of a sound anew, so that it fits what comes before and after it."""
    loaded = output.load(model)
    series = origin(loaded, "inpainted", sound, **{"from": start, "to": stop})
    numbers = seeds(output, series, seed, count)
    made = (loaded.inpaint(sound, start, stop, number) for number in numbers)
    write_sounds(output, loaded, zip(each(series, numbers), made), count)


@with_output
def morph(
    model: ModelArgument,
    first: Annotated[Path, typer.Argument(metavar="A", help="A sound file to begin with.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="A sound file to end with.")],
    *,
    steps: Annotated[int, typer.Option(min=2, max=1000, help="The number of sounds, both ends included.")] = 5,
    seconds: Annotated[
        float | None,
        typer.Option(min=0.01, max=600, help="The length of each sound.", show_default="between those of both"),
    ] = None,
    seed: Seed = None,
    output: Output,
) -> None:
    """Move from one sound to another in steps, each of them a sound of its own."""
    write_morph(output, model, (first, second), steps, seconds, seed, {})


def write_morph(
    output: Output,
    model: str,
    ends: tuple[Path, Path],
    steps: int,
    seconds: float | None,
    seed: int | None,
    moves: dict[str, float],
) -> None:
    """Write the sounds of a morph."""
    loaded = output.load(model)
    way = [origin(loaded, "morph", *ends, share=round(step / (steps - 1), 4), **moves) for step in range(steps)]
    numbers = seeds(output, way[0], seed, 1)
    made = loaded.morph(*ends, steps, seconds, numbers.start, moves)
    write_sounds(output, loaded, zip([each(one, numbers)[0] for one in way], made), steps)


def origin(loaded: "LoadedFamily", way: str, *sources: Path, **amounts: float) -> "Origin":
    """Where a series of sounds comes from."""
    from distill.packs.origin import Origin

    about = loaded.metadata
    return Origin(about.name, way, tuple(source.stem for source in sources), amounts, None, about.model_id)


def each(series: "Origin", numbers: range) -> "list[Origin]":
    """Where each sound of a series comes from, by its seed."""
    import dataclasses

    return [dataclasses.replace(series, seed=number) for number in numbers]
