"""The picture of `docs/speed.md`: the stages of a step against their floors, and ratios against their targets."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.shared.rows import Row
from bench.speed.tables import rows_of_stages, target
from distill.storage import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TIME, _FLOOR, _RATIO, _TARGET = "#9cc3d5", "#2f6f8f", "#2f6f8f", "#d0743c"
_SHOWN = ("step", "quantizer", "loop", "scaling")  # parts with ratios of which more is better
_PANEL = (6.2, 3.6)  # inches


def draw(path: Path, measured: list[Row]) -> Path:
    """Draw a row of two panels for each device to a PNG at `path`."""
    from matplotlib.figure import Figure  # slow to import

    devices = list(dict.fromkeys(row["device"] for row in measured))
    width, height = _PANEL
    figure = Figure(figsize=(2 * width, height * len(devices)), layout="constrained")
    panels: Any = figure.subplots(len(devices), 2, squeeze=False)
    for device, (left, right) in zip(devices, panels):
        here = [row for row in measured if row["device"] == device]
        _draw_stages(left, rows_of_stages(here), device)
        shown = [row for row in here if row["part"] in _SHOWN and "memory" not in row.get("measure", "")]
        _draw_ratios(right, shown, device)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110)
    atomic_write(path, buffer.getbuffer())
    return path


def _draw_stages(axes: "Axes", rows: list[Row], device: str) -> None:
    """Draw a bar for each stage, with its floor as a darker part."""
    if not rows:
        axes.set_visible(False)
        return
    stages = rows[-1]["stages"]
    names = [stage["name"] for stage in stages]
    axes.barh(names, [stage["ms"]["median"] for stage in stages], color=_TIME, label="measured")
    axes.barh(names, [stage["floor_ms"] for stage in stages], color=_FLOOR, label="floor")
    for place, stage in enumerate(stages):
        text = f" {stage['share']:.0%}, {stage['factor']:.0f} x the floor"
        axes.text(stage["ms"]["median"], place, text, va="center", fontsize=8)
    axes.set_title(f"A step on {device}: {rows[-1]['case']}", loc="left", fontweight="bold", fontsize=10)
    axes.set_xlabel("ms")
    axes.margins(x=0.3)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    _style(axes)


def _draw_ratios(axes: "Axes", rows: list[Row], device: str) -> None:
    """Draw a mark for each ratio, its spread as a line, and its target as a vertical stroke."""
    if not rows:
        axes.set_visible(False)
        return
    for place, row in enumerate(rows):
        ratio, least = row["ratio"], target(row)
        axes.plot([ratio["low"], ratio["high"]], [place, place], color=_RATIO, linewidth=2)
        axes.plot(ratio["median"], place, "o", color=_RATIO)
        axes.annotate(f"{ratio['median']:.2f}", (ratio["median"], place), xytext=(0, 6), textcoords="offset points",
                      ha="center", fontsize=8)  # fmt: skip
        if least is not None:
            axes.plot(least, place, "|", color=_TARGET, markersize=16, markeredgewidth=2.5)
    axes.axvline(1, color="black", linewidth=0.8)
    names = [f"{row['part']}: {row['case']}" for row in rows]
    axes.set_yticks(range(len(rows)), names, fontsize=8)
    axes.set_title(f"Ratios, {device}", loc="left", fontweight="bold", fontsize=10)
    axes.set_xlim(left=0)
    axes.margins(y=0.15)
    _style(axes)


def _style(axes: "Axes") -> None:
    """Put the first entry on top, and leave out needless lines."""
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", linewidth=0.4, alpha=0.5)
