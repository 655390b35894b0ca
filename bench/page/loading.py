"""Time until the first page is painted and ready, its transfer size, and time to draw a grid of codes."""

import statistics

from playwright.sync_api import Browser, Page

_LOADS = 5
_WATCH_READY = """new MutationObserver((_, observer) => {
    if (!document.querySelector("[data-testid=drop-zone]")) return;
    window.readyAt = performance.now();
    observer.disconnect();
}).observe(document, { childList: true, subtree: true });"""
_DRAW_GRIDS = """async () => {
    const { codeGrid } = await import("/static/grid.js");
    const codes = Array.from({ length: 4 }, (_, level) => Array.from({ length: 24 }, (_, row) =>
        Array.from({ length: 500 }, (_, column) => (level * 97 + row * 31 + column * 17) % 1024)));
    const tints = codes.map(() => Array.from({ length: 1024 }, (_, code) => [code / 1024, 0.5]));
    const columnAt = (seconds) => seconds / 0.085;
    const options = { levelNames: ["a", "b", "c", "d"], columnAt, describe: () => "", onActivate: () => {} };
    const times = [];
    for (let turn = 0; turn < 20; turn += 1) {
        const start = performance.now();
        const grid = codeGrid({ codes, tints, ...options });
        document.querySelector("main").append(grid.node);
        grid.node.scrollIntoView();
        grid.setCodes(codes);
        const canvas = grid.node.querySelector("canvas");
        const drawn = () => canvas.width && canvas.getContext("2d").getImageData(2, 2, 1, 1).data[3] === 255;
        while (!drawn()) await new Promise(requestAnimationFrame);
        times.push(performance.now() - start);
        grid.node.remove();
    }
    return times;
}"""


def measure_loading(browser: Browser, address: str) -> None:
    """Print medians over several loads with an empty cache, timed by the page's own clock."""
    painted, ready, sizes = [], [], []
    for _ in range(_LOADS):
        page = browser.new_context().new_page()
        page.add_init_script(_WATCH_READY)
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


def measure_grid(page: Page) -> None:
    """Print the time until what fits of a grid of 48,000 codes is on the screen."""
    times = page.evaluate(_DRAW_GRIDS)
    print(f"a grid of 48,000 codes on the screen: {statistics.median(times):.0f} ms, at most {max(times):.0f} ms")
