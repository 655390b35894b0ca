"""Export of a model's networks as ONNX; each is run by onnxruntime, and compared, before it is kept.

Sounds become mels, and mels sounds, outside of them; `model.json` has the settings of the mels.
"""

import dataclasses
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distill.errors import ExportError
from distill.models.graphs import Graph
from distill.models.loaded import LoadedFamily
from distill.storage import atomic_write, atomic_write_text

_TOLERANCE = 1e-5
_OTHER_CODES = 0.01  # of the codes may differ: one between two entries may fall to either in another program
_COLUMNS = 8  # in the example that a graph is made with, and _OTHER_COLUMNS in the one that it is checked with
_OTHER_COLUMNS = 13


def export_onnx(loaded: LoadedFamily, folder: Path) -> list[Path]:
    """Write the networks of a model (on the CPU), and `model.json`, to a folder; returns their paths.

    Raises `ConfigError` for a family that has no graphs, `ExportError`, `StorageError`.
    """
    runtime, written = _runtime(), []
    for graph in loaded.graphs():
        content = _as_onnx(graph)
        _check(graph, content, runtime)
        written.append(folder / f"{graph.name}.onnx")
        atomic_write(written[-1], content)
    about = {
        "model_type": loaded.family_name,
        "metadata": dataclasses.asdict(loaded.metadata),
        "spectrogram_config": dataclasses.asdict(loaded.spectrogram.config),
    }
    atomic_write_text(folder / "model.json", json.dumps(about, indent=2) + "\n")
    return [*written, folder / "model.json"]


def _as_onnx(graph: Graph) -> bytes:
    example = graph.example(_COLUMNS)
    columns = torch.export.Dim("columns", min=2)
    shapes = {
        name: {axis: factor * columns if factor > 1 else columns} for name, (axis, factor) in graph.lengths.items()
    }
    with _quietly(), torch.no_grad():
        program = torch.onnx.export(
            graph.network.eval(), tuple(example.values()), dynamo=True, verbose=False, input_names=list(example),
                output_names=list(graph.outputs), dynamic_shapes=tuple(shapes.get(name) for name in example),
            )  # fmt: skip
    assert program is not None
    content: bytes = program.model_proto.SerializeToString()
    return content


def _check(graph: Graph, content: bytes, runtime: Any) -> None:
    """Raise `ExportError` unless onnxruntime gets what torch gets, from other inputs than the graph was made with."""
    inputs = graph.example(_OTHER_COLUMNS)
    try:
        session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
        found = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    except Exception as error:  # its errors have no root of their own
        raise ExportError(f"onnxruntime cannot run the {graph.name}: {error}", "nothing was kept") from error
    for name, expected, got in zip(graph.outputs, _outputs(graph, inputs), found):
        if expected.is_floating_point():
            agrees = np.allclose(got, expected.numpy(), rtol=_TOLERANCE, atol=_TOLERANCE)
        else:
            agrees = got.shape == expected.shape and np.mean(got != expected.numpy()) <= _OTHER_CODES
        if not agrees:
            raise ExportError(f"onnxruntime gets another {name} from the {graph.name} than distill", "nothing was kept")


def _outputs(graph: Graph, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    with torch.no_grad():
        outputs: Any = graph.network(*inputs.values())
    return outputs if isinstance(outputs, tuple) else (outputs,)


def _runtime() -> Any:
    """The module onnxruntime; raises `ExportError` where it, or what torch needs for an export, is not installed."""
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        remedy = "install them: pip install 'distill-audio[onnx]'"
        raise ExportError("the export to ONNX needs extra packages", remedy) from error
    return onnxruntime


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what torch's exporter has to say to programmers."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
