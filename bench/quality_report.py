"""From measured rows to `docs/quality.md`: the tables between its markers, and the picture beside it.

    bench/quality_report.py [--quality FILE] [--ablation FILE] [--page FILE]

The prose around the markers is written by hand and stays. Where several seeds were measured, a cell is their median,
with the smallest and the largest value in brackets.
"""

import argparse
import re
from pathlib import Path

import rows
from quality_picture import draw
from quality_tables import ablation_table, quality_tables

PAGE = Path(__file__).parent.parent / "docs" / "quality.md"


def main() -> None:
    """Write the page's tables and its picture, as far as there is something measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quality", type=Path, default=rows.QUALITY)
    parser.add_argument("--ablation", type=Path, default=rows.ABLATION)
    parser.add_argument("--page", type=Path, default=PAGE)
    args = parser.parse_args()
    report(args.page, rows.by_seed(rows.read(args.quality)), rows.by_seed(rows.read(args.ablation)))


def report(page: Path, quality: rows.Measured, ablation: rows.Measured) -> None:
    """Fill in the page, and draw its picture under the same name."""
    text = page.read_text("utf-8")
    if quality:
        picture = draw(page.with_suffix(".png"), quality)
        shown = f"![Mel distance against kbit/s, for each collection]({picture.name})"
        text = filled(text, "quality", f"{shown}\n\n{quality_tables(quality)}")
    if ablation:
        text = filled(text, "ablation", ablation_table(ablation))
    page.write_text(text, "utf-8")


def filled(text: str, name: str, body: str) -> str:
    """The text with `body` between the markers of that name; raises `ValueError` when it has none."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    marked = re.compile(f"{begin}.*?{end}", re.DOTALL)
    if not marked.search(text):
        raise ValueError(f"the page has no lines {begin} and {end}")
    return marked.sub(lambda _: f"{begin}\n\n{body}\n\n{end}", text)


if __name__ == "__main__":
    main()
