"""The tables of `docs/quality.md`, in Markdown."""

import math
import statistics
from collections.abc import Iterator
from functools import reduce
from itertools import chain

from bench.quality.anchors import FIRST_PLAN, INVERSION, OPUS
from bench.quality.models import FIRST_VERSION, SYSTEMS
from bench.quality.variants import DEFAULT
from bench.shared.markdown import provenance, table
from bench.shared.rows import Key, Measured, Row, sorted_values
from distill.training.config import LEVEL_NAMES

DISTILL, VAE = SYSTEMS["vqvae"], SYSTEMS["vae"]

_RATES = {"fully_coded": "without a pause", "nominal": "test files", "entropy_coded": "test files, entropy-coded"}
_USAGE = {"utilization": ".0%", "perplexity": ".1f", "perplexity_share": ".0%", "efficiency": ".0%"}
_ARTEFACTS = {
    "loud": "Error of what is loud, dB",
    "texture": "Texture, 1 is right",
    "flutter": "Flutter, 1 is right",
    "attack": "Attack, 1 is right",
    "pre_echo": "Pre-echo, dB",
    "level": "Level, dB",
    "tone": "Tone, dB",
}
_SOON: dict[str, tuple[str, ...]] = {
    "distance": ("mel",),
    **{name: ("artefacts", name) for name in ("loud", "texture", "flutter", "attack")},
}
_AROUND_ONE = ("texture", "flutter", "attack")
_TOLERANCE = 0.1
_NOT_MEASURED = "–"
_SAMPLES = ("sample_to_train", "sample_to_sample", "train_to_train", "quietest_sample")
_RUN = ["collection", "minutes"]


def quality_tables(measured: Measured) -> str:
    """All tables that have rows, each under a heading, and the provenance of the rows."""
    parts = {
        "Mel distance, median over the test files": systems_table(measured, "mel"),
        "Mel distance, mean": systems_table(measured, "mel_mean"),
        **{f"{title}, median": systems_table(measured, "artefacts", name) for name, title in _ARTEFACTS.items()},
        "STFT distance, median": systems_table(measured, "stft"),
        "STFT distance, mean": systems_table(measured, "stft_mean"),
        "How soon it is as good as it gets, medians": soon_table(measured),
        "All figures with the first levels alone, medians": levels_table(measured),
        "Bit rate, kbit/s": rates_table(measured),
        "What Opus took, kbit/s": opus_table(measured),
        "How the codes are used: test files · files trained on": codes_table(measured),
        "What the search for phases costs: mel distance": phase_table(measured),
        "The runs": runs_table(measured),
        "What the continuous family draws": samples_table(measured),
    }
    sections = [f"### {heading}\n\n{lines}" for heading, lines in parts.items() if lines]
    return "\n\n".join([*sections, provenance(chain(*measured.values()))])


def ablation_table(measured: Measured) -> str:
    """The mel distance of the default, and the change of each variant (rows) from it, on each collection (columns)."""
    columns = sorted({(key.collection, key.minutes) for key in measured})
    variants = dict.fromkeys(key.system for key in measured if key.system != DEFAULT.name)
    defaults = [measured.get(Key(name, DEFAULT.name, minutes)) for name, minutes in columns]
    body = [[DEFAULT.name, *(cell(seeds, "distances", "mel") for seeds in defaults)]]
    for variant in variants:
        seeds = [measured.get(Key(name, variant, minutes)) for name, minutes in columns]
        body.append([variant, *map(change, seeds, defaults)])
    head = ["variant", *(f"{name}, {minutes:g} min" for name, minutes in columns)]
    return f"{table(head, body)}\n\n{provenance(chain(*measured.values()))}"


def change(seeds: list[Row] | None, defaults: list[Row] | None) -> str:
    """Change of the mel distance from the default with the same seed: the median and the range over the seeds."""
    before = {row["seed"]: row["distances"]["mel"] for row in defaults or ()}
    values = sorted(row["distances"]["mel"] / before[row["seed"]] - 1 for row in seeds or () if row["seed"] in before)
    if not values:
        return _NOT_MEASURED
    middle = f"{statistics.median(values):+.0%}"
    return middle if len(values) == 1 else f"{middle} ({values[0]:+.0%} to {values[-1]:+.0%})"


def cell(seeds: list[Row] | None, *path: str | int, form: str = ".2f") -> str:
    """Median of a value over the seeds, with the range when they differ; a dash when there are none."""
    if not seeds:
        return _NOT_MEASURED
    values = sorted_values(seeds, *path)
    low, middle, high = (format(value, form) for value in (values[0], statistics.median(values), values[-1]))
    return middle if low == high else f"{middle} ({low}–{high})"


def collections(measured: Measured) -> dict[str, str]:
    """Headings of the collections by name, with the number and length of the held-out files."""
    last = {key.collection: seeds[-1] for key, seeds in measured.items()}
    return {name: f"{name} ({row['files']} files, {row['seconds']:.0f} s)" for name, row in sorted(last.items())}


def runs_of(measured: Measured, system: str) -> Iterator[tuple[list[str], list[Row]]]:
    """The runs of a system: the first cells of the row for a run, and its seeds."""
    keys = sorted((key.collection, key.minutes or 0) for key in measured if key.system == system)
    return (([name, f"{minutes:g}"], measured[Key(name, system, minutes)]) for name, minutes in keys)


def systems_table(measured: Measured, *distance: str) -> str:
    """A distance for each system (rows) and collection (columns)."""
    order = [DISTILL, FIRST_VERSION, VAE, FIRST_PLAN, *OPUS.values(), INVERSION]
    systems = sorted({(order.index(key.system), key.minutes or 0.0) for key in measured})
    names = collections(measured)

    def of(system: str, minutes: float) -> Iterator[list[Row] | None]:
        return (measured.get(Key(name, system, minutes or None)) for name in names)

    body = [
        [
            f"{order[place]}, {minutes:g} min" if minutes else order[place],
            *(cell(with_figure(rows, *distance), "distances", *distance) for rows in of(order[place], minutes)),
        ]
        for place, minutes in systems
    ]
    return table(["", *names.values()], [line for line in body if set(line[1:]) != {_NOT_MEASURED}])


def with_figure(seeds: list[Row] | None, *path: str) -> list[Row]:
    """The rows that have this figure among their distances: sounds without an onset have no attack."""
    return [row for row in seeds or () if reduce(lambda found, step: found.get(step, {}), path, row["distances"]) != {}]


def soon_table(measured: Measured) -> str:
    """The figures of shorter runs beside those of the longest, where there are several; the time is that asked for."""
    runs: dict[str, dict[float, list[Row]]] = {}
    for key, seeds in measured.items():
        if key.system == DISTILL and key.minutes is not None:
            runs.setdefault(key.collection, {})[key.minutes] = seeds
    body = [
        [
            name,
            f"{60 * minutes:.0f}",
            *(cell(with_figure(of[minutes], *path), "distances", *path) for path in _SOON.values()),
            "the longest" if minutes == max(of) else lacking(of[minutes], of[max(of)]),
        ]
        for name, of in sorted(runs.items())
        if len(of) > 1
        for minutes in sorted(of)
    ]
    return table(["collection", "seconds", *_SOON, "more than 10 % worse"], body)


def lacking(seeds: list[Row], longest: list[Row]) -> str:
    """The figures in which runs are more than 10 % worse than longer ones; of what should be 1, a further 0.1 off."""
    found = []
    for name, path in _SOON.items():
        ours, theirs = (sorted_values(with_figure(rows, *path), "distances", *path) for rows in (seeds, longest))
        if ours and theirs and _fault(name, ours) > _TOLERANCE + _fault(name, theirs):
            found.append(name)
    return ", ".join(found) or "none"


def _fault(name: str, values: list[float]) -> float:
    """How bad a figure is: 0.1 more of it is 10 % worse."""
    middle = statistics.median(values)
    return abs(middle - 1) if name in _AROUND_ONE else math.log(middle)


def levels_table(measured: Measured) -> str:
    """Every figure against the bit rate without a pause, which each level adds its share to."""
    body = [
        [
            *run,
            f"1–{level + 1}" if level else "1",
            f"{seeds[0]['rates']['fully_coded'] * (level + 1) / len(seeds[0]['by_levels']):.1f}",
            cell(seeds, "by_levels", level, "mel"),
            *(cell(_showing(seeds, level, name), "by_levels", level, "artefacts", name) for name in _ARTEFACTS),
        ]
        for run, seeds in runs_of(measured, DISTILL)
        for level in range(len(seeds[0]["by_levels"]))
    ]
    names = (name.replace("_", "-") for name in _ARTEFACTS)
    return table([*_RUN, "levels", "kbit/s", "distance", *names], body)


def _showing(seeds: list[Row], level: int, name: str) -> list[Row]:
    return [row for row in seeds if name in row["by_levels"][level]["artefacts"]]


def rates_table(measured: Measured) -> str:
    """Bit rates of the codes."""
    body = [[*run, *(cell(seeds, "rates", rate) for rate in _RATES)] for run, seeds in runs_of(measured, DISTILL)]
    return table([*_RUN, *_RATES.values()], body)


def opus_table(measured: Measured) -> str:
    """Bit rates that Opus really used."""
    names = sorted({key.collection for key in measured if key.system in OPUS.values()})
    taken = {name: [measured.get(Key(name, system, None)) for system in OPUS.values()] for name in names}
    body = [[name, *(cell(seeds, "kbits") for seeds in rates)] for name, rates in taken.items()]
    return table(["collection", *OPUS.values()], body)


def codes_table(measured: Measured) -> str:
    """Codebook usage of each level after the longest training, on the test files and the training files."""
    longest = {run[0]: (run, seeds) for run, seeds in runs_of(measured, DISTILL)}
    body = [
        [
            *run,
            LEVEL_NAMES[level],
            *(
                " · ".join(cell(seeds, "codes", files, level, figure, form=form) for files in ("test", "train"))
                for figure, form in _USAGE.items()
            ),
        ]
        for run, seeds in longest.values()
        for level in range(len(seeds[0]["by_levels"]))
    ]
    return table([*_RUN, "level", "utilization", "perplexity", "perplexity / K", "bit-rate efficiency"], body)


def phase_table(measured: Measured) -> str:
    """Distances with reconstructed and with true phases, for the model's mels and for the originals' mels."""
    body = [
        [
            *run,
            *(cell(these, part, "mel") for these in (seeds, measured.get(Key(run[0], INVERSION, None)))
              for part in ("distances", "true_phase")),
        ]
        for run, seeds in runs_of(measured, DISTILL)
    ]  # fmt: skip
    own, true = "reconstructed mel", "original's mel"
    return table([*_RUN, own, f"{own}, true phase", true, f"{true}, true phase"], body)


def runs_table(measured: Measured) -> str:
    """Length and warnings of the training runs."""
    body = [
        [
            system,
            *run,
            *(cell(seeds, "run", figure, form=".0f") for figure in ("epochs", "kept", "steps", "elapsed")),
            warnings(seeds),
        ]
        for system in (DISTILL, VAE)
        for run, seeds in runs_of(measured, system)
    ]
    return table(["system", *_RUN, "epochs", "kept", "steps", "seconds", "warnings"], body)


def warnings(seeds: list[Row]) -> str:
    """Number of warnings of each kind, over all seeds."""
    kinds = sorted({kind for row in seeds for kind in row["run"]["warnings"]})
    counts = (f"{sum(row['run']['warnings'].get(kind, 0) for row in seeds)} {kind}" for kind in kinds)
    return ", ".join(counts) or "none"


def samples_table(measured: Measured) -> str:
    """Distances of a VAE's samples, in mel units."""
    body = [[*run, *(cell(seeds, "samples", figure) for figure in _SAMPLES)] for run, seeds in runs_of(measured, VAE)]
    return table([*_RUN, *(name.replace("_", " ") for name in _SAMPLES)], body)
