"""The sounds of a run that were moved, found by their content in the folder where they are now."""

from pathlib import Path

from distill.audio.limits import AudioLimits
from distill.data.collection import Progress, find_sounds
from distill.data.opening import open_collection
from distill.data.probe import file_digest
from distill.errors import AudioError, CheckpointError
from distill.paths import printable
from distill.training.run_folder import RunFolder
from distill.training.run_info import RunInfo


def moved_sounds(run_folder: Path, folder: Path, progress: Progress | None = None) -> list[Path]:
    """The files of a run in the order of its record, found in `folder` by content, whatever their names.

    Raises `CheckpointError` if one is not there, `CollectionError` for a folder without sounds.
    """
    info = RunFolder(run_folder).read_info()
    paths = find_sounds(folder).sounds
    names = {digest: Path(file).name for file, digest in zip(info.files, info.digests) if digest}
    if not names:  # the record of an earlier version; the checkpoint tells if they are the right ones
        return [file.path for file in open_collection(paths, progress=progress, limits=_limits(info)).usable]
    # Of a long collection, the record has the digests of the files, which need not be decoded.
    found = _by_bytes(paths)
    if not names.keys() <= found.keys():
        collection = open_collection(paths, progress=progress, limits=_limits(info))
        found = {file.digest: file.path for file in reversed(collection.files)}
    missing = [name for digest, name in names.items() if digest not in found]
    if missing:
        raise CheckpointError(
            f"{printable(folder)}: {len(missing)} of the {len(names)} sounds that the run was started with are not "
            f"in it ({printable(missing[0])}{', …' if len(missing) > 1 else ''})",
            "give a folder that holds them all, unchanged",
        )
    return [found[digest] for digest in names]


def _limits(info: RunInfo) -> AudioLimits:
    return AudioLimits(**info.audio_limits)


def _by_bytes(paths: tuple[Path, ...]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in paths:
        try:
            found.setdefault(file_digest(path), path)
        except AudioError:  # cannot be opened; if it is needed, it is missed
            continue
    return found
