"""Speed of the residual quantizer, against vector-quantize-pytorch."""

from collections.abc import Iterator
from functools import partial

import torch
from vector_quantize_pytorch import ResidualVQ

from bench.shared.rows import Row
from bench.speed.timing import Call, Setting, comparison, interleaved, milliseconds, ratios, repeated
from distill.models.quantizer import ResidualQuantizer

_STEPS = 10  # timed together
_VECTORS, _DIM, _CODES, _LEVELS = (32, 48), 128, 256, 3


def quantizer(setting: Setting) -> Iterator[Row]:
    """A forward pass in training mode, which also updates the codebooks."""
    torch.manual_seed(0)
    ours = ResidualQuantizer(_DIM, _CODES, _LEVELS, decay=0.95, dead_threshold=2.0, kmeans_init=False)
    package = ResidualVQ(
        dim=_DIM, codebook_size=_CODES, num_quantizers=_LEVELS, decay=0.95, threshold_ema_dead_code=2, kmeans_init=False
    )
    vectors = torch.randn(*_VECTORS, _DIM, device=setting.device, requires_grad=True)
    calls: dict[str, Call] = {
        "ours": repeated(partial(ours.to(setting.device).train(), vectors), _STEPS),
        "package": repeated(partial(package.to(setting.device).train(), vectors), _STEPS),
    }
    interleaved(calls, 1)  # warm-up
    times = interleaved(calls, setting.repetitions, setting.device)
    case = f"{_VECTORS[0] * _VECTORS[1]:,} vectors x {_DIM}, {_LEVELS} x {_CODES} codes"
    values = ratios(times["package"], times["ours"])
    beside = milliseconds(times, _STEPS)
    yield comparison("quantizer", case, "times as fast as vector-quantize-pytorch", values, beside)
