"""Frame rate of a run's page while events arrive."""

import json
import shutil
import threading
import time
from pathlib import Path

from filelock import FileLock
from playwright.sync_api import Page

_RATE = 20  # events per second
_LATE_MS = 34
_FRAME_GAPS = """async (seconds) => {
    const gaps = []; let before = performance.now(); const ends = before + 1000 * seconds;
    while (before < ends) {
        await new Promise(requestAnimationFrame);
        const now = performance.now(); gaps.push(now - before); before = now;
    }
    return gaps;
}"""


def measure_frames(page: Page, address: str, home: Path, seconds: float = 10) -> None:
    """Print the number of frames and of late ones, with 20 events per second and with none."""
    run = home / "runs" / "busy"
    shutil.copytree(next((home / "runs").glob("*/events.jsonl")).parent, run)
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"model_path": None}))
    with FileLock(run / ".lock"):
        page.goto(f"{address}#/runs/busy")
        page.get_by_test_id("level-panel").first.wait_for()
        page.wait_for_timeout(2000)
        idle = page.evaluate(_FRAME_GAPS, seconds)
        writer = threading.Thread(target=write_events, args=(run / "events.jsonl", seconds))
        writer.start()
        busy = page.evaluate(_FRAME_GAPS, seconds)
        writer.join()
        for case, gaps in ((f"{_RATE} events a second", busy), ("no events", idle)):
            late = sum(gap > _LATE_MS for gap in gaps)
            print(f"{case}: {len(gaps)} frames in {seconds:.0f} s, {late} of them late, the longest {max(gaps):.0f} ms")


def write_events(log: Path, seconds: float) -> None:
    """Append `_RATE` events per second to a log, copied from it; every twentieth is that of an epoch."""
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    step = next(entry for entry in entries if "step" in entry)
    *_, epoch = (entry for entry in entries if entry["event"] == "VQEpochMetrics")
    for number in range(1, round(_RATE * seconds) + 1):
        entry = epoch if number % 20 == 0 else step
        at = {"epoch": epoch["epoch"] + -(-number // 20)} | ({"step": number % 20} if "step" in entry else {})
        with log.open("a") as file:
            file.write(json.dumps(entry | at) + "\n")
        time.sleep(1 / _RATE)
