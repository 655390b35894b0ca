"""Figures of the web app: the first page, 20 events a second, training with a page open, and a grid of codes.

    bench/web.py [--rounds 25] [--seconds 12]

All in one run on one machine, in a Chromium without a screen, which draws with the same cores that train. What a page
costs a training is measured in three ways, with the page closed, open, and scrolled to the previews, by turns: how much
longer the threads that train have to wait for a core, as Linux counts it; how much of a core the page takes, in the
browser and in the other threads of the server; and how long a step takes, which a busy machine says with a wide spread.
Takes about half an hour.
"""

import argparse
import json
import math
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
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
    parser.add_argument("--rounds", type=int, default=25, help="at least 2")
    parser.add_argument("--seconds", type=float, default=12.0)
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
            beside_a_training(page, home, args.rounds, args.seconds)
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


def beside_a_training(page: Page, home: Path, rounds: int, seconds: float) -> None:
    """What a page costs the training that it shows."""
    run = RunFolder(home / "runs" / start_run(page, epochs=100_000))
    shown = page.url
    while not (run.events_path.exists() and times_of_steps(run)):
        page.wait_for_timeout(500)
    page.goto("about:blank")
    training = busy_threads(page)
    found: dict[str, list[Window]] = {"closed": [], "open": [], "open, previews in sight": []}
    for number in range(rounds):
        for state in list(found)[:: -1 if number % 2 else 1]:
            page.goto("about:blank")
            if state != "closed":
                page.goto(shown)
            page.wait_for_timeout(3000)
            if state.endswith("in sight"):
                page.locator("#previews-title").scroll_into_view_if_needed()
                page.get_by_test_id("preview-pair").last.scroll_into_view_if_needed()
            page.wait_for_timeout(2000)  # until all of it is there
            found[state].append(Window.watch(page, run, training, seconds))
    closed = found.pop("closed")
    for state, windows in found.items():
        waits = statistics.mean(w.waited for w in windows) - statistics.mean(w.waited for w in closed)
        taken = statistics.mean(w.taken for w in windows) - statistics.mean(w.taken for w in closed)
        ratios = [window.step_s / without.step_s for window, without in zip(windows, closed)]
        listed = ", ".join(f"{ratio:.3f}" for ratio in ratios)
        print(f"a page {state}: the training waits {waits:.1%} of the time more, the page takes {taken:.1%} of a core")
        logs = list(map(math.log, ratios))  # of ratios, the usual mean is too large
        mean, error = math.exp(statistics.mean(logs)), statistics.stdev(logs) / math.sqrt(len(logs))
        print(
            f"a step with a page {state} / without: geometric mean {mean:.3f} ± {error:.3f}, "
            f"median {statistics.median(ratios):.3f} ({listed})",
            flush=True,
        )
    page.goto(shown)
    page.get_by_test_id("cancel-run").click()
    page.get_by_test_id("run-state").get_by_text("interrupted").wait_for()


@dataclass(frozen=True)
class Window:
    """Some seconds of a training: the share of the time that its threads waited for a core, all added up; the share of
    one core that went into all else; and how long a step took.
    """

    waited: float
    taken: float
    step_s: float

    @classmethod
    def watch(cls, page: Page, run: RunFolder, training: set[Thread], seconds: float) -> "Window":
        """Watch for so long."""
        log, waited, taken, began = run.events_path.stat().st_size, waits(training), beside(training), time.monotonic()
        page.wait_for_timeout(1000 * seconds)
        passed = time.monotonic() - began
        steps = statistics.mean(times_of_steps(run, log))
        return cls((waits(training) - waited) / passed, (beside(training) - taken) / passed, steps)


def waits(threads: set[Thread]) -> float:
    """The seconds that threads were ready but on no core (Linux's schedstat), added up; NaN elsewhere."""
    files = [Path(f"/proc/{process}/task/{thread}/schedstat") for process, thread in threads]
    return sum(int(file.read_text().split()[1]) / 1e9 for file in files) if files[0].exists() else math.nan


def times_of_steps(run: RunFolder, begins: int = 0) -> list[float]:
    """How long the steps took that stand in the log of a run beyond so many bytes."""
    with run.events_path.open("rb") as log:
        log.seek(begins)
        lines = log.read().split(b"\n")[:-1]
    return [json.loads(line)["step_time_s"] for line in lines if b"step_time_s" in line and line.startswith(b"{")]


def busy_threads(page: Page) -> set[Thread]:
    """The threads of the server that train: they are busy although no page is open."""
    page.wait_for_timeout(3000)
    before = thread_s()
    page.wait_for_timeout(3000)
    return {thread for thread, spent in thread_s().items() if spent - before.get(thread, 0.0) > 0.3}


def beside(training: set[Thread]) -> float:
    """The seconds of processor that the browser and all of the server but the training have had so far."""
    found = -sum(spent for thread, spent in thread_s().items() if thread in training)
    for process in (*browsers(), *servers()):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            found += times.user + times.system
    return found


def browsers() -> list[psutil.Process]:
    """The processes of the browser."""
    return _children(lambda process: "chrom" in process.name())


def servers() -> list[psutil.Process]:
    """The process that serves the page and trains."""
    return _children(lambda process: "web" in process.cmdline())


def _children(wanted: Callable[[psutil.Process], bool]) -> list[psutil.Process]:
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if wanted(process):
                found.append(process)
    return found


def thread_s() -> dict[Thread, float]:
    """The seconds of processor of each thread of the server."""
    return {(each.pid, one.id): one.user_time + one.system_time for each in servers() for one in each.threads()}


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
