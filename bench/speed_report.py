"""From measured rows to `docs/speed.md`: the tables between its markers, and the picture beside it.

    bench/speed_report.py [--results FILE] [--page FILE]

The prose around the markers is written by hand and stays.
"""

import argparse
from pathlib import Path

import rows
from quality_report import filled
from rows import Row
from speed import RESULTS
from speed_picture import draw
from speed_tables import latest, speed_tables

PAGE = Path(__file__).parent.parent / "docs" / "speed.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=PAGE)
    args = parser.parse_args()
    report(args.page, rows.read(args.results))


def report(page: Path, measured: list[Row]) -> None:
    """Fill in the page, and draw its picture under the same name."""
    found = latest(measured)
    if not found:
        return
    picture = draw(page.with_suffix(".png"), found)
    shown = f"![Where a step's time goes, and how it compares with the reference]({picture.name})"
    page.write_text(filled(page.read_text("utf-8"), "speed", f"{shown}\n\n{speed_tables(found)}"), "utf-8")


if __name__ == "__main__":
    main()
