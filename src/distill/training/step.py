"""One training step: a batch judged, gradients, the optimizer. On an NVIDIA GPU it is recorded once, then replayed.

Nothing in a step waits for a GPU: whether its numbers are finite is decided there, and an `Outcome` is read later, when
the next batch is ready. What a small model's step takes there is the hundreds of calls that start its kernels; a CUDA
graph replays them all in one call.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from distill import distributed
from distill.training.objective import Context, Evaluation

_BEFORE_RECORDING = 3  # steps with mels of a shape, in which libraries make their choices and their room


@dataclass(frozen=True)
class Outcome:
    """What came of a step, on its device until it is read.

    `numbers` float `[1 + losses]` are whether it was learnt from and the losses called `names`; `before` is what the
    model's buffers were.
    """

    names: tuple[str, ...]
    numbers: Tensor
    observed: Tensor
    before: dict[str, Tensor]


class TrainStep:
    """Takes the steps of a training with one model and one optimizer.

    With `recorded`, those on one NVIDIA GPU are replayed. Then the optimizer has to be a fused one, and to keep the
    tensors that it has: whoever loads a state into it makes another stepper.
    """

    def __init__(
        self, context: Context, optimizer: Optimizer, gradient_clip_norm: float, *, recorded: bool = False
    ) -> None:
        self.context, self.optimizer, self.gradient_clip_norm = context, optimizer, gradient_clip_norm
        replayed = recorded and context.device.type == "cuda" and distributed.world_size() == 1
        self._stream = torch.cuda.Stream(context.device) if replayed else None  # type: ignore[no-untyped-call]
        self._seen: Counter[torch.Size] = Counter()
        self._recordings: dict[torch.Size, _Recording] = {}

    @property
    def rate(self) -> float:
        """The learning rate."""
        return float(self.optimizer.param_groups[0]["lr"])

    def take(self, mel: Tensor, progress: float) -> Outcome:
        """Take a step with mels `[B, 1, M, T]`; an outcome that was not yet read is overwritten."""
        if self._stream is None:
            return self._take(mel, mel.new_full((), progress))
        with _on(self._stream):
            return self._take_or_replay(mel, progress)

    def settle(self, outcome: Outcome) -> tuple[dict[str, float], bool]:
        """Wait for a step: its losses, and whether it was learnt from; if not, the model is as it was before."""
        learnt, *losses = outcome.numbers.tolist()
        if not learnt:
            self.context.model.load_state_dict(outcome.before, strict=False)
        return dict(zip(outcome.names, losses)), bool(learnt)

    def _take_or_replay(self, mel: Tensor, progress: float) -> Outcome:
        shape = mel.shape
        self._seen[shape] += 1
        if self._seen[shape] <= _BEFORE_RECORDING or not self.context.family.ready(self.context.model):
            return self._take(mel, mel.new_full((), progress))
        if shape not in self._recordings:
            self._recordings[shape] = _Recording(self._take, self.optimizer, mel)
        return self._recordings[shape].replay(mel, progress)

    def _take(self, mel: Tensor, progress: Tensor) -> Outcome:
        """One step; a loss or gradient that is not finite changes neither weight nor optimizer."""
        model = self.context.model
        before = {name: buffer.clone() for name, buffer in model.named_buffers()}
        evaluation = self.context.family.evaluate(model, mel, progress)
        self.optimizer.zero_grad(set_to_none=True)
        evaluation.total.backward()  # type: ignore[no-untyped-call]
        parameters = list(model.parameters())
        distributed.all_reduce_gradients(parameters)
        norm = nn.utils.clip_grad_norm_(parameters, self.gradient_clip_norm)
        losses = losses_of(evaluation)
        learnt = losses[0].isfinite() & norm.isfinite()
        _update(self.optimizer, learnt)
        numbers = torch.cat([learnt.to(losses.dtype).view(1), losses])
        return Outcome(("train_loss", *evaluation.terms), numbers, evaluation.observed, before)


def losses_of(evaluation: Evaluation) -> Tensor:
    """The total of all ranks, then their terms: float `[1 + terms]`."""
    return distributed.all_reduce(torch.stack([evaluation.total.detach(), *evaluation.terms.values()]))


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
    """The step with mels of one shape, as CUDA saw it; it reads its mels, progress and rates from fixed places."""

    def __init__(self, take: Callable[[Tensor, Tensor], Outcome], optimizer: Optimizer, mel: Tensor) -> None:
        self._optimizer, self._mel, self._progress = optimizer, mel.clone(), torch.zeros((), device=mel.device)
        self._rates = [torch.zeros((), device=mel.device) for _ in optimizer.param_groups]
        self._graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.current_stream(mel.device)
        with (
            _rates_from(optimizer, self._rates),
            torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"),
        ):
            self._outcome = take(self._mel, self._progress)

    def replay(self, mel: Tensor, progress: float) -> Outcome:
        """Take the step."""
        self._mel.copy_(mel)
        self._progress.fill_(progress)
        for rate, group in zip(self._rates, self._optimizer.param_groups):
            rate.fill_(group["lr"])
        self._graph.replay()
        return self._outcome


@contextmanager
def _rates_from(optimizer: Optimizer, rates: Sequence[Tensor]) -> Iterator[None]:
    """Let the optimizer read its learning rates from tensors, and know that its step is being recorded."""
    usual = [(group["lr"], group["capturable"]) for group in optimizer.param_groups]
    try:
        for group, rate in zip(optimizer.param_groups, rates):
            group["lr"], group["capturable"] = rate, True
        yield
    finally:
        for group, (rate, capturable) in zip(optimizer.param_groups, usual):
            group["lr"], group["capturable"] = rate, capturable


@contextmanager
def _on(stream: torch.cuda.Stream) -> Iterator[None]:
    """What follows is done on `stream`, after what was asked for so far, and before all that will be."""
    usual = torch.cuda.current_stream(stream.device)
    stream.wait_stream(usual)
    with torch.cuda.stream(stream):
        yield
    usual.wait_stream(stream)
