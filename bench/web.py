"""Figures of the web app: the first page, 20 events a second, training with a page open, and a grid of codes.

    bench/web.py [--pairs 8] [--seconds 8]

All in one run on one machine, in a Chromium without a screen, which draws with the same cores that train.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil
from filelock import FileLock
from playwright.sync_api import Browser, Page

from browser import chromium, demo_sounds, open_collection, start_run, web_app
from distill.training.metrics import VQStepMetrics
from distill.training.run_folder import RunFolder

_WAIT_MS = 600_000
_NOTE_READY = """new MutationObserver((_, observer) => {
    if (!document.querySelector("[data-testid=drop-zone]")) return;
    window.readyAt = performance.now();
    observer.disconnect();
}).observe(document, { childList: true, subtree: true });"""
_FRAMES = """async (seconds) => {
    const gaps = []; let before = performance.now(); const ends = before + 1000 * seconds;
    while (before < ends) {
        await new Promise(requestAnimationFrame);
        const now = performance.now(); gaps.push(now - before); before = now;
    }
    return gaps;
}"""
_GRID = """async () => {
    const { codeGrid } = await import("/static/grid.js");
    const codes = Array.from({ length: 3 }, (_, level) => Array.from({ length: 8 }, (_, row) =>
        Array.from({ length: 36 }, (_, column) => (level * 97 + row * 31 + column * 17) % 600)));
    const nothing = { levelNames: ["a", "b", "c"], describe: () => "", onActivate: () => {} };
    const times = [];
    for (let turn = 0; turn < 20; turn += 1) {
        const begun = performance.now();
        const grid = codeGrid({ codes, codebookSize: 600, ...nothing });
        document.querySelector("main").append(grid.node);
        grid.node.scrollIntoView();
        grid.setCodes(codes);
        const canvas = grid.node.querySelector("canvas");
        const shown = () => canvas.width && canvas.getContext("2d").getImageData(2, 2, 1, 1).data[3] === 255;
        while (!shown()) await new Promise(requestAnimationFrame);
        times.push(performance.now() - begun);
        grid.node.remove();
    }
    return times;
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=8.0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, chromium() as browser:
        home = Path(name, "home")
        with web_app(home) as address:
            first_page(browser, address)
            page = browser.new_page()
            page.set_default_timeout(_WAIT_MS)
            page.goto(address)
            times = page.evaluate(_GRID)
            print(f"a grid of 864 codes on the screen: {statistics.median(times):.0f} ms, at most {max(times):.0f} ms")
            open_collection(page, demo_sounds(Path(name)))
            with_and_without(page, home, args.pairs, args.seconds)
            busy_log(page, address, home)


def first_page(browser: Browser, address: str) -> None:
    """How soon a page that was never opened before is painted and can be used, and how much was sent for it."""
    painted, ready, sizes = [], [], []
    for _ in range(5):
        page = browser.new_context().new_page()
        page.add_init_script(_NOTE_READY)  # by the page's own clock, without the way to this process
        page.goto(address)
        page.get_by_test_id("drop-zone").wait_for()
        ready.append(page.evaluate("window.readyAt"))
        painted.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
        sizes.append(
            page.evaluate("performance.getEntries().reduce((sum, entry) => sum + (entry.transferSize || 0), 0)")
        )
        page.context.close()
    print(
        f"first page: painted after {statistics.median(painted):.0f} ms, ready after {statistics.median(ready):.0f} ms "
        f"(medians of {len(ready)}); {max(sizes) / 1000:.0f} kB"
    )


def with_and_without(page: Page, home: Path, pairs: int, seconds: float) -> None:
    """One training whose page is opened and closed by turns; by how much more it gets done while it is closed."""
    form = page.url
    run = RunFolder(home / "runs" / start_run(page, epochs=100_000))
    shown, ratios = page.url, []
    while not steps_of(run):
        page.wait_for_timeout(500)
    for pair in range(pairs):
        rates: dict[bool, float] = {}
        for watched in (True, False) if pair % 2 else (False, True):
            page.goto(shown if watched else "about:blank")
            page.wait_for_timeout(5000)  # until all of it is there
            before, began = steps_of(run), time.monotonic()
            page.wait_for_timeout(1000 * seconds)
            rates[watched] = (steps_of(run) - before) / (time.monotonic() - began)
        ratios.append(rates[False] / rates[True])
    listed = ", ".join(f"{ratio:.3f}" for ratio in ratios)
    print(f"a step with the page open / without: {statistics.median(ratios):.3f} ({listed})", flush=True)
    page.goto(shown)
    page.get_by_test_id("cancel-run").click()
    page.get_by_test_id("run-state").get_by_text("interrupted").wait_for()
    page.goto(form)


def steps_of(run: RunFolder) -> int:
    """How many steps the log of a run has so far."""
    return sum(isinstance(event, VQStepMetrics) for event in run.events()) if run.events_path.exists() else 0


def busy_log(page: Page, address: str, home: Path, seconds: float = 10) -> None:
    """What a page costs whose run's log grows by 20 events a second: gaps between frames, and time of the processor."""
    run = home / "runs" / "busy"
    shutil.copytree(next((home / "runs").glob("*/events.jsonl")).parent, run)
    facts = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(facts | {"model_path": None}))
    with FileLock(run / ".lock"):
        page.goto(f"{address}#/runs/busy")
        page.get_by_test_id("level-panel").first.wait_for()
        page.wait_for_timeout(2000)
        still = page.evaluate(_FRAMES, seconds)
        growing = threading.Thread(target=grow, args=(run / "events.jsonl", seconds))
        growing.start()
        busy = page.evaluate(_FRAMES, seconds)
        growing.join()
        for what, gaps in (("20 events a second", busy), ("no events", still)):
            late = sum(gap > 34 for gap in gaps)
            print(f"{what}: {len(gaps)} frames in {seconds:.0f} s, {late} of them late, the longest {max(gaps):.0f} ms")
        shares = []
        for place in ("about:blank", f"{address}#/runs/busy"):
            page.goto(place)
            page.wait_for_timeout(5000)
            shares.append(share_of_a_core(page, run / "events.jsonl", 3 * seconds))
    without, watched = shares
    listed = ", ".join(f"{who} {watched[who] - without[who]:+.1%} to {watched[who]:.1%}" for who in watched)
    more = sum(watched.values()) - sum(without.values())
    print(f"the page, with 20 events a second, takes {more:.1%} of one core ({listed})")


def share_of_a_core(page: Page, log: Path, seconds: float) -> dict[str, float]:
    """How much of the time of one core browser and server take while a log grows."""
    before, began = processor_s(), time.monotonic()
    growing = threading.Thread(target=grow, args=(log, seconds))
    growing.start()
    page.wait_for_timeout(1000 * seconds)
    growing.join()
    passed = time.monotonic() - began
    return {who: (spent - before[who]) / passed for who, spent in processor_s().items()}


def processor_s() -> dict[str, float]:
    """The seconds of processor that the browser and the server have had so far."""
    found = {"server": 0.0, "browser": 0.0}
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            who = "browser" if "chrom" in process.name() else "server" if "web" in process.cmdline() else None
            times = process.cpu_times()
            if who:
                found[who] += times.user + times.system
    return found


def grow(log: Path, seconds: float) -> None:
    """Add 20 events a second to a log, each twentieth that of an epoch."""
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    step = next(entry for entry in entries if "step" in entry)
    *_, epoch = (entry for entry in entries if entry["event"] == "VQEpochMetrics")
    for number in range(1, round(20 * seconds) + 1):
        entry = epoch if number % 20 == 0 else step
        at = {"epoch": epoch["epoch"] + -(-number // 20)} | ({"step": number % 20} if "step" in entry else {})
        with log.open("a") as file:
            file.write(json.dumps(entry | at) + "\n")
        time.sleep(1 / 20)


if __name__ == "__main__":
    main()
