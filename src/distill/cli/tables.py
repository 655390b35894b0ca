"""Tables that several commands show."""

from rich.table import Table

from distill.training.config import LEVEL_NAMES
from distill.training.health import Verdict, verdict
from distill.training.metrics import CodebookHealth

_STYLES: dict[Verdict, str] = {"healthy": "green", "underused": "yellow", "collapsed": "red"}
_BAR = 12


def level_table(health: CodebookHealth, codebook_size: int, vectors: int) -> Table:
    """A table with a row for each level, and below it the number of `vectors` they are based on, 0 if unknown."""
    table = Table("level", "utilization", "", "perplexity", "dead codes", "state", box=None, header_style="bold")
    for number, level in enumerate(health.values()):
        state = verdict(level, codebook_size, vectors)
        filled = round(level["utilization"] * _BAR)
        table.add_row(
            f"{number} {LEVEL_NAMES[number] if number < len(LEVEL_NAMES) else ''}",
            f"{level['utilization']:>4.0%}",
            "█" * filled + "░" * (_BAR - filled),
            f"{level['perplexity']:.1f} of {codebook_size}",
            f"{level['dead_codes']:.0f}",
            f"[{_STYLES[state]}]{state}[/]",
        )
    if vectors:
        table.caption = counted_over(codebook_size, vectors)
        table.caption_justify = "left"
    return table


def counted_over(codebook_size: int, vectors: int) -> str:
    """A sentence on the number of vectors behind the health figures, which limits the utilization they can show."""
    words = f"counted over {vectors} vectors of the validation files"
    if vectors < codebook_size:
        words += f"; with {codebook_size} codes, utilization cannot exceed {vectors / codebook_size:.0%}"
    return words
