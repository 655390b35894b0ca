"""Fills in the tables of `docs/generation.md` from measured rows.

    python -m bench.generation.report [--results FILE] [--page FILE]

Only the text between the page's markers is replaced. With several seeds, a cell is their median, with the smallest and
the largest value in brackets.
"""

import argparse
import dataclasses
from pathlib import Path

from bench.generation.editing import STRENGTHS, Borders
from bench.quality.tables import cell
from bench.shared import rows
from bench.shared.markdown import fill_section, provenance, table
from bench.shared.rows import Key, Measured, Row

PAGE = Path(__file__).parents[2] / "docs" / "generation.md"


def main() -> None:
    """Fill in the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=rows.GENERATION)
    parser.add_argument("--page", type=Path, default=PAGE)
    args = parser.parse_args()
    measured = rows.by_seed(rows.read(args.results))
    if measured:
        text = fill_section(args.page.read_text("utf-8"), "generation", tables(measured))
        args.page.write_text(text, "utf-8")


def tables(measured: Measured) -> str:
    """A table of figures for each collection, then those of editing, bits and times for all."""
    names = dict.fromkeys(key.collection for key in measured)
    parts = [f"### {name}\n\n{_figures_table(measured, name)}" for name in names]
    made = [(key, seeds) for key, seeds in measured.items() if "variations" in seeds[-1]]
    parts += ["### Editing, bits and times", _editing_table(made), _times_table(made)]
    return "\n\n".join([*parts, provenance(row for seeds in measured.values() for row in seeds)])


def _figures_table(measured: Measured, collection: str) -> str:
    rows_of = [(key, seeds) for key, seeds in measured.items() if key.collection == collection]
    names = list(rows_of[0][1][-1]["figures"])
    body = [[_title(key), *(cell(seeds, "figures", name) for name in names)] for key, seeds in rows_of]
    return table(["", *(name.replace("_", " ") for name in names)], body)


def _editing_table(made: list[tuple[Key, list[Row]]]) -> str:
    joins = [field.name for field in dataclasses.fields(Borders)]
    variations = [f"vary {strength:g}" for strength in STRENGTHS]
    head = ["", *variations, "rising", "recognised", *(name.replace("_", " ") for name in joins)]
    body = [
        [
            f"{key.collection}, {_title(key)}",
            *(cell(seeds, "variations", "distances", number) for number in range(len(STRENGTHS))),
            *(cell(seeds, "variations", name) for name in ("rising", "recognised")),
            *(cell([row for row in _having(seeds, "borders") if name in row["borders"]], "borders", name)
              for name in joins),
        ]
        for key, seeds in made
    ]  # fmt: skip
    return table(head, body)


def _times_table(made: list[tuple[Key, list[Row]]]) -> str:
    head = ["", "bits per code", "from frequencies", "below", "first sound, s", "16 sounds, s", "× real time"]
    body = [
        [
            f"{key.collection}, {_title(key)}",
            *(cell(_having(seeds, "bits"), "bits", name) for name in ("code", "unigram", "below")),
            *(cell(seeds, "times", name) for name in ("first", "sixteen")),
            cell(seeds, "times", "real_time", form=".1f"),
        ]
        for key, seeds in made
    ]
    return table(head, body)


def _title(key: Key) -> str:
    return key.system if key.minutes is None else f"{key.system}, {key.minutes:g} min"


def _having(seeds: list[Row], part: str) -> list[Row]:
    return [row for row in seeds if row[part] is not None]


if __name__ == "__main__":
    main()
