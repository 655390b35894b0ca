"""Measures the page of `distill web`: its loading, the grid of codes, its cost to a training, and its frame rate.

    python -m bench.page [--rounds 25] [--seconds 12]

The browser is a headless Chromium, which draws on the same CPU cores that train. Takes about half an hour.
"""

import argparse
import tempfile
from pathlib import Path

from bench.page.frames import measure_frames
from bench.page.loading import measure_grid, measure_loading
from bench.page.training_cost import measure_training_cost
from bench.shared.browser import chromium, demo_sounds, open_collection, web_app

_WAIT_MS = 600_000


def main() -> None:
    """Print all measurements, taken one after the other in one browser."""
    parser = argparse.ArgumentParser(
        "python -m bench.page", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=25, help="at least 2")
    parser.add_argument("--seconds", type=float, default=12.0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, chromium() as browser:
        home = Path(name, "home")
        with web_app(home) as address:
            measure_loading(browser, address)
            page = browser.new_page()
            page.set_default_timeout(_WAIT_MS)
            page.goto(address)
            measure_grid(page)
            open_collection(page, demo_sounds(Path(name)))
            measure_training_cost(page, home, args.rounds, args.seconds)
            measure_frames(page, address, home)


if __name__ == "__main__":
    main()
