"""Collective operations of the ranks of one run, the processes that `torchrun` starts.

Values are reduced and gathered only inside `collective()`, where all ranks execute the same code. Outside of it, and in
a process that trains alone, a rank has only its own values: nothing waits, copies or changes anything. Broadcasts from
rank 0 work everywhere.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from distill.errors import ResumeRun, TrainingError

_collective = False  # outside, code that only one rank executes, such as a preview, must not wait for the others


@contextmanager
def process_group(device_type: str) -> Iterator[None]:
    """Join the process group of `torchrun`, if it has started this process; raises `TrainingError`."""
    if not dist.is_available() or int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield
        return
    _run_collective(dist.init_process_group, "nccl" if device_type == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


# In `collective()` only


@contextmanager
def collective() -> Iterator[None]:
    """Enable exchange between ranks within the body, which all of them must execute in step."""
    global _collective
    before, _collective = _collective, dist.is_available() and dist.is_initialized()
    try:
        yield
    finally:
        _collective = before


def rank() -> int:
    """The number of this process, counted from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world_size() -> int:
    """The number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def all_reduce(value: Tensor) -> Tensor:
    """The sum of `value`, of the same shape in all ranks, over the ranks; no gradient passes through it."""
    if not _collective:
        return value
    # The collective works in place, and only on contiguous tensors.
    total = value.detach().clone(memory_format=torch.contiguous_format)
    _run_collective(dist.all_reduce, total)
    return total


def all_reduce_with_gradient(value: Tensor) -> Tensor:
    """`all_reduce`, with the gradient of this rank's summand."""
    return value + (all_reduce(value) - value).detach() if _collective else value


def rank_share(value: Tensor) -> Tensor:
    """The share of this rank in a `value` equal in all: the shares add up to it, each with the whole gradient."""
    return value - (value * (1 - 1 / world_size())).detach() if _collective else value


def any_rank(true: bool) -> bool:
    """True in all ranks if `true` is set in any."""
    if not _collective:
        return true
    # NCCL exchanges CUDA tensors only.
    return bool(all_reduce(torch.tensor(int(true), device="cuda" if dist.get_backend() == "nccl" else "cpu")))


def all_gather(value: Tensor) -> Tensor:
    """The `value` `[N, ...]` of all ranks, concatenated along the first axis; N may differ between ranks."""
    if not _collective:
        return value
    lengths = _lengths(value)
    # The collective needs equal shapes.
    padded = value.new_zeros(max(lengths), *value.shape[1:])
    padded[: len(value)] = value
    parts = [torch.empty_like(padded) for _ in lengths]
    _run_collective(dist.all_gather, parts, padded)
    return torch.cat([part[:length] for part, length in zip(parts, lengths)])


def randn_like(value: Tensor) -> Tensor:
    """Normal noise like `value` `[N, ...]`, drawn for all ranks together, so that no two of them have the same."""
    if not _collective:
        return torch.randn_like(value)
    lengths = _lengths(value)
    # All ranks have the same seed: each draws the noise of the whole batch, and takes its own rows.
    before = sum(lengths[: rank()])
    return torch.randn(sum(lengths), *value.shape[1:], device=value.device)[before : before + len(value)]


def _lengths(value: Tensor) -> list[int]:
    """The number of rows of `value` in each rank."""
    counts = [torch.zeros(1, dtype=torch.int64, device=value.device) for _ in range(world_size())]
    _run_collective(dist.all_gather, counts, torch.tensor([len(value)], device=value.device))
    lengths: list[int] = torch.cat(counts).tolist()
    return lengths


def all_reduce_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Replace the gradients of all ranks by their sum, in a single message."""
    if not _collective:
        return
    gradients = [torch.zeros_like(each) if each.grad is None else each.grad for each in parameters]
    total = all_reduce(torch.cat([gradient.flatten() for gradient in gradients]))
    for parameter, part in zip(parameters, torch.split(total, [each.numel() for each in gradients])):
        parameter.grad = part.view_as(parameter)


# Everywhere


def broadcast_model(model: nn.Module) -> None:
    """Load the weights and buffers of rank 0 into the model of every rank."""
    if world_size() > 1:
        model.load_state_dict(broadcast(model.state_dict()))


def broadcast(value: Any) -> Any:
    """The `value` of rank 0, any picklable object, in every rank."""
    if not dist.is_available() or not dist.is_initialized():
        return value
    box = [value]
    _run_collective(dist.broadcast_object_list, box, 0)
    return box[0]


def _run_collective(collective: Callable[..., Any], *arguments: Any) -> None:
    try:
        collective(*arguments)
    except RuntimeError as error:  # raised by torch when another rank has died
        raise TrainingError(
            "another process of this run has ended, or cannot be reached; the last checkpoint is kept, and any number "
            "of processes can resume from it",
            ResumeRun(),
        ) from error
