"""Parts of a Markdown report: tables, and sections between markers that are filled in."""

import re
from collections.abc import Iterable, Sequence

from bench.shared.rows import Row


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A Markdown table; empty when there are no rows."""
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) if body else ""


def provenance(rows: Iterable[Row]) -> str:
    """A sentence that names the versions, commits and CPUs the rows were measured with."""
    environments = dict.fromkeys(
        "distill {distill} at {commit}, torch {torch}, {threads} of {cpus} CPUs".format(**row["made"]) for row in rows
    )
    return f"Measured with {'; '.join(environments)}."


def fill_section(text: str, name: str, body: str) -> str:
    """The text with `body` between the markers called `name`; raises `ValueError` when they are missing."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    section = re.compile(f"{begin}.*?{end}", re.DOTALL)
    if not section.search(text):
        raise ValueError(f"the page has no lines {begin} and {end}")
    return section.sub(lambda _: f"{begin}\n\n{body}\n\n{end}", text)
