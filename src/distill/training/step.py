"""One training step: losses, gradients, optimizers. On an NVIDIA GPU it is recorded as a CUDA graph, then replayed.

Nothing in a step waits for a GPU: whether its numbers are finite is decided there, and its `Outcome` is read once the
next batch is ready. Launching the hundreds of kernels of a small model takes longer than they do; a graph replays them
all in one call.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from distill import distributed
from distill.training.objective import Batch, Context, Evaluation

_Shape = tuple[torch.Size, torch.Size | None]

_WARMUP_STEPS = 3  # steps per shape of batch, in which libraries choose their algorithms and allocate memory


@dataclass(frozen=True)
class Outcome:
    """The result of a step, on its device until it is read.

    `numbers` float `[1 + losses]` are a flag, 1 unless the step was skipped, and the losses called `names`; `before`
    has the model's buffers as they were before the step.
    """

    names: tuple[str, ...]
    numbers: Tensor
    observed: Tensor
    before: dict[str, Tensor]


class TrainStep:
    """The training step of one model: losses, clipped gradients, a step of every optimizer.

    With `recorded`, steps on one NVIDIA GPU are replayed. The optimizers must then be fused and keep their tensors:
    after a state is loaded into one of them, a new `TrainStep` is needed.
    """

    def __init__(
        self, context: Context, optimizers: Sequence[Optimizer], gradient_clip_norm: float, *, recorded: bool = False
    ) -> None:
        self.context, self.optimizers, self.gradient_clip_norm = context, tuple(optimizers), gradient_clip_norm
        replayed = recorded and context.device.type == "cuda" and distributed.world_size() == 1
        self._stream = torch.cuda.Stream(context.device) if replayed else None  # type: ignore[no-untyped-call]
        self._seen: Counter[_Shape] = Counter()
        self._recordings: dict[_Shape, _Recording] = {}

    @property
    def rate(self) -> float:
        """The learning rate of the first optimizer."""
        return float(self.optimizers[0].param_groups[0]["lr"])

    def launch(self, batch: Batch, progress: float) -> Outcome:
        """Launch a step; a replayed one overwrites an earlier outcome that was not read."""
        if self._stream is None:
            return self._take(batch, batch.mel.new_full((), progress))
        with _on_stream(self._stream):
            return self._take_or_replay(batch, progress)

    def read(self, outcome: Outcome) -> tuple[dict[str, float], bool]:
        """Wait for a step: its losses, and False if it was skipped, in which case the model is as it was before."""
        learnt, *losses = outcome.numbers.tolist()
        if not learnt:  # the optimizers have left the weights alone, but the forward pass has moved the buffers
            self.context.model.load_state_dict(outcome.before, strict=False)
        return dict(zip(outcome.names, losses)), bool(learnt)

    def _take_or_replay(self, batch: Batch, progress: float) -> Outcome:
        shape = batch.mel.shape, None if batch.waveform is None else batch.waveform.shape
        self._seen[shape] += 1
        # A model that is not ready runs k-means in its forward pass, which waits for the device and cannot be recorded.
        if self._seen[shape] <= _WARMUP_STEPS or not self.context.objective.ready(self.context.model):
            return self._take(batch, batch.mel.new_full((), progress))
        if shape not in self._recordings:
            self._recordings[shape] = _Recording(self._take, self.optimizers, batch)
        return self._recordings[shape].replay(batch, progress)

    def _take(self, batch: Batch, progress: Tensor) -> Outcome:
        """Take one step; a loss or gradient that is not finite changes neither weights nor optimizer state."""
        model = self.context.model
        # The forward pass moves the buffers, codebooks among them, before it is known whether the step counts.
        before = {name: buffer.clone() for name, buffer in model.named_buffers()}
        evaluation = self.context.objective.evaluate(model, batch, progress)
        self._differentiate(evaluation.totals)
        parameters = list(model.parameters())
        # Summed, not averaged: each rank has divided its loss by the number of examples in all ranks.
        distributed.all_reduce_gradients(parameters)
        norm = nn.utils.clip_grad_norm_(parameters, self.gradient_clip_norm)
        losses = losses_of(evaluation)
        learnt = losses[0].isfinite() & norm.isfinite()  # the norm is finite only if every gradient is
        for optimizer in self.optimizers:
            _update(optimizer, learnt)
        # In one tensor, which is read with a single wait.
        numbers = torch.cat([learnt.to(losses.dtype).view(1), losses])
        return Outcome(("train_loss", *evaluation.terms), numbers, evaluation.observed, before)

    def _differentiate(self, totals: Sequence[Tensor]) -> None:
        """Give the parameters of each optimizer the gradient of its own total."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        if len(totals) == 1:
            totals[0].backward()  # type: ignore[no-untyped-call]
            return
        # Not `backward`, which would add the gradient of each total to the parameters of all optimizers.
        for number, (total, optimizer) in enumerate(zip(totals, self.optimizers, strict=True), start=1):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            gradients = torch.autograd.grad(total, parameters, retain_graph=number < len(totals), allow_unused=True)
            for parameter, gradient in zip(parameters, gradients):
                parameter.grad = gradient


def losses_of(evaluation: Evaluation) -> Tensor:
    """The total, then the terms, summed over all ranks: float `[1 + terms]`."""
    return distributed.all_reduce(torch.stack([evaluation.totals[0].detach(), *evaluation.terms.values()]))


def _update(optimizer: Optimizer, learnt: Tensor) -> None:
    """Step the optimizer if bool `learnt` is True."""
    # On a GPU by a flag: to read `learnt` would wait for the device.
    if learnt.is_cuda and getattr(optimizer, "_step_supports_amp_scaling", False):
        step_unless(optimizer, ~learnt)
    elif learnt:
        optimizer.step()


def step_unless(optimizer: Optimizer, bad: Tensor) -> None:
    """Step a fused optimizer unless the bool `bad` is True, decided on the device as `torch.amp.GradScaler` does it."""
    optimizer.found_inf = bad.float()  # type: ignore[attr-defined]
    optimizer.step()
    del optimizer.found_inf  # type: ignore[attr-defined]


class _Recording:
    """A CUDA graph of the step for one shape of batch; it reads batch, progress and rates from tensors of its own."""

    def __init__(self, take: Callable[[Batch, Tensor], Outcome], optimizers: Sequence[Optimizer], batch: Batch) -> None:
        self._groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        # A replay reads its inputs from the addresses that were recorded.
        self._batch = Batch(batch.mel.clone(), None if batch.waveform is None else batch.waveform.clone(), batch.power)
        device = batch.mel.device
        self._progress = torch.zeros((), device=device)
        self._rates = [torch.zeros((), device=device) for _ in self._groups]
        self._graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.current_stream(device)
        with (
            _rates_from(self._groups, self._rates),
            # In the default mode, some CUDA calls in any other thread of the process would end the capture.
            torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"),
        ):
            self._outcome = take(self._batch, self._progress)

    def replay(self, batch: Batch, progress: float) -> Outcome:
        """Replay the step on another batch."""
        self._batch.mel.copy_(batch.mel)
        if self._batch.waveform is not None and batch.waveform is not None:
            self._batch.waveform.copy_(batch.waveform)
        self._progress.fill_(progress)
        for rate, group in zip(self._rates, self._groups):
            rate.fill_(group["lr"])
        self._graph.replay()
        return self._outcome


@contextmanager
def _rates_from(groups: Sequence[dict[str, Any]], rates: Sequence[Tensor]) -> Iterator[None]:
    """Have parameter groups read their learning rates from tensors, and mark them as capturable, within the body."""
    # A rate that is a plain number would be recorded as a constant, and a schedule could not change it.
    usual = [(group["lr"], group["capturable"]) for group in groups]
    try:
        for group, rate in zip(groups, rates):
            group["lr"], group["capturable"] = rate, True
        yield
    finally:
        for group, (rate, capturable) in zip(groups, usual):
            group["lr"], group["capturable"] = rate, capturable


@contextmanager
def _on_stream(stream: torch.cuda.Stream) -> Iterator[None]:
    """Run the body on `stream`, after all work queued so far and before all that follows."""
    usual = torch.cuda.current_stream(stream.device)
    stream.wait_stream(usual)
    with torch.cuda.stream(stream):
        yield
    usual.wait_stream(stream)
