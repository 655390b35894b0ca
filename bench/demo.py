"""Runs `make demo`: synthesise a small collection, train on it, and say where to look and listen."""

import os
import subprocess
import sys
from pathlib import Path

from distill.data.demo import write_demo_collection

DEMO = Path("demo")
MINUTES = os.environ.get("DEMO_MINUTES", "1.2")


def main() -> int:
    """Run the demo in the folder `demo`; each training has a run folder of its own."""
    sounds = write_demo_collection(DEMO / "sounds")
    print(f"{len(sounds)} sounds in {DEMO / 'sounds'}, in plucks, drums, pads and noises")
    run = DEMO / "run"
    number = 1
    while run.exists():
        number += 1
        run = DEMO / f"run-{number}"
    return subprocess.call(
        [
            *(sys.executable, "-m", "distill", "train", str(DEMO / "sounds"), "--model-name", "demo"),
            *("--minutes", MINUTES, "--models-dir", str(DEMO / "models"), "--output-dir", str(run)),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
