"""The pictures of the web app in README and docs: a small training, watched and listened to in a real browser.

bench/screenshots.py [--epochs 90] [--to docs]
"""

import argparse
import tempfile
from pathlib import Path

from playwright.sync_api import Page

from browser import chromium, demo_sounds, open_collection, start_run, web_app

_WAIT_MS = 600_000
_REST_MS = 5_000
_TALLEST = 1650  # pixels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=90)
    parser.add_argument("--to", type=Path, default=Path("docs"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, chromium() as browser, web_app(Path(name, "home")) as address:
        page = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme="light")
        page.set_default_timeout(_WAIT_MS)
        page.goto(address)
        story(page, demo_sounds(Path(name)), args.epochs, args.to)


def story(page: Page, sounds: Path, epochs: int, folder: Path) -> None:
    """The pages in the order in which a musician sees them."""
    open_collection(page, sounds)
    shoot(page, folder / "web-collection.png")
    start_run(page, epochs)
    page.locator("#previews-title").scroll_into_view_if_needed()  # none is fetched before
    page.get_by_test_id("preview-pair").first.wait_for()
    shoot(page, folder / "web-watch.png")
    page.get_by_test_id("run-state").filter(has_text="Finished").wait_for()
    page.get_by_role("link", name="Library").click()
    page.get_by_test_id("model-card").wait_for()
    page.get_by_test_id("model-card").get_by_role("link").first.click()
    page.get_by_test_id("sound-input").set_input_files(sorted(sounds.rglob("*.wav"))[-1])
    page.get_by_test_id("code-grid").wait_for()
    shoot(page, folder / "web-listen.png", dark=True)


def shoot(page: Page, path: Path, dark: bool = False) -> None:
    """A picture of the page down to where it repeats itself, once sounds and pictures have come."""
    page.emulate_media(color_scheme="dark" if dark else "light")
    page.set_viewport_size({"width": 1280, "height": _TALLEST})  # what is out of sight is not drawn
    page.wait_for_timeout(_REST_MS)
    page.set_viewport_size({"width": 1280, "height": 800})
    page.evaluate("scrollTo(0, 0)")
    height = min(_TALLEST, page.evaluate("document.documentElement.scrollHeight"))
    page.screenshot(path=path, full_page=True, clip={"x": 0, "y": 0, "width": 1280, "height": height})
    print(path)


if __name__ == "__main__":
    main()
