"""Fills in the tables and draws the picture of `docs/speed.md` from measured rows.

    python -m bench.speed.report [--results FILE] [--page FILE]

Only the text between the page's markers is replaced.
"""

import argparse
from pathlib import Path

from bench.shared import rows
from bench.shared.markdown import fill_section
from bench.shared.rows import Row
from bench.speed.picture import draw
from bench.speed.tables import latest, speed_tables

PAGE = Path(__file__).parents[2] / "docs" / "speed.md"


def main() -> None:
    """Fill in the page, when there are measured rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=rows.SPEED)
    parser.add_argument("--page", type=Path, default=PAGE)
    args = parser.parse_args()
    report(args.page, rows.read(args.results))


def report(page: Path, measured: list[Row]) -> None:
    """Fill in the page, and draw its picture under the same name with the suffix .png."""
    current = latest(measured)
    if not current:
        return
    picture = draw(page.with_suffix(".png"), current)
    image = f"![Where a step's time goes, and how it compares with the reference]({picture.name})"
    text = fill_section(page.read_text("utf-8"), "speed", f"{image}\n\n{speed_tables(current)}")
    page.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
