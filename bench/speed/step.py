"""Speed and peak memory of a training step, against the reference step, and its speed in bfloat16."""

import dataclasses
import itertools
import statistics
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from bench.shared.processes import in_fresh_process, peak_memory
from bench.shared.rows import Row
from bench.speed.reference_step import ReferenceStep, noise
from bench.speed.timing import Call, Setting, comparison, interleaved, milliseconds, ratios, repeated
from distill.audio.spectrogram import AudioSpectrogram
from distill.families import get_family
from distill.models.quantizer import Quantized
from distill.models.vqvae import ConvVQVAE
from distill.training.config import VQVAEConfig, get_adaptive_vqvae_config
from distill.training.loop import VQVAEObjective
from distill.training.objective import Batch, Context
from distill.training.step import TrainStep

MEDIUM = partial(get_adaptive_vqvae_config, 200, 600.0)  # the preset for a collection of ten minutes
CASES = {
    "batch 32, 4 x 1,024 codes": MEDIUM(batch_size=32),
    "batch 16, 4 x 1,024 codes": MEDIUM(batch_size=16),
}
_STEPS = 10  # timed together
_WARM_UP = 5


class OurStep:
    """A model at the start of a run; a call takes one training step of the engine on noise."""

    def __init__(self, device: torch.device, config: VQVAEConfig) -> None:
        torch.manual_seed(0)
        spectrogram = AudioSpectrogram(get_family("vqvae").spectrogram).to(device)
        self.model = ConvVQVAE(**config.model_settings(), n_mels=spectrogram.config.rows).to(device).train()
        objective = VQVAEObjective(config)
        self.context = Context(objective, self.model, spectrogram, device)
        self.optimizer = AdamW(
            self.model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.train_step = TrainStep(self.context, [self.optimizer], config.gradient_clip_norm, recorded=True)
        self.config = config
        batches = noise(config.batch_size, device)
        objective.prepare(self.model, self.context.mels(batches), lambda: None)
        self.batches = itertools.cycle(batches)

    def __call__(self) -> None:
        """Take one step."""
        batch: Batch = self.context.batch(next(self.batches))
        self.train_step.read(self.train_step.launch(batch, 0.0))


class Bfloat16Step(OurStep):
    """The same step with products and convolutions in bfloat16, except in the quantizer."""

    def __init__(self, device: torch.device, config: VQVAEConfig) -> None:
        super().__init__(device, config)
        forward = self.model.quantizer.forward

        def in_float32(x: Tensor, mask: Tensor | None = None) -> Quantized:
            with torch.autocast(device.type, enabled=False):
                return forward(x.float(), mask)

        self.model.quantizer.forward = in_float32  # type: ignore[method-assign]

    def __call__(self) -> None:
        """Take one step."""
        # Cached casts of the weights must not outlive a step: a recorded step would go on using them.
        with torch.autocast(self.context.device.type, torch.bfloat16, cache_enabled=False):
            super().__call__()


def step(setting: Setting) -> Iterator[Row]:
    """Audio seconds per second, peak memory, and bfloat16, for each case."""
    for case, config in CASES.items():
        ours, reference = OurStep(setting.device, config), _reference(setting.device, config)
        repeated(ours, _WARM_UP)()
        repeated(reference, _WARM_UP)()
        calls: dict[str, Call] = {"ours": repeated(ours, _STEPS), "reference": repeated(reference, _STEPS)}
        times = interleaved(calls, setting.repetitions, setting.device)
        beside = milliseconds(times, _STEPS)
        rates = {f"{name}, audio s/s": config.batch_size / beside[f"{name}, ms"] * 1e3 for name in times}
        sizes = {"ours, parameters": _parameters(ours.model), "reference, parameters": _parameters(reference.model)}
        values = ratios(times["reference"], times["ours"])
        yield comparison("step", case, "times the reference's audio per second", values, beside | rates | sizes)
        yield _memory(case, setting, config)
        yield _bfloat16(case, setting, ours, config)


def _bfloat16(case: str, setting: Setting, ours: OurStep, config: VQVAEConfig) -> Row:
    bfloat16 = Bfloat16Step(setting.device, config)
    repeated(bfloat16, _WARM_UP)()
    calls: dict[str, Call] = {"float32": repeated(ours, _STEPS), "bfloat16": repeated(bfloat16, _STEPS)}
    times = interleaved(calls, setting.repetitions, setting.device)
    values = ratios(times["float32"], times["bfloat16"])
    return comparison("step", f"{case}, bfloat16", "times as fast as in float32", values, milliseconds(times, _STEPS))


def _reference(device: torch.device, config: VQVAEConfig) -> ReferenceStep:
    return ReferenceStep(device, config.batch_size, config.codebook_size)


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _memory(case: str, setting: Setting, config: VQVAEConfig) -> Row:
    without_kmeans = dataclasses.replace(config, kmeans_init=False)  # the start of a run is in the part `size`
    peaks: dict[str, list[float]] = {"ours": [], "reference": []}
    for _ in range(1 if setting.device.type == "cuda" else min(3, setting.repetitions)):  # constant on a GPU
        for name, make in (("ours", OurStep), ("reference", _reference)):
            peaks[name].append(in_fresh_process(_peak_of_steps, make, setting.device, without_kmeans) / 1e6)
    beside = {f"{name}, MB": statistics.median(values) for name, values in peaks.items()}
    return comparison("step", case, "times the reference's peak memory", ratios(*peaks.values()), beside)


def _peak_of_steps(make: Callable[[torch.device, VQVAEConfig], Call], device: torch.device, config: VQVAEConfig) -> int:
    """Bytes by which building a step and taking some raises the peak memory of this process."""
    before = peak_memory(device)
    repeated(make(device, config), _WARM_UP)()
    return peak_memory(device) - before
