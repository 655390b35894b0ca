"""The picture of `docs/quality.md`: for each collection, how far off distill is at its bit rate, and Opus at its."""

import io
import statistics
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from anchors import FIRST_PLAN, INVERSION, OPUS
from distill.storage import atomic_write
from quality import SYSTEMS
from rows import Key, Measured, figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DISTILL = SYSTEMS["vqvae"]
_COLOURS = {_DISTILL: "#2f6f8f", "opus": "#d0743c", FIRST_PLAN: "#7a7a7a", INVERSION: "#5b8c5a"}
_RATES = {FIRST_PLAN: ("kbits",), _DISTILL: ("rates", "fully_coded")}  # where a row has its kbit/s
_MARKS = {_DISTILL: "o", FIRST_PLAN: "s"}
_COLUMNS = 3
_KBITS = (0.24, 75.0)
_TICKS = (1, 3, 6, 12, 24)
_LINE = 0.063  # of a panel's height: what a label needs
_ROOM = 1.22  # above the highest mark, for the name of its column


def draw(path: Path, measured: Measured) -> Path:
    """Draw a panel for each collection to a PNG at `path`."""
    from matplotlib.figure import Figure  # slow to import

    names = sorted({key.collection for key in measured})
    columns = min(_COLUMNS, len(names))
    lines = -(-len(names) // columns)
    figure = Figure(figsize=(4.4 * columns, 3.8 * lines + 0.5), layout="constrained")
    panels = list(figure.subplots(lines, columns, squeeze=False).flat)
    for place, axes in enumerate(panels):
        if place < len(names):
            _draw_collection(axes, names[place], measured)
        else:
            axes.set_visible(False)
    figure.supylabel("mel distance from the original (lower is closer)", fontsize=11)
    figure.supxlabel("kbit/s", fontsize=11)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110)
    atomic_write(path, buffer.getbuffer())
    return path


def _draw_collection(axes: "Axes", name: str, measured: Measured) -> None:
    """One panel: what was trained and Opus at their bit rates, the mel alone as a level."""
    here = {key: figures(seeds, "distances", "mel") for key, seeds in measured.items() if key.collection == name}
    axes.set_title(name, loc="left", fontweight="bold")
    axes.set(xscale="log", xlim=_KBITS, ylim=(0, _ROOM * max(max(values) for values in here.values())))
    axes.set_xticks(_TICKS, [f"{tick}" for tick in _TICKS])
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", linewidth=0.4, alpha=0.5)
    for system, rate in _RATES.items():
        runs = {key.minutes or 0.0: values for key, values in here.items() if key.system == system}
        if runs:
            longest = measured[Key(name, system, max(runs))]
            _draw_trained(axes, figures(longest, *rate)[0], system, runs)
    opus = [key for system in OPUS.values() if (key := Key(name, system, None)) in here]
    _draw_opus(axes, {key.system: (figures(measured[key], "kbits")[-1], here[key][-1]) for key in opus})
    if (key := Key(name, INVERSION, None)) in here:
        axes.axhline(here[key][-1], color=_COLOURS[INVERSION], linewidth=1, linestyle="--")
        _label(axes, "the mel itself", (_KBITS[0], here[key][-1]), _COLOURS[INVERSION], (4, 6), "left")


def _draw_trained(axes: "Axes", kbits: float, system: str, runs: dict[float, list[float]]) -> None:
    """A mark for each number of minutes, one above the other, with the range of the seeds.

    A line takes our longest run across to where Opus is as close.
    """
    colour, ours = _COLOURS[system], system == _DISTILL
    aside, align = (12, "left") if ours else (-12, "right")
    middles = {minutes: statistics.median(values) for minutes, values in runs.items()}
    longest = max(runs)
    for minutes, values in runs.items():
        solid = 1.0 if minutes == longest else 0.5
        axes.plot([kbits, kbits], [values[0], values[-1]], "_-", color=colour, markersize=12, alpha=solid)
        axes.plot(kbits, middles[minutes], _MARKS[system], color=colour, markersize=7, alpha=solid)
    lines = [(middles[minutes], f"{minutes:g} min") for minutes in sorted(middles, key=lambda run: middles[run])]
    lines.append((lines[-1][0], system))  # the name of the column, on top
    for place, (_, text) in zip(in_fresh_thread([level for level, _ in lines], _LINE * axes.get_ylim()[1]), lines):
        bold = text in (system, f"{longest:g} min")
        _label(axes, text, (kbits, place), colour, (aside, 0), align, bold=bold)
    if ours:
        axes.plot([kbits, _KBITS[1]], [middles[longest]] * 2, ":", color=colour, linewidth=1)


def in_fresh_thread(levels: list[float], gap: float) -> list[float]:
    """Rising `levels`, moved up as far as it takes to keep them a `gap` apart."""
    return list(accumulate(levels, lambda below, level: max(level, below + gap)))


def _draw_opus(axes: "Axes", points: dict[str, tuple[float, float]]) -> None:
    """Opus at the rates it took, joined by a line."""
    if points:
        axes.plot(*zip(*points.values()), "-D", color=_COLOURS["opus"], markersize=6, linewidth=1)
    for system, point in points.items():
        _label(axes, system, point, _COLOURS["opus"], (7, 7), "left")


def _label(
    axes: "Axes", text: str, place: tuple[float, float], colour: str, aside: tuple[float, float], align: str,
    *, bold: bool = False,
) -> None:  # fmt: skip
    """Write beside a mark, `aside` points away from it."""
    axes.annotate(
        text, place, xytext=aside, textcoords="offset points", ha=align, va="center",
        color=colour, fontsize=9, fontweight="bold" if bold else "normal",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.85},
    )  # fmt: skip
