"""A training step: nothing is learnt from what is not finite, and on an NVIDIA GPU it is replayed, to the same effect.

The tests with a GPU run where one is: `pytest tests/test_step.py`.
"""

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import AdamW

from distill.audio.spectrogram import AudioSpectrogram, SpectrogramConfig
from distill.data.chunks import NO_CHUNK, MelDataset
from distill.data.collection import Sound, find_audio_files
from distill.models.vqvae import ConvVQVAE
from distill.training.config import TrainingConfig, VQVAEConfig
from distill.training.device import deterministic
from distill.training.loop import VQVAEObjective, train, train_vqvae
from distill.training.metrics import StepMetrics, VQStepMetrics
from distill.training.objective import Batch, Context, Evaluation
from distill.training.step import Outcome, TrainStep, step_unless
from support.runs import same_run, small_config
from support.stops import StopAt

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
GPU = torch.device("cuda")


def test_a_fused_optimizer_told_to_skip_changes_neither_weights_nor_what_it_remembers() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(4, 3)
    optimizer = AdamW(layer.parameters(), lr=0.1, fused=True)

    def step(skipped: bool) -> None:
        optimizer.zero_grad()
        (layer(torch.randn(5, 4)).sum() * (math.nan if skipped else 1.0)).backward()
        step_unless(optimizer, torch.tensor(skipped))

    step(False)
    weights = [each.detach().clone() for each in layer.parameters()]
    state = [{name: value.clone() for name, value in kept.items()} for kept in optimizer.state.values()]
    step(True)
    assert all(torch.equal(was, now) for was, now in zip(weights, layer.parameters()))
    for was, now in zip(state, optimizer.state.values()):
        assert all(torch.equal(was[name], now[name]) for name in now)
    step(False)
    assert not any(torch.equal(was, now) for was, now in zip(weights, layer.parameters()))


# On an NVIDIA GPU


class Bench:
    """A model on a GPU that has begun, the mels of some noise, and its training step."""

    def __init__(self, *, recorded: bool, spoilt: Callable[[Tensor], Tensor] = lambda total: total) -> None:
        torch.manual_seed(0)
        self.model = ConvVQVAE(codebook_size=32).to(GPU).train()
        spectrogram = AudioSpectrogram().to(GPU)
        self.mels = [spectrogram.waveform_to_mel(torch.randn(8, 1, 48_000, device=GPU) * 0.1) for _ in range(4)]
        objective = Spoilt(spoilt)
        objective.prepare(self.model, self.mels, lambda: None)
        optimizer = AdamW(self.model.parameters(), lr=1e-3, fused=True)
        context = Context(objective, self.model, spectrogram, GPU)
        self.train_step = TrainStep(context, [optimizer], 1.0, recorded=recorded)

    def launch(self, number: int) -> Outcome:
        """Begin a step with one of the mels."""
        return self.train_step.launch(Batch(self.mels[number % len(self.mels)]), 0.5)

    def steps(self, count: int) -> Iterator[tuple[dict[str, float], bool]]:
        """The losses of so many steps, and whether each was learnt from."""
        for number in range(count):
            torch.manual_seed(number)
            yield self.train_step.read(self.launch(number))


class Spoilt(VQVAEObjective):
    """The family, with something done to its losses."""

    def __init__(self, spoilt: Callable[[Tensor], Tensor]) -> None:
        super().__init__(VQVAEConfig())
        self.spoilt = spoilt

    def evaluate(self, model: nn.Module, batch: Batch, progress: Tensor) -> Evaluation:
        judged = super().evaluate(model, batch, progress)
        return Evaluation((self.spoilt(judged.totals[0]),), judged.terms, judged.observed)


@gpu
def test_replayed_steps_are_the_steps_taken_one_by_one() -> None:
    replayed, usual = Bench(recorded=True), Bench(recorded=False)
    with deterministic():
        for (losses, learnt), (expected, _) in zip(replayed.steps(40), usual.steps(40)):
            assert learnt
            assert losses == expected
    assert replayed.train_step._recordings
    for name, value in usual.model.state_dict().items():
        assert torch.equal(replayed.model.state_dict()[name], value), name


@gpu
def test_a_replayed_step_has_the_learning_rate_of_the_moment() -> None:
    bench = Bench(recorded=True)
    list(bench.steps(10))
    before = {name: value.clone() for name, value in bench.model.named_parameters()}
    bench.train_step.optimizers[0].param_groups[0].update(lr=0.0)
    list(bench.steps(3))
    assert all(torch.equal(before[name], value) for name, value in bench.model.named_parameters())


@gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
def test_nothing_in_a_step_waits_for_the_gpu() -> None:
    bench = Bench(recorded=False)
    list(bench.steps(3))
    try:
        torch.cuda.set_sync_debug_mode("error")
        outcome = bench.launch(0)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert bench.train_step.read(outcome)[1]


@gpu
@pytest.mark.parametrize("recorded", [False, True])
def test_a_step_that_is_not_finite_leaves_the_model_as_it_was(recorded: bool) -> None:
    factor = torch.ones((), device=GPU)
    bench = Bench(recorded=recorded, spoilt=lambda total: total * factor)
    list(bench.steps(10))
    before = {name: value.clone() for name, value in bench.model.state_dict().items()}
    factor.fill_(math.nan)
    ((losses, learnt),) = bench.steps(1)
    assert not learnt
    assert math.isnan(losses["train_loss"])
    assert all(torch.equal(before[name], value) for name, value in bench.model.state_dict().items())
    factor.fill_(1.0)
    assert [learnt for _, learnt in bench.steps(3)] == [True] * 3
    assert not torch.equal(before["encoder.linear.weight"], bench.model.state_dict()["encoder.linear.weight"])


@gpu
@pytest.mark.parametrize("family", ["vqvae", "vae"])
def test_a_run_on_a_gpu_is_the_same_each_time_and_when_it_is_resumed(
    collection: Path, tmp_path: Path, family: str
) -> None:
    files, run = find_audio_files(collection), train_vqvae if family == "vqvae" else train
    shared = {"augmentation_copies": 6, "max_epochs": 6, "checkpoint_interval": 2, "preview_interval": 99}
    config = small_config(**shared) if family == "vqvae" else TrainingConfig(batch_size=4, **shared)
    stop = StopAt(VQStepMetrics if family == "vqvae" else StepMetrics, epoch=3, step=2)
    run(config, files, tmp_path / "whole", "cuda")
    run(config, files, tmp_path / "again", "cuda")
    run(config, files, tmp_path / "cut", "cuda", callback=stop, cancel_event=stop.cancel)
    run(config, files, tmp_path / "cut", "cuda", resume_from=tmp_path / "cut")
    same_run(tmp_path / "again", tmp_path / "whole", family)
    same_run(tmp_path / "cut", tmp_path / "whole", family)


@gpu
def test_mels_cut_on_a_gpu_are_those_cut_elsewhere() -> None:
    rng = np.random.default_rng(0)
    sounds = [Sound(Path(f"{n}.wav"), str(n), rng.normal(0, 0.1, n).astype(np.float32)) for n in (30_000, 70_000)]
    here, there = (MelDataset(sounds, 48_000, SpectrogramConfig(), 0, True, device) for device in ("cpu", GPU))
    for number in range(8):
        keys = [(number, place, place % len(here)) for place in range(6)] + [NO_CHUNK]
        torch.testing.assert_close(there.__getitems__(keys).cpu(), here.__getitems__(keys), atol=1e-3, rtol=0)
