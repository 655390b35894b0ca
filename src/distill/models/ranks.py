"""What the processes of one training run (*ranks*, as `torchrun` starts them) add up and show each other.

A process on its own hears only itself: then nothing here waits, copies or changes anything.
"""

import torch
import torch.distributed as dist
from torch import Tensor


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if together() else 0


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if together() else 1


def together() -> bool:
    """Whether this process is one of several."""
    return dist.is_available() and dist.is_initialized()


def summed(value: Tensor) -> Tensor:
    """The sum of every rank's `value`, which all have in the same shape; no gradient passes through."""
    if not together():
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total


def gathered(value: Tensor) -> Tensor:
    """Every rank's `value` `[N, ...]`, one after the other along the first axis; N may differ."""
    if not together():
        return value
    counts = [torch.zeros(1, dtype=torch.int64, device=value.device) for _ in range(world_size())]
    dist.all_gather(counts, torch.tensor([len(value)], device=value.device))
    lengths = torch.cat(counts).tolist()
    padded = value.new_zeros(max(lengths), *value.shape[1:])
    padded[: len(value)] = value
    parts = [torch.empty_like(padded) for _ in lengths]
    dist.all_gather(parts, padded)
    return torch.cat([part[:length] for part, length in zip(parts, lengths)])
