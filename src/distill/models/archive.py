"""Tensors and plain values on disk: written by `torch.save`, read back only after `library.container` has checked them.

Nothing in a file can run: the container holds only plain values and dense tensors, and `torch.load` is only ever called
with `weights_only=True`. No infinite or NaN number is written, and no tensor with one is read.
"""

import io
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distill.library.container import check_container, read_structure
from distill.library.members import MAX_BYTES, Malformed
from distill.plain_files import open_plain
from distill.storage import atomic_write


def write_archive(path: Path, content: dict[str, Any]) -> None:
    """Write tensors and plain values, nested in dictionaries and lists, to `path`.

    Raises `StorageError`, and `Malformed` when a number is not finite.
    """
    plain = _plain(content)
    for name, value in _leaves(plain, ""):
        if not _is_finite(value):
            raise Malformed(f"{name} is not a finite number")
    buffer = io.BytesIO()
    torch.save(plain, buffer)  # to memory first: on a full disk, torch would raise something other than an OSError
    if buffer.tell() > MAX_BYTES:
        raise Malformed("it is far too large")
    atomic_write(path, buffer.getbuffer())


def read_archive(path: Path, check: Callable[[Any], object] = lambda _: None) -> Any:
    """Read what `write_archive` wrote to `path`, its tensors on the CPU; raises `Malformed`, `OSError`.

    `check` gets the structure with a `TensorRecord` for each tensor, before any numbers are read, and may raise.
    """
    with open_plain(path, MAX_BYTES) as file:
        check(read_structure(file))
        file.seek(0)
        data = file.read()  # once, so that torch loads the very bytes that were checked
    check_container(io.BytesIO(data))
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its unpickler runs into
        raise Malformed("torch cannot read it") from error
    check_tensors(content)
    return content


def check_tensors(content: Any) -> None:
    """Raise `Malformed` if a tensor in nested dictionaries and lists holds a number that is not finite."""
    if not all(_is_finite(value) for _, value in _leaves(content, "") if isinstance(value, Tensor)):
        raise Malformed("its weights are not all finite numbers")


def same_form(state: Any, expected: dict[str, Tensor]) -> bool:
    """True if `state` holds tensors of the same names, shapes and dtypes as `expected`, and nothing else."""
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        return False

    def form(tensors: dict[str, Tensor]) -> dict[str, Any]:
        return {name: (value.shape, value.dtype, value.layout) for name, value in tensors.items()}

    # A tensor on the meta device has a shape and a dtype, but no data.
    return form(state) == form(expected) and not any(value.is_meta for value in state.values())


def _plain(value: Any) -> Any:
    """Convert `value` to what the container may hold: tensors on the CPU that share no memory, no numpy numbers."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(item) for item in value)
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True).contiguous()  # a dense copy: no views, no storage shared by two
    return value.item() if isinstance(value, np.generic) else value


def _is_finite(value: Any) -> bool:
    if isinstance(value, Tensor):
        # The extremes suffice, because NaN propagates to them; `isfinite` takes as much memory again as the tensor.
        return value.numel() == 0 or all(bool(torch.isfinite(extreme)) for extreme in torch.aminmax(value))
    return not isinstance(value, float) or math.isfinite(value)


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item, name)
    else:
        yield name, value
