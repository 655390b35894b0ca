"""What the commands that make sounds have in common: the options of their files, and writing them."""

import functools
import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import MISSING, dataclass, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distill.cli.options import Bell, Device, DeviceName, Json, ModelsDir, Overwrite

if TYPE_CHECKING:
    from distill.audio.finish import Finish
    from distill.audio.recording import Samples
    from distill.models.loaded import LoadedFamily
    from distill.packs.origin import Origin
    from distill.packs.sounds import SoundFile

LAST_SEED = 2**32 - 1


class Bits(StrEnum):
    """The kinds of samples in a WAV file."""

    pcm_16 = "16"
    pcm_24 = "24"
    float_32 = "32f"


@dataclass(frozen=True)
class Output:
    """The options of files with new sounds, shared by all commands that make them (`with_output`)."""

    output_dir: Annotated[Path, typer.Option("--output-dir", "-o", help="The folder for the WAV files.")]
    peak: Annotated[
        float | None,
        typer.Option(
            "--peak", min=-60, max=0, help="The highest peak, in dBFS.", show_default="as loud as the collection"
        ),
    ] = None
    rate: Annotated[
        int | None,
        typer.Option("--rate", min=8_000, max=192_000, help="Samples in a second.", show_default="the model's"),
    ] = None
    bits: Annotated[Bits, typer.Option("--bits", help="Of a sample; 16 has dither, 32f is float.")] = Bits.pcm_24
    stereo: Annotated[bool, typer.Option("--stereo", help="Write the same sound on two channels.")] = False
    trim: Annotated[
        bool, typer.Option("--trim/--no-trim", help="Cut where a sound is 60 dB under its peak for good.")
    ] = True
    fade: Annotated[bool, typer.Option("--fade/--no-fade", help="Fade in for 1 ms and out for 10 ms.")] = True
    loop: Annotated[bool, typer.Option("--loop", help="Write loop points for samplers.")] = False
    pack: Annotated[bool, typer.Option("--pack", help="Write presets for samplers beside the sounds.")] = False
    zip: Annotated[bool, typer.Option("--zip", help="Write the sounds and presets as one archive, too.")] = False
    json: Json = False
    bell: Bell = False
    overwrite: Overwrite = False
    models_dir: ModelsDir = None
    device: Device = DeviceName.auto

    @property
    def finish(self) -> "Finish":
        """What is done to each sound."""
        from distill.audio.finish import Finish

        return Finish(self.peak, self.rate, self.stereo, self.trim, self.fade)

    def load(self, model: str) -> "LoadedFamily":
        """Load the model that makes the sounds."""
        from distill.api import load
        from distill.training.device import resolve_device

        return load(model, models_dir=self.models_dir, device=str(resolve_device(self.device.value)))


def with_output(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `Output`, which it gets as its argument `output`."""
    signature = inspect.signature(command)
    own = [parameter for parameter in signature.parameters.values() if parameter.name != "output"]
    shared = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=field.type,
        )
        for field in fields(Output)
    ]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        output = Output(**{field.name: given.pop(field.name) for field in fields(Output)})
        command(**given, output=output)

    # What typer reads the options from.
    run.__signature__ = signature.replace(parameters=[*own, *shared])  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, *shared]}
    return run


def seeds(output: Output, series: "Origin", seed: int | None, count: int) -> range:
    """The seeds of so many sounds from `seed` on; without one, those after the last of the series in the folder.

    Raises `BadParameter` where there are not so many.
    """
    if seed is None:
        name = re.compile(rf"{re.escape(series.series)}_seed(\d+)(_\d+)?\.wav")
        found = [name.fullmatch(path.name) for path in output.output_dir.glob("*.wav") if not output.overwrite]
        seed = max((int(one[1]) + 1 for one in found if one), default=0)
    if seed + count - 1 > LAST_SEED:
        raise typer.BadParameter(f"--seed {seed} is too large for {count} sounds; the last seed is {LAST_SEED}")
    return range(seed, seed + count)


def write_sounds(
    output: Output,
    loaded: "LoadedFamily",
    made: "Iterable[tuple[Origin, Samples]]",
    count: int,
    *,
    seamless: bool = False,
) -> None:
    """Write `count` sounds as they are made, then what else was asked for, and tell it."""
    from distill.cli.console import err, out, print_json
    from distill.cli.progress import sound_progress
    from distill.packs.sounds import MadeSound, finish_sound
    from distill.paths import printable
    from distill.storage import atomic_write

    files: list[SoundFile] = []
    packed = output.pack or output.zip
    try:
        with sound_progress(count, quiet=output.json) as advance:
            for origin, samples in made:
                name = _free_name(output, origin.stem, (".wav",))
                sound = MadeSound(name, samples, loaded.sample_rate, origin, seamless)
                file = finish_sound(sound, output.finish, bits=output.bits.value, loop=output.loop)
                atomic_write(output.output_dir / file.file, file.wav)
                files.append(file if packed else replace(file, wav=b""))  # a thousand sounds need not be in memory
                advance()
    finally:  # after the bar; what was written is told even where the next one failed
        if not output.json:
            for file in files:
                out.print(printable(output.output_dir / file.file), markup=False)
    for file in files:
        if output.loop and file.loop is None:
            err.print(f"{printable(file.file)} has no loop, for it does not sustain", markup=False, style="yellow")
    beside = _write_pack(output, loaded.metadata.name, files) if packed else []
    if output.json:
        about = {"model": loaded.metadata.name, "model_id": loaded.metadata.model_id}
        sounds = [_facts(output, file) for file in files]
        print_json(about | {"sounds": sounds, "pack": [str(path) for path in beside]})
    else:
        for path in beside:
            out.print(printable(path), markup=False)


def _write_pack(output: Output, name: str, files: "list[SoundFile]") -> list[Path]:
    """Write presets beside the sounds, or the archive, or both; returns their paths."""
    from distill.packs.pack import SUFFIXES, pack_zip, preset_files
    from distill.storage import atomic_write, safe_stem

    name = _free_name(output, safe_stem(name), (*SUFFIXES, ".zip"))
    contents = preset_files(name, files) if output.pack else {}
    if output.zip:
        contents[f"{name}.zip"] = pack_zip(name, files)
    for file, content in contents.items():
        atomic_write(output.output_dir / file, content)
    return [output.output_dir / file for file in contents]


def _free_name(output: Output, stem: str, suffixes: tuple[str, ...]) -> str:
    """The stem, with a counter unless files of that name may be replaced, or there are none."""
    names = (stem, *(f"{stem}_{number}" for number in range(2, 100_000)))
    taken = (name for name in names if output.overwrite or not _any_there(output.output_dir, name, suffixes))
    return next(taken)


def _any_there(folder: Path, name: str, suffixes: tuple[str, ...]) -> bool:
    return any((folder / f"{name}{suffix}").exists() for suffix in suffixes)


def _facts(output: Output, file: "SoundFile") -> dict[str, object]:
    import math

    return {
        "file": str(output.output_dir / file.file),
        "about": file.origin.sentence,
        "seed": file.origin.seed,
        "seconds": file.seconds,
        "sample_rate": file.rate,
        "peak_dbfs": 20 * math.log10(file.peak) if file.peak > 0 else None,
        "midi_key": file.key,
        "loop": None if file.loop is None else [file.loop.start, file.loop.stop],
    }
