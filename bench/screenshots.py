"""Takes the screenshots of the web app in README and docs: a small training in a real browser.

python -m bench.screenshots [--epochs 90] [--to docs]
"""

import argparse
import re
import tempfile
from pathlib import Path

from playwright.sync_api import Page

from bench.shared.browser import chromium, demo_sounds, open_collection, start_run, web_app

_WAIT_MS = 600_000
_SETTLE_MS = 5_000
_WIDTH, _HEIGHT, _MAX_HEIGHT = 1280, 800, 1650  # pixels


def main() -> None:
    """Train on the sounds of the demo, and take every screenshot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=90)
    parser.add_argument("--to", type=Path, default=Path("docs"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, chromium() as browser, web_app(Path(name, "home")) as address:
        page = browser.new_page(viewport={"width": _WIDTH, "height": _HEIGHT}, color_scheme="light")
        page.set_default_timeout(_WAIT_MS)
        page.goto(address)
        take_screenshots(page, demo_sounds(Path(name)), args.epochs, args.to)


def take_screenshots(page: Page, sounds: Path, epochs: int, folder: Path) -> None:
    """Follow a musician from the collection to the trained model, with a screenshot at each stop."""
    open_collection(page, sounds)
    shoot(page, folder / "web-collection.png")
    start_run(page, epochs)
    page.locator("#previews-title").scroll_into_view_if_needed()  # previews are fetched only when in sight
    page.get_by_test_id("preview-pair").first.wait_for()
    shoot(page, folder / "web-watch.png")
    page.get_by_test_id("run-state").filter(has_text="Finished").wait_for()
    page.get_by_role("link", name="Library").click()
    page.get_by_test_id("model-card").wait_for()
    page.get_by_test_id("model-card").get_by_role("link").first.click()
    page.get_by_test_id("sound-input").set_input_files(sorted(sounds.rglob("*.wav"))[-1])
    page.get_by_test_id("code-grid").wait_for()
    shoot(page, folder / "web-listen.png", dark=True)
    shoot_editor(page, folder)
    shoot_make(page, folder)


def shoot_editor(page: Page, folder: Path) -> None:
    """Open the sound that is heard in the editor, then go to the map of the model and make some sounds there."""
    page.get_by_role("link", name="Edit these codes").click()
    page.get_by_test_id("edit-selection").wait_for()
    shoot(page, folder / "web-edit.png")
    page.go_back()
    page.get_by_test_id("to-map").click()
    page.get_by_test_id("map-new").click()
    page.locator(".map .made").first.wait_for()
    shoot(page, folder / "web-map.png")


def shoot_make(page: Page, folder: Path) -> None:
    """Make sounds with the newest model that can, and keep two of them."""
    page.emulate_media(color_scheme="light")
    page.get_by_role("link", name="Make", exact=True).click()
    page.get_by_test_id("make-status").filter(has_text=re.compile("^16 sounds")).wait_for()
    for key in ("w", "k", "s", "k"):
        page.keyboard.press(key)
    page.get_by_test_id("kept-sound").nth(1).wait_for()
    shoot(page, folder / "web-make.png")


def shoot(page: Page, path: Path, dark: bool = False) -> None:
    """A screenshot from the top of the page, at most `_MAX_HEIGHT` tall, once sounds and pictures are loaded."""
    page.emulate_media(color_scheme="dark" if dark else "light")
    page.set_viewport_size({"width": _WIDTH, "height": _MAX_HEIGHT})  # only what is in sight is drawn
    page.wait_for_timeout(_SETTLE_MS)
    page.wait_for_function("() => [...document.images].every((image) => image.complete)")
    page.set_viewport_size({"width": _WIDTH, "height": _HEIGHT})
    page.evaluate("scrollTo(0, 0)")
    height = min(_MAX_HEIGHT, page.evaluate("document.documentElement.scrollHeight"))
    page.screenshot(path=path, full_page=True, clip={"x": 0, "y": 0, "width": _WIDTH, "height": height})
    print(path)


if __name__ == "__main__":
    main()
