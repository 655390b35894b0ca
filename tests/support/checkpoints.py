"""Checkpoints of a run that never was, and equality to the bit."""

import math

import torch
from torch import nn

from distill.training.checkpoint import Checkpoint
from distill.training.metrics import (
    EpochMetrics,
    MetricsHistory,
    StepMetrics,
    VQEpochMetrics,
    VQMetricsHistory,
    VQStepMetrics,
)

HEALTH = {"level_0": {"utilization": 0.5, "perplexity": 2.5, "dead_codes": 3}}


VQ_HISTORY = VQMetricsHistory(
    [VQStepMetrics(0, 0, 1, math.nan, math.inf, *[0.5] * 4), VQStepMetrics(0, 10, 20, *[0.5] * 6, HEALTH)],
    [
        VQEpochMetrics(
            0, 9, *[0.5] * 3, -math.inf, *[0.1] * 4, HEALTH, ["Level 0: utilization 5% (below 30% threshold)"]
        )
    ],
)


V1_HISTORY = MetricsHistory([StepMetrics(0, 0, 1, *[0.5] * 6)], [EpochMetrics(0, 9, *[0.25] * 9)])


def trained(seed: int = 0):
    """A tiny model after two steps, with its optimizer and scheduler."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=9)
    for _ in range(2):
        step(model, optimizer, scheduler)
    return model, optimizer, scheduler


def step(model, optimizer, scheduler) -> None:
    optimizer.zero_grad()
    model(torch.linspace(-1, 1, 12).reshape(4, 3)).square().mean().backward()
    optimizer.step()
    scheduler.step()


def checkpoint(epoch: int = 1, step: int = 0, val_loss: float | None = 0.5, **fields: object) -> Checkpoint:
    model, optimizer, scheduler = trained()
    values = {
        "family": "vqvae",
        "identity": {"config": {"seed": 1, "minutes": None}, "files": "digest"},
        "epoch": epoch,
        "step": step,
        "val_loss": val_loss,
        "total_epochs": 9,
        "planned": True,
        "elapsed_s": 12.5,
        "totals": {"examples": 3, "sums": {"train_loss": torch.tensor(0.25)}},
        "environment": {"device": "cpu", "torch": torch.__version__, "threads": "1"},
        "skips": {"total": 4, "in_row": 0},
        "rollbacks": 1,
        "model_state": model.state_dict(),
        "optimizer_state": optimizer.state_dict(),
        "scheduler_state": scheduler.state_dict(),
        "best_epoch": 0,
        "best_val_loss": 0.5,
        "best_weights": model.state_dict(),
        "history": VQ_HISTORY,
        "commitment_weight": 0.25,
        "codebook_health": HEALTH,
    }
    return Checkpoint(**{"model_settings": {"width": 4}} | values | fields)


def v1_checkpoint(**fields: object) -> Checkpoint:
    v1 = {"family": "vae", "history": V1_HISTORY, "kl_weight": 0.01, "commitment_weight": None, "codebook_health": None}
    return checkpoint(**v1 | fields)


def same(a: object, b: object) -> bool:
    """Equality to the bit, tensors and NaN included."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or repr(a) == repr(b))
