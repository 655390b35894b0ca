#!/usr/bin/env python3
"""Split a folder of sounds for measuring: split.py FOLDER OUT makes OUT/train and OUT/test.

Files sorted by relative path; every fifth goes to test. Unreadable and silent files (peak below 1e-3) and files
shorter than 0.05 s are left out of test, not of train. Test files are renamed 000.ext, 001.ext, … so that stems
are unique.
"""

import shutil
import sys
from pathlib import Path

import numpy as np
import soundfile


def fit_for_test(path: Path) -> bool:
    try:
        audio, rate = soundfile.read(path)
    except (soundfile.SoundFileError, RuntimeError):
        return False
    return len(audio) >= 0.05 * rate and bool(np.isfinite(audio).all()) and np.abs(audio).max() >= 1e-3


source, target = Path(sys.argv[1]), Path(sys.argv[2])
files = [p for p in sorted(source.rglob("*")) if p.is_file()]
for name in ("train", "test"):
    (target / name).mkdir(parents=True, exist_ok=True)
held = 0
for i, path in enumerate(files):
    if i % 5 == 4 and fit_for_test(path):
        shutil.copy(path, target / "test" / f"{held:03d}{path.suffix}")
        held += 1
    elif i % 5 != 4:
        copy = target / "train" / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
print(f"train {len(files) - len(files) // 5}  test {held}")
