"""`distill web` in a real browser on the demo's sounds, for screenshots and measurements."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

from playwright.sync_api import Browser, Page, sync_playwright

from distill.data.demo import write_demo_collection

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def web_app(home: Path) -> Iterator[str]:
    """The address of a server that keeps its library and runs in `home`."""
    command = [sys.executable, "-m", "distill", "web", "--no-browser", "--port", "0"]
    environment = os.environ | {"DISTILL_HOME": str(home)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stdout is not None
        output = ""
        while not (address := re.search(r"http://\S+token=\S+", output)):
            output += server.stdout.readline()
        try:
            yield address[0]
        finally:
            server.terminate()


@contextmanager
def chromium() -> Iterator[Browser]:
    """The installed Chromium or Chrome, or else Playwright's own."""
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def demo_sounds(folder: Path) -> Path:
    """The collection of `make demo`, in a folder named for the screenshots."""
    write_demo_collection(folder / "demo sounds")
    return folder / "demo sounds"


def open_collection(page: Page, sounds: Path) -> None:
    """Open a folder on the collection page, and wait for its report."""
    page.get_by_test_id("path-input").fill(str(sounds))
    page.get_by_test_id("open-path").click()
    page.get_by_test_id("train-form").wait_for()


def start_run(page: Page, epochs: int) -> str:
    """Start training on the open collection, wait for the run's page, and return the run's id."""
    page.get_by_label("Epochs of training").fill(str(epochs))
    page.get_by_test_id("start-run").click()
    page.get_by_test_id("run-state").wait_for()
    return unquote(page.url.rpartition("/")[2])
