"""The tables of `docs/speed.md`, in Markdown."""

from collections.abc import Iterable
from itertools import starmap
from typing import Any

from bench.shared.markdown import provenance, table
from bench.shared.rows import Row

HEADINGS = {
    "step": "A training step",
    "quantizer": "The quantizer",
    "stages": "Where a step's time goes, and decoding",
    "loop": "A whole run",
    "minutes": "A run of three minutes",
    "start": "Starting",
    "inference": "Using a model",
    "size": "More sounds",
    "scan": "Many files",
    "long": "Ten hours",
    "scaling": "More processes",
}

# The least median aimed at, by case and measure; on a GPU, `GPU_TARGETS` come first.
TARGETS: dict[tuple[str, str], float] = {
    ("batch 32, 4 x 1,024 codes", "times the reference's audio per second"): 3.0,
    ("12 epochs of the preset, from the second on", "times the reference's audio per second"): 3.0,
    ("1,536 vectors x 128, 3 x 256 codes", "times as fast as vector-quantize-pytorch"): 3.0,
    ("reconstructing 10 s", "times as fast as it plays"): 20.0,
    ("reconstructing 60 s", "times as fast as it plays"): 20.0,
    ("600 files of a minute, to the first step", "times as fast as it plays"): 3600.0,  # within ten seconds
}
GPU_TARGETS: dict[tuple[str, str], float] = {
    ("batch 32, 4 x 1,024 codes", "times the reference's audio per second"): 5.0,
}


def latest(measured: list[Row]) -> list[Row]:
    """The latest row of each measurement on each device and collection."""
    identity = ("device", "part", "case", "measure", "collection")
    return list({tuple(row.get(name) for name in identity): row for row in measured}.values())


def speed_tables(measured: list[Row]) -> str:
    """All tables, by device and part, and the provenance of the rows."""
    parts = []
    for device in dict.fromkeys(row["device"] for row in measured):
        here = [row for row in measured if row["device"] == device]
        for part, heading in HEADINGS.items():
            these = [row for row in here if row["part"] == part]
            bodies = [*map(stages_table, rows_of_stages(these)), ratios_table(row for row in these if "ratio" in row)]
            if tables := [body for body in bodies if body]:
                parts.append("\n\n".join([f"### {heading}, {device}", *tables]))
    return "\n\n".join([*parts, provenance(measured)])


def rows_of_stages(measured: Iterable[Row]) -> list[Row]:
    """The rows with the stages of a step."""
    return [row for row in measured if "stages" in row]


def ratios_table(measured: Iterable[Row]) -> str:
    """Ratios with their spread and target, and the absolute values beside them."""
    body = [
        [
            " · ".join(filter(None, [row["case"], row.get("collection")])),
            f"{spread(row['ratio'])} {row['measure']}",
            target_cell(row),
            "; ".join(starmap(absolute, row["beside"].items())),
        ]
        for row in measured
    ]
    return table(["", "ratio", "aimed at", "for orientation"], body)


def absolute(name: str, value: float) -> str:
    """An absolute value, with the unit at the end of its name."""
    what, _, unit = name.rpartition(", ")
    return f"{what} {figure(value)} {unit}"


def target_cell(row: Row) -> str:
    """The target of a row, or a dash when there is none."""
    value = target(row)
    return "–" if value is None else f"≥ {value:g}"


def target(row: Row) -> float | None:
    """The least ratio that a row aims at; None when there is no target."""
    identity = row["case"], row["measure"]
    return TARGETS.get(identity) if row["device"] == "cpu" else GPU_TARGETS.get(identity, TARGETS.get(identity))


def stages_table(row: Row) -> str:
    """The stages of a step, and the peaks of the machine they ran on."""
    body = [
        [
            stage["name"],
            spread(stage["ms"]),
            f"{stage['share']:.0%}",
            *(figure(stage[name]) for name in ("gflop", "mb", "floor_ms", "factor")),
        ]
        for stage in row["stages"]
    ]
    machine, total = row["machine"], sum(stage["ms"]["median"] for stage in row["stages"])
    times = row["step_ms"]["median"] / sum(stage["floor_ms"] for stage in row["stages"])
    about = (
        f"{row['case'].capitalize()}: {spread(row['step_ms'])} ms a step, {figure(times)} times the floors of its "
        f"stages; {figure(total)} ms the stages one by one. The machine reaches {machine['flops'] / 1e9:.0f} GFLOP/s "
        f"and {machine['bandwidth'] / 1e9:.0f} GB/s."
    )
    head = ["stage", "ms", "share", "GFLOP", "MB", "floor, ms", "time / floor"]
    return f"{about}\n\n{table(head, body)}"


def spread(values: dict[str, Any]) -> str:
    """Median, with the minimum and maximum in brackets."""
    return "{} ({}–{})".format(*(figure(values[name]) for name in ("median", "low", "high")))


def figure(value: float) -> str:
    """A number with three significant digits; from 100 on, as an integer."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
