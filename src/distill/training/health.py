"""Codebook health in words: when to warn of a level, and its verdict."""

from typing import Literal

from distill.notices import LevelUnderused
from distill.training.metrics import CodebookHealth

LOW_UTILIZATION = 0.30
_COLLAPSED_PERPLEXITY = 2.0

Verdict = Literal["healthy", "underused", "collapsed"]


def attainable(codebook_size: int, vectors: int) -> float:
    """The expected utilization when so many vectors choose codes independently, all codes being equally likely."""
    return float(1 - (1 - 1 / codebook_size) ** vectors)


def is_low(utilization: float, codebook_size: int, vectors: int) -> bool:
    """True if utilization is below 30 % of the attainable.

    A few vectors cannot choose all codes, so a small validation set alone never looks like a bad codebook.
    """
    return utilization < LOW_UTILIZATION * attainable(codebook_size, vectors)


def low_levels(health: CodebookHealth, codebook_size: int, vectors: int) -> list[LevelUnderused]:
    """A notice for each underused level, its health counted over `vectors` vectors."""
    return [
        LevelUnderused(number, level["utilization"])
        for number, level in enumerate(health.values())
        if is_low(level["utilization"], codebook_size, vectors)
    ]


def verdict(level: dict[str, float], codebook_size: int, vectors: int) -> Verdict:
    """The state of a level in a word: collapsed when nearly all vectors share one code, underused below 30 %.

    Where the number of vectors is unknown (0), it is taken to have been sufficient.
    """
    vectors = vectors or codebook_size
    # Perplexity is at most the number of vectors: a single one is no collapse.
    if level["perplexity"] < min(_COLLAPSED_PERPLEXITY, vectors):
        return "collapsed"
    return "underused" if is_low(level["utilization"], codebook_size, vectors) else "healthy"
