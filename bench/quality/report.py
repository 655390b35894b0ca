"""Fills in the tables and draws the pictures of `docs/quality.md` from measured rows.

    python -m bench.quality.report [--quality FILE] [--ablation FILE] [--page FILE]

Only the text between the page's markers is replaced. With several seeds, a cell is their median, with the smallest and
the largest value in brackets.
"""

import argparse
from pathlib import Path

from bench.quality.picture import draw, draw_soon
from bench.quality.tables import ablation_table, quality_tables
from bench.shared import rows
from bench.shared.markdown import fill_section

PAGE = Path(__file__).parents[2] / "docs" / "quality.md"


def main() -> None:
    """Fill in every section that has measured rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quality", type=Path, default=rows.QUALITY)
    parser.add_argument("--ablation", type=Path, default=rows.ABLATION)
    parser.add_argument("--page", type=Path, default=PAGE)
    args = parser.parse_args()
    report(args.page, rows.by_seed(rows.read(args.quality)), rows.by_seed(rows.read(args.ablation)))


def report(page: Path, quality: rows.Measured, ablation: rows.Measured) -> None:
    """Fill in the page, and draw its pictures beside it, whose names begin as the page's does."""
    text = page.read_text("utf-8")
    if quality:
        pictures = {
            "Mel distance against kbit/s": draw(page.with_suffix(".png"), quality),
            "Mel distance against seconds of training": draw_soon(page.with_name(f"{page.stem}-seconds.png"), quality),
        }
        images = [f"![{what}, for each collection]({picture.name})" for what, picture in pictures.items() if picture]
        text = fill_section(text, "quality", "\n\n".join([*images, quality_tables(quality)]))
    if ablation:
        text = fill_section(text, "ablation", ablation_table(ablation))
    page.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
