"""Export of models for other programs, as weights and JSON in a `.safetensors` file without any pickle, and import.

The tensors are those of `model_state_dict`; everything else in a model file is JSON under `distill` in the file's
metadata. An imported file may come from anybody, so it goes through the same checks as a `.distill` file.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from distill.errors import LibraryError, ModelFileError
from distill.library.catalog import ModelLibrary
from distill.library.container import check_depth, malformed_as
from distill.library.members import MAX_BYTES, Malformed
from distill.models.archive import check_tensors
from distill.models.format import check_file, check_sizes, family_of, read_content
from distill.models.persistence import add_to_library
from distill.plain_files import open_plain, parse_json
from distill.storage import atomic_write

SAFETENSORS = ".safetensors"
_KEY = "distill"
_WEIGHTS = "model_state_dict"
_MAX_TENSORS = 10_000  # a real file has a hundred
_MAX_JSON = 8 << 20  # characters; the longest real one has the curves of 100,000 epochs


def export_safetensors(model_path: Path, target: Path) -> Path:
    """Write the model at `model_path` to `target` as safetensors; raises `ModelFileError`, `StorageError`."""
    content = read_content(model_path)
    check_file(model_path, content, family_of(model_path, content))  # a damaged model is not exported
    weights = content.pop(_WEIGHTS)
    atomic_write(target, save(weights, metadata={_KEY: json.dumps(content)}))
    return target


def import_model(path: Path, models_dir: Path) -> Path:
    """Add a model file from elsewhere, `.distill` or `.safetensors`, to the library `models_dir`; returns its path.

    Raises `ModelFileError` when anything in it is wrong, `LibraryError` when the library has it already.
    """
    content = _read_safetensors(path) if path.suffix.lower() == SAFETENSORS else read_content(path)
    file = check_file(path, content, family_of(path, content))
    for entry in ModelLibrary(models_dir).entries():
        if entry.model_id and entry.model_id == file.metadata.model_id:
            raise LibraryError(f"{path}: this model is in the library already, as {entry.name!r} ({entry.file})")
    del content["metadata"]
    return add_to_library(content, file.metadata, models_dir)


def _read_safetensors(path: Path) -> dict[str, Any]:
    with malformed_as(ModelFileError, path, "model file"):
        content, shapes = _header_of(path)
        if not isinstance(content, dict) or _WEIGHTS in content:  # weights come as tensors, never as JSON
            raise ModelFileError(f"{path}: not a distill model")
        check_sizes(path, content | {_WEIGHTS: shapes})
        weights = _weights_of(path)
        check_tensors(weights)
    return content | {_WEIGHTS: weights}


@dataclass(frozen=True)
class _Weight:
    """A weight whose numbers have not been read."""

    shape: tuple[int, ...]


def _header_of(path: Path) -> tuple[Any, dict[str, _Weight]]:
    """Read the JSON of a safetensors file, and the shapes of its tensors; raises `Malformed`, `OSError`."""
    with open_plain(path, MAX_BYTES) as file:
        length = int.from_bytes(file.read(8), "little")
        text = file.read(length) if length <= 2 * _MAX_JSON else b""  # in which quotes are escaped
    if not text or text.count(b"data_offsets") > _MAX_TENSORS:
        raise Malformed("its header is empty, or far too large")
    try:
        header = parse_json(text)
        about = header.pop("__metadata__", {})
        content = parse_json(about.get(_KEY, "null"))
        check_depth(content)
        return content, {name: _Weight(_shape(tensor["shape"])) for name, tensor in header.items()}
    except Malformed:  # which is a ValueError, too
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Malformed("it is not a safetensors file, or was cut short") from error


def _shape(sizes: Any) -> tuple[int, ...]:
    if not isinstance(sizes, list) or not all(isinstance(size, int) and size >= 0 for size in sizes):
        raise Malformed("its tensors have impossible shapes")
    return tuple(sizes)


def _weights_of(path: Path) -> dict[str, Any]:
    """Read the tensors of a safetensors file; raises `Malformed`."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a mapping
    except (SafetensorError, ValueError) as error:
        raise Malformed("it is not a safetensors file, or was cut short") from error
