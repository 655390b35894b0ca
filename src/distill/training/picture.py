"""The picture of a run: losses and health over the epochs, use of codes or latents, a mel and its reconstruction."""

import io
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from distill.library.header import Header
from distill.storage import atomic_write
from distill.training.config import LEVEL_NAMES
from distill.training.health import LOW_UTILIZATION
from distill.training.metrics import MetricsHistory, PriorHistory, VQMetricsHistory

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = ("#2f6f8f", "#d0743c", "#5b8c5a", "#8a5a9e")


def draw_vqvae_run(path: Path, history: VQMetricsHistory, counts: Tensor, mel: Tensor, recon: Tensor) -> Path:
    """Draw a run to a PNG at `path`: code `counts` `[Q, K]`, one mel `[M, T]` and its reconstruction.

    Raises `StorageError`.
    """
    levels = len(counts)
    figure, rows = _page()
    losses, utilization, perplexity = rows[0].subplots(1, 3)
    _draw_losses(losses, history.get_loss_curves(), history.get_best_epoch())
    _draw_health(utilization, history, "utilization", "share of codes used (validation)")
    utilization.axhline(LOW_UTILIZATION, color="grey", linewidth=0.8, linestyle=":")
    utilization.set_ylim(0, 1.02)
    _draw_health(perplexity, history, "perplexity", "perplexity: codes in equal use")
    perplexity.set_ylim(bottom=0)
    for level, axes in enumerate(rows[1].subplots(1, levels, squeeze=False)[0]):
        _draw_usage(axes, counts[level], level)
    _draw_mels(rows[2].subplots(1, 2, sharey=True), mel, recon)
    return _save(figure, path)


def draw_vae_run(path: Path, history: MetricsHistory, analysis: dict[str, Any], mel: Tensor, recon: Tensor) -> Path:
    """Draw a run to a PNG at `path`: losses, KL, the latent `analysis`, one mel `[M, T]` and its reconstruction.

    Raises `StorageError`.
    """
    figure, rows = _page()
    losses, divergence = rows[0].subplots(1, 2)
    _draw_losses(losses, history.get_loss_curves(), history.get_best_epoch())
    divergence.plot(_epochs(history), [event.kl_divergence for event in history.epoch_metrics], color=_COLOURS[2])
    divergence.set(title="KL: what the latent says of a sound (validation)", xlabel="epoch", ylabel="nats")
    spread, effects = rows[1].subplots(1, 2)
    _draw_spread(spread, analysis.get("components", []))
    _draw_effects(effects, [c for c in analysis.get("components", []) if "name" in c])
    _draw_mels(rows[2].subplots(1, 2, sharey=True), mel, recon)
    return _save(figure, path)


def draw_prior_run(path: Path, history: PriorHistory, heard: Sequence[Tensor], made: Sequence[Tensor]) -> Path:
    """Draw a prior's run to a PNG at `path`: its bits, some mels `[M, T]` of the collection, and some new ones.

    Raises `StorageError`.
    """
    figure, rows = _page()
    bits = rows[0].subplots()
    epochs, events = _epochs(history), history.epoch_metrics
    bits.plot(epochs, [event.unigram_bits for event in events], color="grey", label="frequencies of codes alone")
    bits.plot(epochs, [event.val_code_bits for event in events], color=_COLOURS[1], label="prior")
    bits.set(title="bits per code, of sounds set aside", xlabel="epoch")
    bits.legend(frameon=False)
    for row, mels, title in zip(rows[1:], (heard, made), ("of the collection", "new")):
        for axes, mel in zip(row.subplots(1, max(1, len(mels)), squeeze=False, sharey=True)[0], mels):
            _draw_mel(axes, mel, title)
    return _save(figure, path)


def draw_model(path: Path, header: Header) -> Path:
    """Draw what a model file says of its training to a PNG at `path`: losses, and the use of its codes, if it has any.

    Raises `StorageError`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    losses, *beside = figure.subplots(1, 2 if header.health else 1, squeeze=False)[0]
    _draw_losses(losses, header.curves or {}, header.metadata.best_epoch if header.metadata.epochs else None)
    for axes in beside:
        used = [health["utilization"] for health in (header.health or {}).values()]
        axes.bar(LEVEL_NAMES[: len(used)], used, color=_COLOURS[: len(used)])
        axes.set(title="share of codes used (validation)", ylim=(0, 1))
    return _save(figure, path)


def _page() -> "tuple[Figure, Any]":
    """A figure of three rows."""
    from matplotlib.figure import Figure  # here, because it is slow; and without pyplot, which is not thread-safe

    figure = Figure(figsize=(13, 10))
    rows: Any = figure.subfigures(3, 1, height_ratios=(1.1, 0.9, 1.2))
    for row in rows:  # a layout engine would draw everything a second time, for much the same margins
        row.subplots_adjust(left=0.055, right=0.985, top=0.87, bottom=0.19, wspace=0.24)
    return figure, rows


def _save(figure: "Figure", path: Path) -> Path:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a glyph that the font lacks must not fail a run
        figure.savefig(buffer, dpi=110)
    atomic_write(path, buffer.getbuffer())
    return path


def _epochs(history: VQMetricsHistory | MetricsHistory | PriorHistory) -> list[int]:
    """The epochs, counted from 1 as people do."""
    return [event.epoch + 1 for event in history.epoch_metrics]


def _draw_losses(axes: "Axes", curves: Mapping[str, Sequence[float | None]], best: int | None) -> None:
    for name, label, colour in (("train_losses", "train", 0), ("val_losses", "validation", 1)):
        values = [math.nan if value is None else value for value in curves.get(name, [])]
        axes.plot(range(1, len(values) + 1), values, label=label, color=_COLOURS[colour])
    if best is not None:
        axes.axvline(best + 1, color="grey", linewidth=0.8, linestyle=":", label=f"kept: epoch {best + 1}")
    axes.set(title="loss", xlabel="epoch", yscale="log")
    axes.legend(frameon=False)


def _draw_health(axes: "Axes", history: VQMetricsHistory, figure_name: str, title: str) -> None:
    healths = [event.codebook_health or {} for event in history.epoch_metrics]
    for number, name in enumerate(healths[-1] if healths else {}):
        values = [health[name][figure_name] for health in healths]
        axes.plot(_epochs(history), values, color=_COLOURS[number], label=LEVEL_NAMES[number])
    axes.set(title=title, xlabel="epoch")
    axes.legend(frameon=False)


def _draw_usage(axes: "Axes", counts: Tensor, level: int) -> None:
    ranked = counts.sort(descending=True).values.tolist()
    axes.stairs(ranked, fill=True, color=_COLOURS[level])
    unused = sum(1 for count in ranked if count == 0)
    axes.set(
        title=f"{LEVEL_NAMES[level]}: {len(ranked) - unused} of {len(ranked)} codes used",
        xlabel="codes, most used first",
        ylabel="times used",
    )


def _draw_spread(axes: "Axes", components: list[dict[str, Any]]) -> None:
    axes.bar(range(1, len(components) + 1), [component["std"] for component in components], color=_COLOURS[0])
    axes.set(title="latent space: how far the sounds spread", xlabel="principal component", ylabel="standard deviation")


def _draw_effects(axes: "Axes", components: list[dict[str, Any]]) -> None:
    if not components:
        return
    properties = list(components[0]["effects"])
    image = np.array([[component["effects"][name] for name in properties] for component in components])
    axes.imshow(image, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
    axes.set_xticks(range(len(properties)), [name.replace("_", " ") for name in properties])
    axes.set_yticks(range(len(components)), [component["name"].replace("_", " ") for component in components])
    axes.set_title("what each direction does to the sound (red: more, blue: less)")


def _draw_mels(pair: "list[Axes]", mel: Tensor, recon: Tensor) -> None:
    for axes, image, title in zip(pair, (mel, recon), ("original (not trained on)", "reconstruction")):
        _draw_mel(axes, image, title)


def _draw_mel(axes: "Axes", mel: Tensor, title: str) -> None:
    axes.imshow(mel.cpu().numpy(), origin="lower", aspect="auto", cmap="magma", vmin=-1, vmax=0.6)
    axes.set(title=title, xlabel="frame", ylabel="mel band")
