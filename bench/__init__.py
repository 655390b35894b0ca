"""The measurements behind the documents, and the scripts for the demo, the screenshots and a check of training.

Every script runs from the repository root as a module:

    python -m bench.quality             how good reconstructions are; bench.quality.ablation, what each choice is worth
    python -m bench.quality.report      the tables and the picture of docs/quality.md
    python -m bench.speed               how fast training and use are
    python -m bench.speed.report        the tables and the picture of docs/speed.md
    python -m bench.page                what the page of `distill web` costs
    python -m bench.screenshots         the screenshots in README and docs
    python -m bench.digests             digests of small trainings, to compare before and after a change
    python -m bench.demo                what `make demo` does

Measured rows are kept in `results/`, one JSON-lines file for each kind.
"""
