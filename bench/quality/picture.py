"""The pictures of `docs/quality.md`: mel distance against bit rate and against training time, by collection."""

import io
import statistics
from collections.abc import Callable, Set
from pathlib import Path
from typing import TYPE_CHECKING

from bench.quality.anchors import FIRST_PLAN, INVERSION, OPUS
from bench.quality.models import FIRST_VERSION, SYSTEMS
from bench.shared.rows import Key, Measured, sorted_values
from distill.storage import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DISTILL = SYSTEMS["vqvae"]
_COLOURS = {
    _DISTILL: "#2f6f8f",
    "opus": "#d0743c",
    FIRST_PLAN: "#7a7a7a",
    FIRST_VERSION: "#7a7a7a",
    INVERSION: "#5b8c5a",
}
_RATES = {FIRST_PLAN: ("kbits",), _DISTILL: ("rates", "fully_coded")}  # path of the bit rate in a row
_MARKS = {_DISTILL: "o", FIRST_PLAN: "s"}
_COLUMNS = 3
_KBITS = (0.24, 75.0)
_TICKS = (1, 3, 6, 12, 24)
_SECONDS = (15, 30, 60, 180, 600)
_HEADROOM = 1.22  # leaves space above the highest mark for its label


def draw(path: Path, measured: Measured) -> Path:
    """Draw mel distance against bit rate, a panel for each collection, to a PNG at `path`."""
    return _draw_panels(path, {key.collection for key in measured}, measured, _draw_collection, "kbit/s")


def draw_soon(path: Path, measured: Measured) -> Path | None:
    """Draw mel distance against training time, a panel for each collection with several, to a PNG at `path`."""
    names = {key.collection for key in measured if len(_times(measured, key.collection, _DISTILL)) > 1}
    if not names:
        return None
    return _draw_panels(path, names, measured, _draw_times, "seconds of training asked for, all in all")


def _draw_panels(
    path: Path, found: Set[str], measured: Measured, panel: Callable[["Axes", str, Measured], None], label: str
) -> Path:
    from matplotlib.figure import Figure  # slow to import; the one above is for types alone

    names = sorted(found)
    columns = min(_COLUMNS, len(names))
    row_count = -(-len(names) // columns)
    figure = Figure(figsize=(4.4 * columns, 3.8 * row_count + 0.5), layout="constrained")
    panels = list(figure.subplots(row_count, columns, squeeze=False).flat)
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    for axes, name in zip(panels, names):
        axes.set_title(name, loc="left", fontweight="bold")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", linewidth=0.4, alpha=0.5)
        panel(axes, name, measured)
    figure.supylabel("mel distance from the original (lower is closer)", fontsize=11)
    figure.supxlabel(label, fontsize=11)
    return save(figure, path)


def _times(measured: Measured, name: str, system: str) -> dict[float, list[float]]:
    """The distances of a system's runs by the seconds that they were given, shortest first."""
    keys = sorted((key.minutes, key) for key in measured if key[:2] == (name, system) and key.minutes)
    return {60 * minutes: sorted_values(measured[key], "distances", "mel") for minutes, key in keys}


def _draw_times(axes: "Axes", name: str, measured: Measured) -> None:
    """Draw a panel: a line for distill and for its first version, with the range over the seeds."""
    for system in (FIRST_VERSION, _DISTILL):
        if runs := _times(measured, name, system):
            colour, middles = _COLOURS[system], [statistics.median(values) for values in runs.values()]
            axes.vlines(list(runs), *zip(*((values[0], values[-1]) for values in runs.values())), color=colour)
            axes.plot(list(runs), middles, "-o", color=colour, markersize=5, linewidth=1.2)
            _label(axes, system, (list(runs)[-1], middles[-1]), colour, (-2, 11), "right")
    axes.set(xscale="log", ylim=(0, _HEADROOM * axes.get_ylim()[1]))
    axes.set_xticks(_SECONDS, [f"{seconds}" for seconds in _SECONDS])
    axes.minorticks_off()


def save(figure: "Figure", path: Path) -> Path:
    """Write a figure to a PNG at `path`."""
    from PIL import Image  # slow to import as well

    drawn, smaller = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=110)
    # A palette is not seen in charts and spectrograms, and takes half the room in the repository.
    Image.open(drawn).convert("RGB").quantize(256).save(smaller, "PNG", optimize=True)
    atomic_write(path, smaller.getbuffer())
    return path


def _draw_collection(axes: "Axes", name: str, measured: Measured) -> None:
    """Draw a panel: trained models and Opus at their bit rates, the inverted mel as a horizontal line."""
    distances = {
        key: sorted_values(seeds, "distances", "mel") for key, seeds in measured.items() if key.collection == name
    }
    axes.set(xscale="log", xlim=_KBITS, ylim=(0, _HEADROOM * max(max(values) for values in distances.values())))
    axes.set_xticks(_TICKS, [f"{tick}" for tick in _TICKS])
    axes.minorticks_off()
    for system, rate in _RATES.items():
        runs = {key.minutes or 0.0: values for key, values in distances.items() if key.system == system}
        if runs:
            longest = measured[Key(name, system, max(runs))]
            _draw_trained(axes, sorted_values(longest, *rate)[0], system, runs)
    opus = [key for system in OPUS.values() if (key := Key(name, system, None)) in distances]
    _draw_opus(axes, {key.system: (sorted_values(measured[key], "kbits")[-1], distances[key][-1]) for key in opus})
    if (key := Key(name, INVERSION, None)) in distances:
        axes.axhline(distances[key][-1], color=_COLOURS[INVERSION], linewidth=1, linestyle="--")
        _label(axes, "the mel itself", (_KBITS[0], distances[key][-1]), _COLOURS[INVERSION], (4, 6), "left")


def _draw_trained(axes: "Axes", kbits: float, system: str, runs: dict[float, list[float]]) -> None:
    """Draw a mark for each number of minutes, with the range over the seeds; the longest run has a label.

    A dotted line from our longest run shows the bit rate at which Opus is as close.
    """
    colour, ours = _COLOURS[system], system == _DISTILL
    medians = {minutes: statistics.median(values) for minutes, values in runs.items()}
    longest = max(runs)
    for minutes, values in runs.items():
        alpha = 1.0 if minutes == longest else 0.5
        axes.plot([kbits, kbits], [values[0], values[-1]], "_-", color=colour, markersize=12, alpha=alpha)
        axes.plot(kbits, medians[minutes], _MARKS[system], color=colour, markersize=7, alpha=alpha)
    text = f"{system}\n{longest:g} min"
    _label(axes, text, (kbits, medians[longest]), colour, (-10, -2), "right", bold=True)
    if ours:
        axes.plot([kbits, _KBITS[1]], [medians[longest]] * 2, ":", color=colour, linewidth=1)


def _draw_opus(axes: "Axes", points: dict[str, tuple[float, float]]) -> None:
    """Draw Opus at its actual bit rates, joined by a line."""
    if points:
        axes.plot(*zip(*points.values()), "-D", color=_COLOURS["opus"], markersize=6, linewidth=1)
    for system, point in points.items():
        offset = (7, 3) if point == max(points.values()) else (3, 12)  # the last two are close together
        _label(axes, system, point, _COLOURS["opus"], offset, "left")


def _label(
    axes: "Axes", text: str, position: tuple[float, float], colour: str, offset: tuple[float, float], align: str,
    *, bold: bool = False,
) -> None:  # fmt: skip
    """Write a label beside a mark, `offset` points away from it."""
    axes.annotate(
        text, position, xytext=offset, textcoords="offset points", ha=align, va="center",
        color=colour, fontsize=9, fontweight="bold" if bold else "normal",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.85},
    )  # fmt: skip
