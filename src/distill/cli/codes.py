"""`distill encode` and `decode`: sounds as files of codes, which can be changed, and back."""

from pathlib import Path
from typing import Annotated

import typer

from distill.cli.new_sounds import origin
from distill.cli.options import Bell, Device, DeviceName, Json, ModelArgument, ModelsDir, Overwrite
from distill.cli.output import Output, with_output, write_sounds


def encode(
    model: ModelArgument,
    files: Annotated[list[Path], typer.Argument(metavar="SOUND...", help="Sound files, or folders of them.")],
    output_dir: Annotated[Path, typer.Option("--output-dir", "-o", help="The folder for the files of codes.")],
    json: Json = False,
    bell: Bell = False,
    overwrite: Overwrite = False,
    models_dir: ModelsDir = None,
    device: Device = DeviceName.auto,
) -> None:
    """Turn sounds into codes: an array of integers [levels, rows, columns] each, in an .npz file."""
    del bell
    from distill.api import load
    from distill.cli.console import out, print_json
    from distill.cli.progress import sound_progress
    from distill.data.collection import find_audio_files
    from distill.errors import StorageError
    from distill.paths import printable
    from distill.training.device import resolve_device

    sounds = [sound for file in files for sound in (find_audio_files(file) if file.is_dir() else [file])]
    targets = [output_dir / f"{sound.stem}.npz" for sound in sounds]
    for place, target in enumerate(targets):  # before the first is encoded, because that takes a while
        if target in targets[:place]:
            raise StorageError(f"two sounds would become {printable(target)}", "encode them into different folders")
        if target.exists() and not overwrite:
            raise StorageError(f"{printable(target)} is there already", "choose another folder with -o, or --overwrite")
    loaded = load(model, models_dir=models_dir, device=str(resolve_device(device.value)))
    facts = []
    with sound_progress(len(sounds), quiet=json) as advance:
        for sound, target in zip(sounds, targets):
            codes = loaded.encode(sound)
            codes.save(target)
            facts.append(
                {"file": str(target), "sound": str(sound), "shape": codes.grid.shape, "seconds": codes.seconds}
            )
            advance()
    if json:
        print_json({"model": loaded.metadata.name, "model_id": loaded.metadata.model_id, "codes": facts})
    else:
        for target in targets:
            out.print(printable(target), markup=False)


@with_output
def decode(
    model: ModelArgument,
    files: Annotated[list[Path], typer.Argument(metavar="CODES...", help="Files that `distill encode` wrote.")],
    *,
    output: Output,
) -> None:
    """Turn codes back into sounds, also if they were changed in between."""
    from distill.models.codes import Codes

    read = [(file, Codes.load(file)) for file in files]  # before anything is made of the first
    loaded = output.load(model)
    made = ((origin(loaded, "decoded", file), loaded.decode(codes)) for file, codes in read)
    write_sounds(output, loaded, made, len(read))
