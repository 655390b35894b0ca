"""Figures of the web app: the first page, 20 events a second, training with a page open, and a grid of codes.

    bench/web.py [--turns 60] [--seconds 4]

All in one run on one machine, in a Chromium without a screen, which draws with the same cores that train. What a page
costs a training is measured twice: how long the steps take while the browser is held still and while it is not, by
turns, which a busy machine says with a wide spread; and how much time the page takes from the processor, in the browser
and in those threads of the server that do not train.
"""

import argparse
import json
import shutil
import signal
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
from distill.training.run_folder import RunFolder

Thread = tuple[int, int]  # process and thread

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
    parser.add_argument("--turns", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=4.0)
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
            beside_a_training(page, home, args.turns, args.seconds)
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


def beside_a_training(page: Page, home: Path, turns: int, seconds: float) -> None:
    """What a page costs the training that it shows."""
    run = RunFolder(home / "runs" / start_run(page, epochs=100_000))
    shown = page.url
    while not (run.events_path.exists() and times_of_steps(run)):
        page.wait_for_timeout(500)
    page.goto("about:blank")
    training = busy_threads(page)
    without = share_of_a_core(page, training)
    page.goto(shown)
    page.wait_for_timeout(5000)  # until all of it is there
    print(f"a page takes {share_of_a_core(page, training) - without:.1%} of one core", end=", ")
    page.locator("#previews-title").scroll_into_view_if_needed()
    page.get_by_test_id("preview-pair").last.scroll_into_view_if_needed()
    print(f"with the previews in sight {share_of_a_core(page, training) - without:.1%}", flush=True)
    page.goto(shown)
    page.wait_for_timeout(5000)
    held_by_turns(run, turns, seconds)
    page.get_by_test_id("cancel-run").click()
    page.get_by_test_id("run-state").get_by_text("interrupted").wait_for()


def held_by_turns(run: RunFolder, turns: int, seconds: float) -> None:
    """How much longer steps take with the browser than while it is held still."""
    ratios = []
    for turn in range(turns):
        took: dict[int, float] = {}
        for way in (signal.SIGSTOP, signal.SIGCONT)[:: -1 if turn % 2 else 1]:
            for process in browsers():
                process.send_signal(way)
            begins = run.events_path.stat().st_size
            time.sleep(seconds)
            took[way] = statistics.mean(times_of_steps(run, begins))
        ratios.append(took[signal.SIGCONT] / took[signal.SIGSTOP])
    for process in browsers():
        process.send_signal(signal.SIGCONT)
    spread = statistics.stdev(ratios) / len(ratios) ** 0.5
    mean, median = statistics.mean(ratios), statistics.median(ratios)
    print(f"a step with the page / while it is held still: {mean:.3f} ± {spread:.3f}, median {median:.3f}", flush=True)


def times_of_steps(run: RunFolder, begins: int = 0) -> list[float]:
    """How long the steps took that stand in the log of a run beyond so many bytes."""
    with run.events_path.open("rb") as log:
        log.seek(begins)
        lines = log.read().split(b"\n")[:-1]
    return [json.loads(line)["step_time_s"] for line in lines if b"step_time_s" in line and line.startswith(b"{")]


def share_of_a_core(page: Page, training: set[Thread], seconds: float = 30) -> float:
    """How much of the time of one core goes into all but the training."""
    spent, began = beside(training), time.monotonic()
    page.wait_for_timeout(1000 * seconds)
    return (beside(training) - spent) / (time.monotonic() - began)


def busy_threads(page: Page) -> set[Thread]:
    """The threads of the server that train: they are busy although no page is open."""
    page.wait_for_timeout(3000)
    before = thread_s()
    page.wait_for_timeout(3000)
    return {thread for thread, spent in thread_s().items() if spent - before.get(thread, 0.0) > 0.3}


def beside(training: set[Thread]) -> float:
    """The seconds of processor that the browser and all other threads of the server have had so far."""
    found = sum(spent for thread, spent in thread_s().items() if thread not in training)
    for process in browsers():
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            found += times.user + times.system
    return found


def browsers() -> list[psutil.Process]:
    """The processes of the browser."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if "chrom" in process.name():
                found.append(process)
    return found


def thread_s() -> dict[Thread, float]:
    """The seconds of processor of each thread of the server."""
    found: dict[Thread, float] = {}
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if "web" in process.cmdline():
                found |= {(process.pid, one.id): one.user_time + one.system_time for one in process.threads()}
    return found


def busy_log(page: Page, address: str, home: Path, seconds: float = 10) -> None:
    """The gaps between the frames of a page whose run's log grows by 20 events a second."""
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
