"""One training step: a batch judged, gradients, the optimizer. On an NVIDIA GPU it is recorded once, then replayed.

Nothing in a step waits for a GPU: whether its numbers are finite is decided there, and an `Outcome` is read later, when
the next batch is ready. What a small model's step takes there is the hundreds of calls that start its kernels; a CUDA
graph replays them all in one call.
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

_BEFORE_RECORDING = 3  # steps with mels of a shape, in which libraries make their choices and their room


@dataclass(frozen=True)
class Outcome:
    """The result of a step, on its device until it is read.

    `numbers` float `[1 + losses]` are whether it was learnt from and the losses called `names`; `before` is what the
    model's buffers were.
    """

    names: tuple[str, ...]
    numbers: Tensor
    observed: Tensor
    before: dict[str, Tensor]


class TrainStep:
    """The training step of one model: a batch judged, gradients clipped, every optimizer moved.

    With `recorded`, steps on one NVIDIA GPU are replayed. Then the optimizers have to be fused ones, and to keep the
    tensors that they have: whoever loads a state into one makes another `TrainStep`.
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
        """Begin a step; an outcome that was not yet read is overwritten."""
        if self._stream is None:
            return self._take(batch, batch.mel.new_full((), progress))
        with _on(self._stream):
            return self._take_or_replay(batch, progress)

    def read(self, outcome: Outcome) -> tuple[dict[str, float], bool]:
        """Wait for a step: its losses, and whether it was learnt from; if not, the model is as it was before."""
        learnt, *losses = outcome.numbers.tolist()
        if not learnt:
            self.context.model.load_state_dict(outcome.before, strict=False)
        return dict(zip(outcome.names, losses)), bool(learnt)

    def _take_or_replay(self, batch: Batch, progress: float) -> Outcome:
        shape = batch.mel.shape, None if batch.waveform is None else batch.waveform.shape
        self._seen[shape] += 1
        if self._seen[shape] <= _BEFORE_RECORDING or not self.context.objective.ready(self.context.model):
            return self._take(batch, batch.mel.new_full((), progress))
        if shape not in self._recordings:
            self._recordings[shape] = _Recording(self._take, self.optimizers, batch)
        return self._recordings[shape].replay(batch, progress)

    def _take(self, batch: Batch, progress: Tensor) -> Outcome:
        """One step; a loss or gradient that is not finite changes neither weight nor optimizer."""
        model = self.context.model
        before = {name: buffer.clone() for name, buffer in model.named_buffers()}
        evaluation = self.context.objective.evaluate(model, batch, progress)
        self._differentiate(evaluation.totals)
        parameters = list(model.parameters())
        distributed.all_reduce_gradients(parameters)
        norm = nn.utils.clip_grad_norm_(parameters, self.gradient_clip_norm)
        losses = losses_of(evaluation)
        learnt = losses[0].isfinite() & norm.isfinite()
        for optimizer in self.optimizers:
            _update(optimizer, learnt)
        numbers = torch.cat([learnt.to(losses.dtype).view(1), losses])
        return Outcome(("train_loss", *evaluation.terms), numbers, evaluation.observed, before)

    def _differentiate(self, totals: Sequence[Tensor]) -> None:
        """Give the parameters of each optimizer the gradient of its own total."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        if len(totals) == 1:
            totals[0].backward()  # type: ignore[no-untyped-call]
            return
        for number, (total, optimizer) in enumerate(zip(totals, self.optimizers, strict=True), start=1):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            gradients = torch.autograd.grad(total, parameters, retain_graph=number < len(totals), allow_unused=True)
            for parameter, gradient in zip(parameters, gradients):
                parameter.grad = gradient


def losses_of(evaluation: Evaluation) -> Tensor:
    """The total of all ranks, then their terms: float `[1 + terms]`."""
    return distributed.all_reduce(torch.stack([evaluation.totals[0].detach(), *evaluation.terms.values()]))


def _update(optimizer: Optimizer, learnt: Tensor) -> None:
    """Let the optimizer take its step if bool `learnt` says so."""
    if learnt.is_cuda and getattr(optimizer, "_step_supports_amp_scaling", False):
        step_unless(optimizer, ~learnt)
    elif learnt:
        optimizer.step()


def step_unless(optimizer: Optimizer, bad: Tensor) -> None:
    """Let a fused optimizer take a step that is none if the bool `bad` is True, as `torch.amp.GradScaler` does."""
    optimizer.found_inf = bad.float()  # type: ignore[attr-defined]
    optimizer.step()
    del optimizer.found_inf  # type: ignore[attr-defined]


class _Recording:
    """The step with batches of one shape, as CUDA saw it; it reads its batch, progress and rates from fixed places."""

    def __init__(self, take: Callable[[Batch, Tensor], Outcome], optimizers: Sequence[Optimizer], batch: Batch) -> None:
        self._groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        self._batch = Batch(batch.mel.clone(), None if batch.waveform is None else batch.waveform.clone())
        device = batch.mel.device
        self._progress = torch.zeros((), device=device)
        self._rates = [torch.zeros((), device=device) for _ in self._groups]
        self._graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.current_stream(device)
        with (
            _rates_from(self._groups, self._rates),
            torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"),
        ):
            self._outcome = take(self._batch, self._progress)

    def replay(self, batch: Batch, progress: float) -> Outcome:
        """Take the step."""
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
    """Let parameter groups read their learning rates from tensors, and know that their step is being recorded."""
    usual = [(group["lr"], group["capturable"]) for group in groups]
    try:
        for group, rate in zip(groups, rates):
            group["lr"], group["capturable"] = rate, True
        yield
    finally:
        for group, (rate, capturable) in zip(groups, usual):
            group["lr"], group["capturable"] = rate, capturable


@contextmanager
def _on(stream: torch.cuda.Stream) -> Iterator[None]:
    """What follows is done on `stream`, after what was asked for so far, and before all that will be."""
    usual = torch.cuda.current_stream(stream.device)
    stream.wait_stream(usual)
    with torch.cuda.stream(stream):
        yield
    usual.wait_stream(stream)
