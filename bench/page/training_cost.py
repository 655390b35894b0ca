"""Cost of an open page to the training it shows.

The page is closed, open, and scrolled to the previews, in turn. Each time three things are measured: the time that the
training threads wait for a CPU core, as Linux counts it; the CPU time that the page takes, in the browser and in the
other threads of the server; and the time of a step, which varies widely on a busy machine.
"""

import json
import math
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from playwright.sync_api import Page

from bench.shared.browser import start_run
from distill.training.run_folder import RunFolder

Thread = tuple[int, int]  # process id and thread id


def measure_training_cost(page: Page, home: Path, rounds: int, seconds: float) -> None:
    """Start a training, measure it in each state of the page in every round, print the cost, and cancel it."""
    run = RunFolder(home / "runs" / start_run(page, epochs=100_000))
    url = page.url
    while not (run.events_path.exists() and step_times(run)):
        page.wait_for_timeout(500)
    page.goto("about:blank")
    training = busy_threads(page)
    windows: dict[str, list[Window]] = {"closed": [], "open": [], "open, previews in sight": []}
    for number in range(rounds):
        for state in list(windows)[:: -1 if number % 2 else 1]:
            page.goto("about:blank")
            if state != "closed":
                page.goto(url)
            page.wait_for_timeout(3000)
            if state.endswith("in sight"):
                page.locator("#previews-title").scroll_into_view_if_needed()
                page.get_by_test_id("preview-pair").last.scroll_into_view_if_needed()
            page.wait_for_timeout(2000)  # until everything is loaded
            windows[state].append(Window.measure(page, run, training, seconds))
    closed = windows.pop("closed")
    for state, opened in windows.items():
        waiting = statistics.mean(w.waiting for w in opened) - statistics.mean(w.waiting for w in closed)
        cpu = statistics.mean(w.page_cpu for w in opened) - statistics.mean(w.page_cpu for w in closed)
        ratios = [window.step_s / without.step_s for window, without in zip(opened, closed)]
        listed = ", ".join(f"{ratio:.3f}" for ratio in ratios)
        print(f"a page {state}: the training waits {waiting:.1%} of the time more, the page takes {cpu:.1%} of a core")
        logs = list(map(math.log, ratios))
        mean, error = math.exp(statistics.mean(logs)), statistics.stdev(logs) / math.sqrt(len(logs))
        print(
            f"a step with a page {state} / without: geometric mean {mean:.3f} ± {error:.3f}, "
            f"median {statistics.median(ratios):.3f} ({listed})",
            flush=True,
        )
    page.goto(url)
    page.get_by_test_id("cancel-run").click()
    page.get_by_test_id("run-state").get_by_text("interrupted").wait_for()


@dataclass(frozen=True)
class Window:
    """Some seconds of a training."""

    waiting: float  # time that the training threads waited for a core, summed, as a share of the window
    page_cpu: float  # CPU time of the browser and the other threads of the server, as a share of one core
    step_s: float  # mean time of a step

    @classmethod
    def measure(cls, page: Page, run: RunFolder, training: set[Thread], seconds: float) -> "Window":
        """Measure a training for that many seconds."""
        log_size, start = run.events_path.stat().st_size, time.monotonic()
        waited_s, cpu_s = waiting_s(training), page_cpu_s(training)
        page.wait_for_timeout(1000 * seconds)
        elapsed = time.monotonic() - start
        waiting, cpu = waiting_s(training) - waited_s, page_cpu_s(training) - cpu_s
        return cls(waiting / elapsed, cpu / elapsed, statistics.mean(step_times(run, log_size)))


def waiting_s(threads: set[Thread]) -> float:
    """Seconds that threads were ready to run but had no core, summed (Linux's schedstat); NaN on other systems."""
    files = [Path(f"/proc/{process}/task/{thread}/schedstat") for process, thread in threads]
    return sum(int(file.read_text().split()[1]) / 1e9 for file in files) if files[0].exists() else math.nan


def step_times(run: RunFolder, offset: int = 0) -> list[float]:
    """Seconds of the steps in the log of a run, from a byte offset on."""
    with run.events_path.open("rb") as log:
        log.seek(offset)
        lines = log.read().split(b"\n")[:-1]
    return [json.loads(line)["step_time_s"] for line in lines if b"step_time_s" in line and line.startswith(b"{")]


def busy_threads(page: Page) -> set[Thread]:
    """The training threads of the server: those that are busy while no page is open."""
    page.wait_for_timeout(3000)
    before = thread_cpu_s()
    page.wait_for_timeout(3000)
    return {thread for thread, cpu_s in thread_cpu_s().items() if cpu_s - before.get(thread, 0.0) > 0.3}


def page_cpu_s(training: set[Thread]) -> float:
    """CPU seconds so far of the browser and of the server without the training threads."""
    total = -sum(cpu_s for thread, cpu_s in thread_cpu_s().items() if thread in training)
    for process in (*browsers(), *servers()):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def browsers() -> list[psutil.Process]:
    """The processes of the browser."""
    return _children(lambda process: "chrom" in process.name())


def servers() -> list[psutil.Process]:
    """The process of `distill web`, which also trains."""
    return _children(lambda process: "web" in process.cmdline())


def _children(wanted: Callable[[psutil.Process], bool]) -> list[psutil.Process]:
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if wanted(process):
                found.append(process)
    return found


def thread_cpu_s() -> dict[Thread, float]:
    """CPU seconds of each thread of the server."""
    return {
        (server.pid, thread.id): thread.user_time + thread.system_time
        for server in servers()
        for thread in server.threads()
    }
