"""The training step and the quantizer, each against the plain way of doing it."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from functools import partial

import torch
from distill.training.objectives import VQFamily
from torch import Tensor, nn
from torch.optim import AdamW
from vector_quantize_pytorch import ResidualVQ

from distill.audio.spectrogram import AudioSpectrogram
from distill.models.quantizer import Quantized, ResidualQuantizer
from distill.models.vqvae import ConvVQVAE
from distill.training.config import VQVAEConfig, get_adaptive_vqvae_config
from distill.training.objective import Context
from distill.training.step import TrainStep
from reference_step import ReferenceStep, noise
from rows import Row
from speed_processes import alone, peak_memory
from speed_turns import Call, Setting, comparison, in_turn, milliseconds, ratios, repeated, settling

MEDIUM = partial(get_adaptive_vqvae_config, 200, 600.0)  # the preset of a collection of ten minutes
CASES = {
    "batch 32, 3 x 256 codes": MEDIUM(batch_size=32, codebook_size=256),
    "batch 16, 3 x 600 codes": MEDIUM(batch_size=16),
}
_STEPS = 10  # in a turn
_WARM_UP = 5
_VECTORS, _DIM, _CODES, _LEVELS = (32, 48), 128, 256, 3


class OurStep:
    """A model as a run begins with it; every call is one training step of the engine on noise."""

    def __init__(self, device: torch.device, config: VQVAEConfig) -> None:
        torch.manual_seed(0)
        self.model = ConvVQVAE(**config.model_settings()).to(device).train()
        family = VQFamily(config.commitment_weight)
        self.bench = Context(family, self.model, AudioSpectrogram().to(device), device)
        self.optimizer = AdamW(
            self.model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.stepper = TrainStep(self.bench, self.optimizer, config.gradient_clip_norm, recorded=True)
        self.config = config
        batches = noise(config.batch_size, device)
        family.prepare(self.model, self.bench.mels(batches), lambda: None)
        self.batches = itertools.cycle(batches)

    def __call__(self) -> None:
        """One step."""
        self.stepper.settle(self.stepper.take(self.bench.mel(next(self.batches)), 0.0))


def step(setting: Setting) -> Iterator[Row]:
    """Audio seconds per second and peak memory, ours against the reference step."""
    for case, config in CASES.items():
        ours, reference = OurStep(setting.device, config), _reference(setting.device, config)
        repeated(ours, _WARM_UP)()
        repeated(reference, _WARM_UP)()
        ways: dict[str, Call] = {"ours": repeated(ours, _STEPS), "reference": repeated(reference, _STEPS)}
        times = in_turn(ways, setting.repetitions, settle=settling(setting.device))
        beside = milliseconds(times, _STEPS)
        rates = {f"{name}, audio s/s": config.batch_size / beside[f"{name}, ms"] * 1e3 for name in times}
        sizes = {"ours, parameters": _parameters(ours.model), "reference, parameters": _parameters(reference.model)}
        values = ratios(times["reference"], times["ours"])
        yield comparison("step", case, "times the reference's audio per second", values, beside | rates | sizes)
        yield _memory(case, setting, config)
        yield _shortened(case, setting, ours, config)


class ShortenedStep(OurStep):
    """The same step with products and convolutions in bfloat16, but for those of the quantizer."""

    def __init__(self, device: torch.device, config: VQVAEConfig) -> None:
        super().__init__(device, config)
        usual = self.model.quantizer.forward

        def in_full(x: Tensor, mask: Tensor | None = None) -> Quantized:
            with torch.autocast(device.type, enabled=False):
                return usual(x.float(), mask)

        self.model.quantizer.forward = in_full  # type: ignore[method-assign]

    def __call__(self) -> None:
        """One step."""
        # What is kept of the weights must not outlive a step: a recorded one would go on with it.
        with torch.autocast(self.bench.device.type, torch.bfloat16, cache_enabled=False):
            super().__call__()


def _shortened(case: str, setting: Setting, ours: OurStep, config: VQVAEConfig) -> Row:
    shortened = ShortenedStep(setting.device, config)
    repeated(shortened, _WARM_UP)()
    ways: dict[str, Call] = {"float32": repeated(ours, _STEPS), "bfloat16": repeated(shortened, _STEPS)}
    times = in_turn(ways, setting.repetitions, settle=settling(setting.device))
    values = ratios(times["float32"], times["bfloat16"])
    return comparison("step", f"{case}, bfloat16", "times as fast as in float32", values, milliseconds(times, _STEPS))


def _reference(device: torch.device, config: VQVAEConfig) -> ReferenceStep:
    return ReferenceStep(device, config.batch_size, config.codebook_size)


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _memory(case: str, setting: Setting, config: VQVAEConfig) -> Row:
    begun = dataclasses.replace(config, kmeans_init=False)  # what a run's start takes is in the part `size`
    peaks: dict[str, list[float]] = {"ours": [], "reference": []}
    for _ in range(1 if setting.device.type == "cuda" else min(3, setting.repetitions)):  # a GPU's is always the same
        for name, make in (("ours", OurStep), ("reference", _reference)):
            peaks[name].append(alone(_peak_of_steps, make, setting.device, begun) / 1e6)
    beside = {f"{name}, MB": sorted(values)[len(values) // 2] for name, values in peaks.items()}
    return comparison("step", case, "times the reference's peak memory", ratios(*peaks.values()), beside)


def _peak_of_steps(make: Callable[[torch.device, VQVAEConfig], Call], device: torch.device, config: VQVAEConfig) -> int:
    """How many bytes more than before a process takes up at most while it builds a step and takes some."""
    before = peak_memory(device)
    repeated(make(device, config), _WARM_UP)()
    return peak_memory(device) - before


def quantizer(setting: Setting) -> Iterator[Row]:
    """A forward pass with the learning of the codebooks, ours against the package."""
    torch.manual_seed(0)
    ours = ResidualQuantizer(_DIM, _CODES, _LEVELS, decay=0.95, dead_threshold=2.0, kmeans_init=False)
    package = ResidualVQ(
        dim=_DIM, codebook_size=_CODES, num_quantizers=_LEVELS, decay=0.95, threshold_ema_dead_code=2, kmeans_init=False
    )
    vectors = torch.randn(*_VECTORS, _DIM, device=setting.device, requires_grad=True)
    calls: dict[str, Call] = {
        "ours": partial(ours.to(setting.device).train(), vectors),
        "package": partial(package.to(setting.device).train(), vectors),
    }
    ways = {name: repeated(call, _STEPS) for name, call in calls.items()}
    in_turn(ways, 1)
    times = in_turn(ways, setting.repetitions, settle=settling(setting.device))
    case = f"{_VECTORS[0] * _VECTORS[1]:,} vectors x {_DIM}, {_LEVELS} x {_CODES} codes"
    values = ratios(times["package"], times["ours"])
    beside = milliseconds(times, _STEPS)
    yield comparison("quantizer", case, "times as fast as vector-quantize-pytorch", values, beside)
