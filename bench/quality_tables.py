"""The tables of `docs/quality.md`, in Markdown."""

import statistics
from collections.abc import Iterator, Sequence

from anchors import FIRST_PLAN, INVERSION, OPUS
from distill.training.config import LEVEL_NAMES
from quality import SYSTEMS
from rows import Key, Measured, Row, figures
from variants import DEFAULT

DISTILL, VAE = SYSTEMS["vqvae"], SYSTEMS["vae"]

_RATES = {"fully_coded": "without a pause", "nominal": "test files", "entropy_coded": "test files, entropy-coded"}
_USE = {"utilization": ".0%", "perplexity": ".1f", "perplexity_share": ".0%", "efficiency": ".0%"}
_SAMPLES = ("sample_to_train", "sample_to_sample", "train_to_train", "quietest_sample")
_RUN = ["collection", "minutes"]


def quality_tables(measured: Measured) -> str:
    """All tables of what was measured, each under a heading, and what it was measured with."""
    parts = {
        "Mel distance, median over the test files": systems_table(measured, "mel"),
        "Mel distance, mean": systems_table(measured, "mel_mean"),
        "STFT distance, median": systems_table(measured, "stft"),
        "STFT distance, mean": systems_table(measured, "stft_mean"),
        "Mel distance with the first levels alone": levels_table(measured),
        "Bit rate, kbit/s": rates_table(measured),
        "What Opus took, kbit/s": opus_table(measured),
        "How the codes are used: test files · files trained on": codes_table(measured),
        "What the search for phases costs: mel distance": phase_table(measured),
        "The runs": runs_table(measured),
        "What the continuous family draws": samples_table(measured),
    }
    return "\n\n".join([*(f"### {heading}\n\n{lines}" for heading, lines in parts.items() if lines), made(measured)])


def ablation_table(measured: Measured) -> str:
    """The default's median mel distance on each collection (columns), and how much further each variant (rows) is."""
    columns = sorted({(key.collection, key.minutes) for key in measured})
    variants = dict.fromkeys(key.system for key in measured if key.system != DEFAULT.name)
    usual = [measured.get(Key(name, DEFAULT.name, minutes)) for name, minutes in columns]
    body = [[DEFAULT.name, *(cell(seeds, "distances", "mel") for seeds in usual)]]
    for variant in variants:
        seeds = [measured.get(Key(name, variant, minutes)) for name, minutes in columns]
        body.append([variant, *map(change, seeds, usual)])
    head = ["variant", *(f"{name}, {minutes:g} min" for name, minutes in columns)]
    return f"{table(head, body)}\n\n{made(measured)}"


def change(seeds: list[Row] | None, usual: list[Row] | None) -> str:
    """How much further a variant is than the default with the same seed: the median, and the range over the seeds."""
    before = {row["seed"]: row["distances"]["mel"] for row in usual or ()}
    values = sorted(row["distances"]["mel"] / before[row["seed"]] - 1 for row in seeds or () if row["seed"] in before)
    if not values:
        return "–"
    middle = f"{statistics.median(values):+.0%}"
    return middle if len(values) == 1 else f"{middle} ({values[0]:+.0%} to {values[-1]:+.0%})"


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A Markdown table; nothing at all without rows."""
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) if body else ""


def cell(seeds: list[Row] | None, *path: str | int, form: str = ".2f") -> str:
    """The median of a figure over the seeds, and its range where they differ; a dash where it is not there."""
    if not seeds:
        return "–"
    values = figures(seeds, *path)
    low, middle, high = (format(value, form) for value in (values[0], statistics.median(values), values[-1]))
    return middle if low == high else f"{middle} ({low}–{high})"


def collections(measured: Measured) -> dict[str, str]:
    """The collections by name, with how much of them was held out."""
    last = {key.collection: seeds[-1] for key, seeds in measured.items()}
    return {name: f"{name} ({row['files']} files, {row['seconds']:.0f} s)" for name, row in sorted(last.items())}


def runs_of(measured: Measured, system: str) -> Iterator[tuple[list[str], list[Row]]]:
    """What was trained of one system: the first cells of a run's line, and its seeds."""
    keys = sorted((key.collection, key.minutes or 0) for key in measured if key.system == system)
    return (([name, f"{minutes:g}"], measured[Key(name, system, minutes)]) for name, minutes in keys)


def systems_table(measured: Measured, distance: str) -> str:
    """A distance of each system (rows) on each collection (columns)."""
    order = [DISTILL, VAE, FIRST_PLAN, *OPUS.values(), INVERSION]
    systems = sorted({(order.index(key.system), key.minutes or 0.0) for key in measured})
    names = collections(measured)
    body = [
        [
            f"{order[place]}, {minutes:g} min" if minutes else order[place],
            *(cell(measured.get(Key(name, order[place], minutes or None)), "distances", distance) for name in names),
        ]
        for place, minutes in systems
    ]
    return table(["", *names.values()], body)


def levels_table(measured: Measured) -> str:
    """How the distance falls with every level."""
    runs = list(runs_of(measured, DISTILL))
    most = max((len(row["mel_by_levels"]) for _, seeds in runs for row in seeds), default=0)
    body = [
        [
            *run,
            *(cell([row for row in seeds if n < len(row["mel_by_levels"])], "mel_by_levels", n) for n in range(most)),
            "yes" if all(row["falls"] for row in seeds) else "no",
        ]
        for run, seeds in runs
    ]
    return table([*_RUN, *(f"1–{n + 1}" if n else "1" for n in range(most)), "falls with each"], body)


def rates_table(measured: Measured) -> str:
    """What the codes cost."""
    body = [[*run, *(cell(seeds, "rates", rate) for rate in _RATES)] for run, seeds in runs_of(measured, DISTILL)]
    return table([*_RUN, *_RATES.values()], body)


def opus_table(measured: Measured) -> str:
    """What Opus made of the rates it was asked for."""
    names = sorted({key.collection for key in measured if key.system in OPUS.values()})
    taken = {name: [measured.get(Key(name, system, None)) for system in OPUS.values()] for name in names}
    body = [[name, *(cell(seeds, "kbits") for seeds in rates)] for name, rates in taken.items()]
    return table(["collection", *OPUS.values()], body)


def codes_table(measured: Measured) -> str:
    """Use of the codebook of each level after the longest training, on the files held out and on those trained on."""
    longest = {run[0]: (run, seeds) for run, seeds in runs_of(measured, DISTILL)}
    body = [
        [
            *run,
            LEVEL_NAMES[level],
            *(
                " · ".join(cell(seeds, "codes", files, level, figure, form=form) for files in ("test", "train"))
                for figure, form in _USE.items()
            ),
        ]
        for run, seeds in longest.values()
        for level in range(len(seeds[0]["mel_by_levels"]))
    ]
    return table([*_RUN, "level", "utilization", "perplexity", "perplexity / K", "bit-rate efficiency"], body)


def phase_table(measured: Measured) -> str:
    """Distances with the phases found and with the true ones, of our mels and of the originals' own."""
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
    """How the trainings went."""
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
    """How many warnings of which kind all seeds together ended with."""
    kinds = sorted({kind for row in seeds for kind in row["run"]["warnings"]})
    counts = (f"{sum(row['run']['warnings'].get(kind, 0) for row in seeds)} {kind}" for kind in kinds)
    return ", ".join(counts) or "none"


def samples_table(measured: Measured) -> str:
    """What a VAE draws, in mel units."""
    body = [[*run, *(cell(seeds, "samples", figure) for figure in _SAMPLES)] for run, seeds in runs_of(measured, VAE)]
    return table([*_RUN, *(name.replace("_", " ") for name in _SAMPLES)], body)


def made(measured: Measured) -> str:
    """With what it was all measured."""
    ways = dict.fromkeys(
        "distill {distill} at {commit}, torch {torch}, {threads} of {cpus} CPUs".format(**row["made"])
        for seeds in measured.values()
        for row in seeds
    )
    return f"Measured with {'; '.join(ways)}."
