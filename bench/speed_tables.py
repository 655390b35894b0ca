"""The tables of `docs/speed.md`, in Markdown."""

from collections.abc import Iterable
from itertools import starmap
from typing import Any

from quality_tables import made, table
from rows import Key, Row

PARTS = {
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

# What a median is to reach at least, by case and measure; on a GPU, `ON_A_GPU` instead, where there is something in it.
TARGETS: dict[tuple[str, str], float] = {
    ("batch 32, 3 x 256 codes", "times the reference's audio per second"): 3.0,
    ("12 epochs of the preset, from the second on", "times the reference's audio per second"): 3.0,
    ("1,536 vectors x 128, 3 x 256 codes", "times as fast as vector-quantize-pytorch"): 3.0,
    ("reconstructing 10 s", "times as fast as it plays"): 20.0,
    ("reconstructing 60 s", "times as fast as it plays"): 20.0,
    ("600 files of a minute, to the first step", "times as fast as it plays"): 3600.0,  # within ten seconds
}
ON_A_GPU: dict[tuple[str, str], float] = {
    ("batch 32, 3 x 256 codes", "times the reference's audio per second"): 5.0,
}


def latest(measured: list[Row]) -> list[Row]:
    """Of each thing measured, on each device and collection, the row that came last."""
    identity = ("device", "part", "case", "measure", "collection")
    return list({tuple(row.get(name) for name in identity): row for row in measured}.values())


def speed_tables(measured: list[Row]) -> str:
    """All tables, device by device and part by part, and what they were measured with."""
    parts = []
    for device in dict.fromkeys(row["device"] for row in measured):
        here = [row for row in measured if row["device"] == device]
        for part, heading in PARTS.items():
            these = [row for row in here if row["part"] == part]
            bodies = [*map(stages_table, of_stages(these)), ratios_table(row for row in these if "ratio" in row)]
            if found := [body for body in bodies if body]:
                parts.append("\n\n".join([f"### {heading}, {device}", *found]))
    return "\n\n".join([*parts, made({Key("", "", None): measured})])


def of_stages(measured: Iterable[Row]) -> list[Row]:
    """The rows that have a step cut into stages."""
    return [row for row in measured if "stages" in row]


def ratios_table(measured: Iterable[Row]) -> str:
    """Ratios with their spread, what is aimed at, and the bare figures beside them."""
    body = [
        [
            " · ".join(filter(None, [row["case"], row.get("collection")])),
            f"{spread(row['ratio'])} {row['measure']}",
            aim(row),
            "; ".join(starmap(bare, row["beside"].items())),
        ]
        for row in measured
    ]
    return table(["", "ratio", "aimed at", "for orientation"], body)


def bare(name: str, value: float) -> str:
    """A figure beside a ratio, by a name that ends in its unit."""
    what, _, unit = name.rpartition(", ")
    return f"{what} {figure(value)} {unit}"


def aim(row: Row) -> str:
    """The target of a row, with a dash where there is none."""
    aimed = target(row)
    return "–" if aimed is None else f"≥ {aimed:g}"


def target(row: Row) -> float | None:
    """What a row is to reach at least; None where nothing was said."""
    identity = row["case"], row["measure"]
    return TARGETS.get(identity) if row["device"] == "cpu" else ON_A_GPU.get(identity, TARGETS.get(identity))


def stages_table(row: Row) -> str:
    """The stages of one step, and the machine they ran on."""
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


def spread(found: dict[str, Any]) -> str:
    """Median, and the smallest and largest in brackets."""
    return "{} ({}–{})".format(*(figure(found[name]) for name in ("median", "low", "high")))


def figure(value: float) -> str:
    """Three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
