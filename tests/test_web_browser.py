"""The web app as a musician uses it, in a real browser: from a folder of sounds to a model that is heard."""

import dataclasses
import re
import shutil
import threading
from pathlib import Path

import numpy as np
import pydantic
import pytest
import soundfile
import torch
from torch import Tensor, nn

from distill.families import Family, FigurePanel, Loss, register, unregister
from distill.library.catalog import ModelLibrary
from distill.models.codes import Codes
from distill.training.config import EngineConfig
from distill.training.families import VAE
from distill.training.metrics import EVENT_TYPES, EpochEvent, EpochMetrics, History, StepEvent, StepMetrics
from distill.training.objective import EpochResult
from distill.training.prior_loop import PriorObjective
from distill.training.run_folder import RunFolder
from support.melodies import RATE as MELODY_RATE
from support.melodies import melody, save_melody_model
from support.models import save_rvq_vae, small_rvq_vae, write_model
from support.runs import run_info, run_with_prior
from support.sounds import RATE, tone, write_collection
from support.waiting import PATIENCE_S
from support.web_server import LONG, TOKEN, Web

sync_api = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")
expect = sync_api.expect

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here; with one, the pages are tested too"),
    pytest.mark.xdist_group("browser"),
]

PATIENCE_MS = 1000 * PATIENCE_S
expect.set_options(timeout=PATIENCE_MS)


# The page counts what it is told of a run, and what it offers for some seconds (to undo, say) stays.
IN_EVERY_PAGE = """
  const later = window.setTimeout;
  window.setTimeout = (run, ms, ...rest) => later(run, ms >= 5000 ? 2 ** 31 - 1 : ms, ...rest);
  window.told = 0;
  window.EventSource = class extends EventSource {
    constructor(...all) { super(...all); this.addEventListener("message", () => window.told++); }
  };
"""


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        options = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options, timeout=PATIENCE_MS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(web: Web, browser):
    """Opens the page in a browser of its own; at the end nothing may have gone wrong in it unseen."""
    contexts, faults, hosts = [], [], set()

    def opened(path: str = "", **options):
        context = browser.new_context(**options)
        context.set_default_timeout(PATIENCE_MS)
        context.add_init_script(IN_EVERY_PAGE)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if "Content Security" in message.text else None)
        page.on("request", lambda request: hosts.add(request.url.split("/")[2]) if "://" in request.url else None)
        page.goto(f"{web.address}/?token={TOKEN}{path}")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert faults == []
    assert hosts <= {web.address.removeprefix("http://")}


def by(page, name: str):
    return page.get_by_test_id(name)


def open_collection(page, folder: Path) -> None:
    page.goto(page.url.partition("#")[0] + "#/collection")
    by(page, "path-input").fill(str(folder))
    by(page, "open-path").click()
    expect(by(page, "train-form")).to_be_visible()


def start_run(page, folder: Path, epochs: int) -> None:
    open_collection(page, folder)
    train_opened(page, epochs, "tones")


def train_opened(page, epochs: int, name: str) -> None:
    page.get_by_label("Name of the model").fill(name)
    page.get_by_label("Epochs of training").fill(str(epochs))
    page.get_by_text("Advanced settings").click()
    page.get_by_label("Codebook size").fill("16")
    page.get_by_label("Batch size").fill("8")
    by(page, "start-run").click()
    expect(by(page, "run-state")).to_be_visible()


def assert_accessible(page) -> None:
    """No finding of axe-core that counts as serious."""
    found = axe.Axe().run(page).response["violations"]
    serious = [one for one in found if one["impact"] in ("serious", "critical")]
    assert [(one["id"], one["nodes"][0]["html"][:200]) for one in serious] == []


COLOURS = "c => new Set(new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer)).size"


def expect_drawn(canvas, colours: int) -> None:
    """Wait until a canvas, which draws itself when it comes into sight, shows more colours than that."""
    canvas.scroll_into_view_if_needed()
    canvas.page.wait_for_function(f"([c, few]) => ({COLOURS})(c) > few", arg=[canvas.element_handle(), colours])


def test_from_a_folder_of_sounds_to_a_model_that_is_heard(
    open_page, collection: Path, tmp_path: Path, home: Path
) -> None:
    (collection / "broken.wav").write_text("no sound")
    page = open_page()
    open_collection(page, collection)
    expect(by(page, "file-row")).to_have_count(7)
    expect(by(page, "file-row").filter(has_text="broken.wav")).to_contain_text("not readable")
    assert_accessible(page)

    train_opened(page, epochs=3, name="My bells")
    expect(by(page, "level-panel")).to_have_count(4)
    expect(by(page, "level-verdict").first).to_have_text(re.compile("healthy|underused|collapsed", re.I))
    expect(by(page, "run-state")).to_have_text(re.compile("finished", re.I))
    expect(by(page, "epoch-now")).to_contain_text("3")
    expect_drawn(by(page, "usage-map").first, 2)
    assert_accessible(page)

    pair = by(page, "preview-pair").first
    pair.get_by_test_id("play").click()
    pair.get_by_test_id("switch-b").click()
    expect(pair.get_by_test_id("switch-b")).to_have_attribute("aria-pressed", "true")

    page.get_by_role("link", name="Library").click()
    by(page, "search-models").fill("bells")
    card = by(page, "model-card")
    expect(card).to_have_count(1)
    expect(card).to_contain_text("My bells")
    assert_accessible(page)
    card.get_by_role("link").first.click()

    soundfile.write(tmp_path / "voice.wav", tone(300, 1.5, decay=1.0), RATE)
    by(page, "sound-input").set_input_files(tmp_path / "voice.wav")
    grid = by(page, "code-grid")
    expect(grid).to_be_visible()
    expect_drawn(grid, 5)
    by(page, "sound-input").set_input_files(collection / "broken.wav")
    expect(page.get_by_role("alert").filter(has_text="broken.wav")).to_be_visible()
    by(page, "level-switch").get_by_text("Structure").first.click()  # what was heard before is still there
    expect(page.locator(".lane[aria-busy]")).to_have_count(0)
    expect(page.locator(".lane-label").last).to_contain_text("1 of")
    grid.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    with page.expect_download() as download:
        by(page, "download").first.click()
    assert soundfile.info(download.value.path()).duration == pytest.approx(1.5, abs=0.01)
    assert_accessible(page)
    assert [entry.name for entry in ModelLibrary(home / "models").entries()] == ["My bells"]


def test_a_page_reloaded_during_training_shows_it_all_and_can_stop_and_resume_it(open_page, collection: Path) -> None:
    page = open_page()
    start_run(page, collection, epochs=LONG)
    expect(by(page, "epoch-now")).to_contain_text(re.compile(r"[2-9]|\d\d"))
    page.reload()
    expect(by(page, "level-verdict").first).to_have_text(re.compile("healthy|underused|collapsed", re.I))
    by(page, "cancel-run").click()
    expect(by(page, "run-state")).to_have_text(re.compile("interrupted|stopped", re.I))
    by(page, "resume-run").click()
    expect(by(page, "run-state")).to_have_text(re.compile("running|training", re.I))
    other = open_page(page.url[page.url.index("#") :])
    by(other, "cancel-run").click()
    expect(by(page, "run-state")).to_have_text(re.compile("interrupted|stopped", re.I))


def test_a_model_file_that_is_not_one_is_refused_and_a_deletion_undone(web: Web, open_page, tmp_path: Path) -> None:
    from support.models import write_model

    write_model(web.state.library.folder / "kick.distill", "Deep kick")
    page = open_page("#/library")
    (tmp_path / "evil.distill").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    by(page, "import-file").set_input_files(tmp_path / "evil.distill")
    expect(by(page, "import-error")).to_contain_text("evil.distill")
    expect(by(page, "import-error")).to_contain_text("not")
    by(page, "delete-model").click()
    expect(by(page, "model-card")).to_have_count(0)
    by(page, "undo").click()
    expect(by(page, "model-card")).to_have_count(1)


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_every_view_is_readable_in_light_and_dark_wide_and_narrow(open_page, scheme: str, width: int) -> None:
    page = open_page(color_scheme=scheme, viewport={"width": width, "height": 800})
    ground = "() => getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]"
    for view in ("#/collection", "#/runs", "#/library"):
        page.goto(page.url.partition("#")[0] + view)
        expect(page.get_by_role("heading").first).to_be_visible()
        assert (page.evaluate(ground) < 128) is (scheme == "dark")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert_accessible(page)
    by(page, "theme-toggle").click()
    assert (page.evaluate(ground) < 128) is not (scheme == "dark")
    page.reload()
    assert (page.evaluate(ground) < 128) is not (scheme == "dark")


@pytest.mark.parametrize("width", [1280, 800, 390])
def test_a_long_sound_scrolls_in_its_grid_and_not_the_page(web: Web, open_page, tmp_path: Path, width: int) -> None:
    save_rvq_vae(small_rvq_vae(), web.state.library.folder)
    soundfile.write(tmp_path / "long.wav", tone(300, 20, decay=0.0), RATE)
    page = open_page("#/library", viewport={"width": width, "height": 800})
    by(page, "model-card").get_by_role("link").first.click()
    by(page, "sound-input").set_input_files(tmp_path / "long.wav")
    grid = by(page, "code-grid")
    expect_drawn(grid, 2)
    grid.focus()
    page.keyboard.press("End")
    expect(page.locator(".readout")).to_contain_text("to 20.00 s")
    at_its_end = "e => e.scrollWidth > e.clientWidth && e.scrollLeft + e.clientWidth >= e.scrollWidth - 1"
    assert page.locator(".grid-scroll").evaluate(at_its_end)
    expect_drawn(grid, 2)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert_accessible(page)


def test_the_keyboard_alone_is_enough(open_page, collection: Path) -> None:
    page = open_page()
    expect(by(page, "path-input")).to_be_visible()
    press_until(page, "Tab", "path-input")
    page.keyboard.type(str(collection))
    page.keyboard.press("Enter")
    expect(by(page, "train-form")).to_be_visible()
    press_until(page, "Tab", "start-run")
    page.keyboard.press("Enter")
    expect(by(page, "run-state")).to_be_visible()
    press_until(page, "Tab", "cancel-run")
    expect(by(page, "epoch-now")).to_contain_text("Epoch")
    expect(by(page, "cancel-run")).to_be_focused()  # what became known of the run meanwhile took nothing from the hand
    page.keyboard.press("Enter")
    expect(by(page, "run-state")).to_have_text(re.compile("interrupted", re.I))
    press_until(page, "Tab", "resume-run", most=3)  # the focus stayed near
    page.keyboard.press("Enter")
    expect(by(page, "cancel-run")).to_be_focused()


def test_a_setting_that_cannot_be_is_told_where_it_is_set(open_page, collection: Path) -> None:
    page = open_page()
    open_collection(page, collection)
    page.get_by_label("Minutes of training").fill("")
    expect(by(page, "start-run")).to_be_disabled()
    expect(by(page, "train-form").get_by_role("alert")).to_contain_text("minutes")
    page.get_by_label("Epochs of training").fill("2.5")
    expect(by(page, "train-form").get_by_role("alert")).to_contain_text("epochs")
    page.get_by_label("Epochs of training").fill("2")
    expect(by(page, "start-run")).to_be_enabled()


def press_until(page, key: str, name: str, most: int = 150) -> None:
    """Press a key until what is called `name` has the focus."""
    for _ in range(most):
        if page.evaluate("document.activeElement?.dataset.testid") == name:
            return
        page.keyboard.press(key)
    raise AssertionError(f"the keyboard does not get to {name}")


def test_dropped_files_are_taken_in(open_page, tmp_path: Path) -> None:
    page = open_page()
    sounds = write_collection(tmp_path / "sounds", 3)
    page.locator("input[type=file][multiple]").first.set_input_files(sorted(sounds.iterdir()))
    expect(by(page, "file-row")).to_have_count(3)
    expect(by(page, "train-form")).to_be_visible()
    assert_accessible(page)
    by(page, "remove-collection").click()
    expect(by(page, "train-form")).to_have_count(0)
    expect(by(page, "remove-collection")).to_have_count(0)
    by(page, "undo").click()
    page.get_by_role("button", name="Dropped sounds dropped here").click()
    expect(by(page, "file-row")).to_have_count(3)


def test_dropped_files_that_are_no_sounds_are_named(open_page, tmp_path: Path) -> None:
    page = open_page()
    chosen = sorted(write_collection(tmp_path / "sounds", 2).iterdir())
    for name in ("lyrics.txt", "cover.png"):
        (tmp_path / name).write_text("no sound")
        chosen.append(tmp_path / name)
    page.locator("input[type=file][multiple]").first.set_input_files(chosen)
    expect(by(page, "file-row")).to_have_count(2)
    expect(page.locator(".toast")).to_contain_text("lyrics.txt, cover.png")
    page.locator("input[type=file][multiple]").first.set_input_files(tmp_path / "lyrics.txt")
    expect(page.get_by_role("alert")).to_contain_text("lyrics.txt")


@pytest.mark.parametrize("width", [1280, 768, 390])
def test_the_sounds_of_a_collection_are_heard_and_seen_whole(open_page, tmp_path: Path, width: int) -> None:
    sounds = write_collection(tmp_path / "sounds", 2)
    name = "a_recording_from_the_forest_on_the_hill-2024-05-17_in_the_morning_take_"
    for take in ("03.aiff", "03_copy.wav"):
        soundfile.write(sounds / f"{name}{take}", np.stack([tone(300, 1.5)] * 2, axis=1), RATE, subtype="PCM_16")
    page = open_page(viewport={"width": width, "height": 800})
    open_collection(page, sounds)
    page.evaluate("""() => {
      const play = HTMLMediaElement.prototype.play;
      HTMLMediaElement.prototype.play = function () { window.heard = this; return play.call(this); };
    }""")
    hear = page.get_by_role("button", name=f"Play {name}03.aiff")
    hear.click()
    expect(hear).to_have_attribute("aria-pressed", "true")
    expect(hear).to_have_attribute("aria-pressed", "false")  # at its end
    assert page.evaluate("window.heard.ended && window.heard.duration") == pytest.approx(1.5, abs=0.01)
    scroller = page.get_by_role("region", name="Sounds of this collection")
    assert scroller.evaluate("e => e.scrollWidth <= e.clientWidth")  # no name, and no note, is cut off
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert_accessible(page)


def test_one_long_recording_is_cut_into_a_collection_of_its_own(web: Web, open_page, tmp_path: Path) -> None:
    (tmp_path / "tape").mkdir()
    hits = [np.pad(tone(220 * (number + 1), 0.4), (0, 2 * RATE)) for number in range(5)]
    soundfile.write(tmp_path / "tape" / "tape.wav", np.concatenate(hits), RATE)
    page = open_page()
    open_collection(page, tmp_path / "tape")
    expect(by(page, "train-form").get_by_role("alert")).to_contain_text("cut into several")
    by(page, "cut-silence").click()
    expect(by(page, "file-row")).to_have_count(5)
    expect(by(page, "start-run")).to_be_enabled()
    expect(page.get_by_role("heading", name="tape cut")).to_be_visible()
    assert [path.name for path in (tmp_path / "tape").iterdir()] == ["tape.wav"]


def test_runs_on_one_collection_can_be_told_apart(open_page, collection: Path) -> None:
    page = open_page()
    for _ in range(2):
        start_run(page, collection, epochs=LONG)
    page.get_by_role("link", name="Runs", exact=True).click()
    expect(by(page, "run-row").get_by_role("link")).to_have_text(["tones", "tones (2)"])


@pytest.mark.parametrize(("width", "layout"), [(1280, "table"), (390, "ul.cards")])
def test_the_library_is_a_table_where_there_is_room_for_one(web: Web, open_page, width: int, layout: str) -> None:
    from support.models import write_model

    write_model(web.state.library.folder / "kick.distill", "Deep kick")
    page = open_page("#/library", viewport={"width": 1280, "height": 800})
    page.get_by_role("button", name="Table").click()
    page.set_viewport_size({"width": width, "height": 800})
    expect(page.locator(layout)).to_be_visible()
    expect(page.locator(layout)).to_contain_text("Deep kick")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert_accessible(page)


def wait_for_messages(page, count: int) -> None:
    """Wait until the page was told of the run so many times more."""
    page.wait_for_function("wanted => window.told >= wanted", arg=count + page.evaluate("window.told"))


def test_a_page_that_nobody_sees_draws_nothing_and_catches_up(open_page, collection: Path) -> None:
    page = open_page()
    start_run(page, collection, epochs=LONG)
    epoch = by(page, "epoch-now")
    expect(epoch).to_contain_text(re.compile(r"[2-9]|\d\d"))
    page.evaluate("Object.defineProperty(document, 'hidden', { get: () => window.isHidden, configurable: true })")
    page.evaluate("window.isHidden = true")
    before = epoch.text_content()
    wait_for_messages(page, 3)
    assert epoch.text_content() == before
    page.evaluate("window.isHidden = false; document.dispatchEvent(new Event('visibilitychange'))")
    expect(epoch).not_to_have_text(before)


# New sounds


@pytest.fixture(scope="module")
def made(quick_runs: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run with a prior, and the library that it ended in."""
    base = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PriorObjective, "_copied", lambda *_: 0.07)  # there is too little sound to tell
        run_with_prior(base)
    return base


MIDI = """
  window.midi = { name: "Pads", state: "connected", onmidimessage: null };
  navigator.requestMIDIAccess = async () => ({ inputs: new Map([["1", window.midi]]), onstatechange: null });
  window.struck = [];
  const connect = AudioNode.prototype.connect;
  AudioNode.prototype.connect = function (to, ...rest) {
    if (this instanceof GainNode) window.struck.push(this.gain.value);
    return connect.call(this, to, ...rest);
  };
"""


def test_sounds_are_made_played_kept_and_taken_away(web: Web, open_page, made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "models", web.state.library.folder)
    soundfile.write(tmp_path / "mine.wav", tone(300, 0.4), RATE)
    page = open_page("#/library", viewport={"width": 390, "height": 844})
    page.add_init_script(MIDI)
    page.reload()
    by(page, "model-card").get_by_role("link").first.click()
    by(page, "go-make").click()
    pads, status = by(page, "pad"), by(page, "make-status")
    expect(status).to_have_text("16 sounds")
    expect(pads.nth(5)).to_have_accessible_name(re.compile(r"^Pad W: bells 5, 0\.\d+ s, peak"))
    assert_accessible(page)

    # Played by key, and as loud as it is struck; kept, named, and found again by another page.
    page.keyboard.press("w")
    expect(pads.nth(5)).to_have_attribute("aria-pressed", "true")
    by(page, "midi").click()
    page.evaluate("window.midi.onmidimessage({ data: [0x90, 36, 64] })")  # bottom left
    expect(pads.nth(12)).to_have_attribute("aria-pressed", "true")
    assert page.evaluate("window.struck") == pytest.approx([1, 64 / 127])
    page.keyboard.press("k")
    page.keyboard.press("1")
    by(page, "make-keep").click()
    names = by(page, "kept-name")
    expect(names).to_have_count(2)
    names.first.fill("Glocke")
    names.first.press("Enter")
    by(page, "kept-down").first.click()
    expect(names.nth(1)).to_have_value("Glocke")

    # Thrown away: another takes its place. Then like it, unlike it, between two, and on from there.
    page.keyboard.press("2")
    page.keyboard.press("Delete")
    expect(pads.nth(1)).to_contain_text(re.compile(r"bells (1[6-9]|[2-9]\d)"))
    page.keyboard.press("q")
    by(page, "make-more").click()
    expect(status).to_have_text("16 sounds")
    expect(pads.first).to_contain_text("bells 4")
    expect(pads.nth(15)).to_contain_text("bells 4 varied")
    by(page, "make-between").click()
    page.keyboard.press("v")
    expect(pads.nth(8)).to_contain_text("bells 4 to bells 4 varied")
    expect(status).to_have_text("16 sounds")
    by(page, "make-back").click()
    expect(pads.nth(1)).to_contain_text("bells 4 varied")
    by(page, "make-input").set_input_files(tmp_path / "mine.wav")
    expect(pads.first).to_contain_text("mine")
    by(page, "make-longer").click()
    expect(pads.nth(15)).to_contain_text("mine extended")
    expect(pads.nth(15)).to_contain_text("1.4 s")
    page.get_by_text("Length, temperature, loops").click()
    page.get_by_label("Seconds").fill("99")
    by(page, "make-new").click()
    expect(page.get_by_role("alert").filter(has_text="at most 30")).to_be_visible()

    with page.expect_download() as download:
        by(page, "download-pack").click()
    assert download.value.suggested_filename == "kept sounds.zip"
    with page.expect_download() as download:
        by(page, "kept-download").nth(1).click()
    assert download.value.suggested_filename == "Glocke.wav"
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.reload()
    expect(names.nth(1)).to_have_value("Glocke")
    by(page, "kept-remove").first.click()
    expect(names).to_have_count(1)
    by(page, "undo").click()
    expect(names).to_have_count(2)


def test_runs_and_models_are_compared(web: Web, open_page, made: Path, home: Path, tmp_path: Path) -> None:
    for name in ("runs", "models"):
        shutil.copytree(made / name, home / name, dirs_exist_ok=True)
    shutil.copytree(made / "runs/bells", home / "runs/other")
    soundfile.write(tmp_path / "one.wav", tone(300, 0.4), RATE)
    page = open_page("#/runs", viewport={"width": 390, "height": 844})
    by(page, "go-compare").click()
    expect(by(page, "compare-run")).to_have_count(2)
    expect(by(page, "compare-chart").get_by_role("listitem")).to_have_text([re.compile(r"^bells.* 0\.\d+$")] * 2)
    expect(by(page, "compare-table")).to_contain_text("Best loss")
    by(page, "compare-run").first.uncheck()
    page.get_by_label("over").select_option("minutes")
    expect(by(page, "compare-chart").get_by_role("listitem")).to_have_count(1)
    by(page, "compare-input").set_input_files(tmp_path / "one.wav")
    expect(by(page, "compared").get_by_test_id("play")).to_be_enabled()
    page.keyboard.press("c")
    expect(by(page, "switch-c")).to_have_attribute("aria-pressed", "true")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert_accessible(page)


def test_the_end_of_a_run_is_told_to_somebody_who_does_not_see_the_page(open_page, collection: Path) -> None:
    page = open_page()
    start_run(page, collection, epochs=LONG)
    page.evaluate(
        """() => {
          window.notices = [];
          window.Notification = class {
            static permission = "granted";
            constructor(text) { window.notices.push(text); }
          };
          Object.defineProperty(document, "hidden", { get: () => window.isHidden, configurable: true });
        }"""
    )
    expect(by(page, "epoch-now")).to_contain_text("Epoch")
    page.evaluate("window.isHidden = true")
    run = page.url.rpartition("/")[2]
    page.evaluate("run => fetch(`/api/runs/${run}/cancel`, { method: 'POST' })", run)
    page.wait_for_function("() => window.notices.length")
    assert page.evaluate("[document.title, window.notices]") == ["Interrupted: tones", ["tones: interrupted"]]
    page.evaluate("window.isHidden = false; document.dispatchEvent(new Event('visibilitychange'))")
    assert page.title() == "tones – distill"


def test_a_model_without_a_prior_says_what_it_lacks(web: Web, open_page) -> None:
    save_rvq_vae(small_rvq_vae(), web.state.library.folder)
    page = open_page("#/library")
    by(page, "model-card").get_by_role("link").first.click()
    expect(by(page, "no-new-sounds")).to_contain_text("from now on")
    expect(by(page, "go-make")).to_have_count(0)
    page.goto(page.url.partition("#")[0] + "#/make")
    expect(by(page, "no-new-sounds")).to_contain_text("from now on")


def test_a_run_shows_what_its_prior_has_learnt_and_made(open_page, made: Path, home: Path) -> None:
    shutil.copytree(made / "runs", home / "runs", dirs_exist_ok=True)
    page = open_page("#/runs/bells")
    prior = by(page, "prior")
    for _ in range(2):
        expect(prior).to_contain_text("Learnt to make new sounds")
        expect(by(page, "prior-epoch")).to_contain_text("Epoch 2 of 2")
        expect(by(page, "prior-epoch")).to_contain_text("bits per code")
        expect(by(page, "prior-epoch")).to_contain_text("7 % near copies (up to 10 % is usual)")
        expect(prior.get_by_test_id("play")).to_have_count(4)
        expect(prior.get_by_test_id("play").first).to_be_enabled()
        assert_accessible(page)
        page.reload()


def test_a_run_is_watched_while_it_learns_to_make_new_sounds(
    open_page, collection: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at, epoch_event = threading.Event(), PriorObjective.epoch_event

    def held(objective: PriorObjective, model: nn.Module, epoch: EpochResult, observed: list[Tensor]):
        if epoch.epoch == 2:
            looked_at.wait(PATIENCE_S)
        return epoch_event(objective, model, epoch, observed)

    monkeypatch.setattr(PriorObjective, "epoch_event", held)
    page = open_page()
    start_run(page, collection, epochs=5)
    expect(by(page, "epoch-now")).to_contain_text("New sounds: epoch 3 of 5")
    page.reload()
    expect(by(page, "epoch-now")).to_contain_text("New sounds: epoch 3 of 5")
    expect(page.get_by_role("heading", name="Learning to make new sounds")).to_be_visible()
    with page.expect_response(lambda answer: answer.url.endswith("/cancel")):
        by(page, "cancel-run").click()
    looked_at.set()
    expect(by(page, "run-state")).to_have_text(re.compile("interrupted", re.I))
    expect(page.locator(".summary")).to_contain_text("The model is in the library")
    expect(page.get_by_role("link", name="Open the model")).to_be_visible()
    by(page, "resume-run").click()
    expect(by(page, "run-state")).to_have_text(re.compile("finished", re.I))


def test_a_run_can_do_without_new_sounds(web: Web, open_page, collection: Path) -> None:
    page = open_page()
    open_collection(page, collection)
    page.get_by_text("Advanced settings").click()
    page.get_by_label("Learn to make new sounds").uncheck()
    by(page, "start-run").click()
    expect(by(page, "run-state")).to_be_visible()
    (run,) = web.get("/api/runs")
    assert web.state.runs.get(run["id"]).request.config.with_prior is False
    page.locator("nav").get_by_role("link", name="Collection").click()
    page.get_by_text("Continuous (VAE)").click()
    page.get_by_text("Advanced settings").click()
    expect(page.get_by_label("Learn to make new sounds")).to_be_hidden()


# A model family that the page has never heard of

LEVELS = 5
WAVES = "Waves"


@pytest.fixture
def waves():
    """A third family, with codes, figures and two losses of its own; its last epoch and step as `log`."""

    @pydantic.dataclasses.dataclass
    class WaveConfig(EngineConfig):
        latent_dim: int = 8

    @dataclasses.dataclass(frozen=True)
    class WaveStep(StepMetrics):
        drift: float = 0.25

    @dataclasses.dataclass(frozen=True)
    class WaveEpoch(EpochMetrics):
        val_phase_loss: float = 0.125
        codebook_health: dict | None = None

    class WaveHistory(History[StepEvent, EpochEvent]):
        step_type, epoch_type = WaveStep, WaveEpoch

        def get_loss_curves(self) -> dict[str, list[float]]:
            return self._curves(phase_losses="val_phase_loss", kl_losses="val_kl_loss")

    losses = (Loss("val_phase_loss", "phase_losses", "Phase", "How"), Loss("val_kl_loss", "kl_losses", "Foam", "How"))
    panel = FigurePanel("The sea", "As it is.", {"drift": "Drift", "kl_divergence": "Swell", "nothing": "Nothing"})
    kinds = {"config": WaveConfig, "history": WaveHistory, "losses": losses, "panel": panel}
    about = {"name": "waves", "title": WAVES, "summary": "Goes up and down.", "has_codes": True, "generates": True}
    yield register(dataclasses.replace(VAE, **kinds, **about))
    unregister("waves")
    del EVENT_TYPES["WaveStep"], EVENT_TYPES["WaveEpoch"]


def write_run(home: Path, family: str, log: list) -> None:
    """A run folder of that family, as a training that was stopped leaves it."""
    run = RunFolder(home / "runs" / family)
    run.path.mkdir(parents=True)
    about = {"family": family, "started": "2026-01-01T00:00:00+00:00", "dataset_name": "shore", "model_name": family}
    settings = {"config": {"max_epochs": 3}, "model_settings": {"codebook_size": 16}}
    run.write_info(run_info(**about, **settings, validation_vectors=99))
    for event in log:
        run.append(event)


def test_a_third_family_is_chosen_in_the_form_and_has_its_settings(open_page, collection: Path, waves: Family) -> None:
    page = open_page()
    open_collection(page, collection)
    page.get_by_text("Advanced settings").click()
    cards = page.locator("label.card-choice").filter(has=page.locator("input[name=family]"))
    expect(cards).to_have_text([re.compile("Codes.*recommended"), re.compile("Continuous"), re.compile(WAVES)])

    def offered() -> list[str]:
        names = ("Levels of codes", "Codebook size", "Dimensions", "KL weight", "Learning rate", "Variation")
        found = {"Levels of codes": page.get_by_role("group", name="Levels of codes")}
        return [name for name in names if found.get(name, page.get_by_label(name, exact=True)).is_visible()]

    assert offered() == ["Levels of codes", "Codebook size", "Learning rate", "Variation"]
    cards.nth(1).click()
    assert offered() == ["Dimensions", "KL weight", "Learning rate", "Variation"]
    cards.nth(2).click()
    assert offered() == ["Dimensions", "Learning rate", "Variation"]
    assert_accessible(page)


def test_curves_and_panels_of_a_run_are_those_of_its_family(open_page, home: Path, waves: Family) -> None:
    level = {"utilization": 0.9, "perplexity": 12.0, "dead_codes": 1}
    health = {f"level_{number}": level for number in range(LEVELS)}
    step = waves.history.step_type(2, 0, 1, 0.5, 0.5, 0.5, 0.5, 1e-3, 0.1)
    epoch = waves.history.epoch_type(2, 3, 0.5, 0.5, 0.5, 0.75, 7.5, 0.0, 1e-3, 0.0, 9.0, codebook_health=health)
    write_run(home, "waves", [step, epoch])
    page = open_page("#/runs/waves")
    expect(by(page, "epoch-now")).to_contain_text("Epoch 3")
    expect(page.locator("header.panel")).to_contain_text(WAVES)
    legend = by(page, "loss-chart").locator("li")
    expect(legend).to_have_text(["Training 0.5", "Set aside 0.5", "Phase 0.125", "Foam 0.75"])
    figures = page.get_by_role("region", name="The sea").locator("dl div")
    expect(figures).to_have_text(["Drift0.25", "Swell7.5", "Nothing–"])
    expect(by(page, "level-panel")).to_have_count(LEVELS)
    expect(by(page, "level-panel").last).to_contain_text("Level 5")
    expect(by(page, "level-verdict").last).to_contain_text("healthy")
    assert_accessible(page)


def test_a_model_is_shown_as_its_family_says(web: Web, open_page, waves: Family) -> None:
    path = write_model(web.state.library.folder / "sea.distill", "Sea", model_type="waves", vqvae_config={})
    curves = {name: [2.0, 1.0] for name in ("train_losses", "val_losses", "kl_losses", "phase_losses", "other")}
    torch.save(torch.load(path) | {"loss_curve_history": curves}, path)
    page = open_page("#/library")
    page.get_by_label("Family").select_option(label=WAVES)
    expect(by(page, "model-card")).to_contain_text(WAVES)
    by(page, "model-card").get_by_role("link").first.click()
    legend = by(page, "loss-chart").locator("li")
    expect(legend).to_have_text(["Training 1", "Set aside 1", "Phase 1", "Foam 1"])
    expect(page.get_by_role("heading", name="New sounds")).to_be_visible()
    expect(by(page, "level-panel")).to_have_count(1)


def test_a_run_and_a_model_of_an_unknown_family_go_by_its_name(web: Web, open_page, home: Path) -> None:
    write_run(home, "tides", [])
    run = RunFolder(home / "runs" / "tides")
    run.events_path.write_text('{"event": "TideEpoch", "epoch": 0, "train_loss": 1.0}\n')
    write_model(web.state.library.folder / "sea.distill", "Sea", model_type="tides", vqvae_config={})
    page = open_page("#/runs")
    expect(by(page, "run-row")).to_contain_text("tides")
    by(page, "run-row").get_by_role("link").first.click()
    expect(page.locator("header.panel")).to_contain_text("shore · tides")
    expect(by(page, "loss-chart").locator("li")).to_have_count(2)
    page.get_by_role("link", name="Library").click()
    page.get_by_label("Family").select_option(label="tides")
    by(page, "model-card").get_by_role("link").first.click()
    expect(page.get_by_role("heading", name="Listen")).to_be_visible()
    expect(page.locator("p.muted").filter(has_text="tides")).to_be_visible()
    assert_accessible(page)


# Editing codes, and the map


def heard_change(page, act) -> None:
    """Do something, and wait until the server has told what of the sound it changes."""
    with page.expect_response(lambda answer: "/codes/change" in answer.url) as answered:
        act()
    assert answered.value.ok
    answered.value.finished()


def edited_columns(page) -> int:
    return int(page.locator(".editor").inner_text().split(" columns, ")[0].split()[-1])


def drag(page, node, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Drag over a node, from and to shares of its width and height."""
    node.evaluate("node => node.scrollIntoView({ block: 'center' })")  # not below the header
    box = node.bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, end)]
    page.mouse.move(*places[0])
    page.mouse.down()
    page.mouse.move(*places[1], steps=5)
    page.mouse.up()


def test_codes_are_edited_heard_undone_and_saved(web: Web, open_page, tmp_path: Path) -> None:
    save_melody_model(web.state.library.folder)
    soundfile.write(tmp_path / "tune.wav", melody(2.0), MELODY_RATE, subtype="FLOAT")
    key = web.get("/api/models")[0]["id"]
    page = open_page(f"#/models/{key}", viewport={"width": 1280, "height": 1000})
    by(page, "to-edit").click()
    heard_change(page, lambda: by(page, "edit-input").set_input_files(tmp_path / "tune.wav"))
    grid, undo = by(page, "code-grid"), by(page, "edit-undo")
    expect(undo).to_be_disabled()
    columns = edited_columns(page)
    drag(page, grid, (0.1, 0.2), (0.3, 0.4))
    expect(by(page, "edit-selection")).not_to_contain_text("1 column,")
    by(page, "copy").click()
    grid.focus()
    page.keyboard.press("End")
    page.keyboard.press("c")
    page.keyboard.press("Shift+ArrowLeft")
    expect(by(page, "edit-selection")).to_contain_text("2 columns,")
    heard_change(page, lambda: page.keyboard.press("Control+v"))
    heard_change(page, lambda: page.keyboard.press("+"))
    assert edited_columns(page) == columns + 1
    heard_change(page, lambda: by(page, "redraw").click())
    heard_change(page, lambda: by(page, "mute").last.click())
    expect(by(page, "mute").last).to_have_attribute("aria-pressed", "true")
    expect_drawn(grid, 20)
    with page.expect_download() as saved:
        by(page, "save-npz").click()
    grid_of_file = Codes.load(saved.value.path()).grid
    assert (saved.value.suggested_filename, grid_of_file.shape[2]) == ("tune edited.npz", columns + 1)
    assert (grid_of_file[-1] == -1).all()
    assert_accessible(page)
    page.set_viewport_size({"width": 390, "height": 1000})
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.reload()  # what was edited is still there
    expect(by(page, "mute").last).to_have_attribute("aria-pressed", "true")
    assert edited_columns(page) == columns + 1
    by(page, "tool-pick").click()
    drag(page, grid, (0.4, 0.05), (0.4, 0.05))
    expect(by(page, "tool-paint")).to_have_attribute("aria-pressed", "true")
    heard_change(page, lambda: drag(page, grid, (0.5, 0.05), (0.9, 0.05)))
    heard_change(page, undo.click)
    expect(undo).to_be_disabled()  # a stroke of the brush is one step


def test_on_the_map_sounds_are_heard_morphed_made_and_opened(web: Web, open_page) -> None:
    save_melody_model(web.state.library.folder)
    page = open_page(f"#/models/{web.get('/api/models')[0]['id']}")
    by(page, "to-map").click()
    dots, made = page.locator(".map .dot"), page.locator(".map .dot.made")
    expect(dots).to_have_count(8)
    expect(by(page, "map-axes")).to_contain_text("of the differences")
    with page.expect_response(lambda answer: "/codes/sound" in answer.url):  # under the pointer
        dots.nth(2).hover()
    dots.nth(2).click()
    with page.expect_response(lambda answer: "/codes/sound" in answer.url):  # under the focus
        page.keyboard.press("ArrowRight")
    page.keyboard.press(" ")
    expect(by(page, "map-status")).to_contain_text("2 sounds selected")
    by(page, "map-morph").click()
    expect(made).to_have_count(1)
    drag(page, by(page, "map"), (0.02, 0.02), (0.98, 0.98))
    expect(by(page, "map-status")).to_contain_text("9 sounds selected")
    by(page, "map-like").click()
    expect(made).to_have_count(5)
    assert_accessible(page)
    page.reload()
    expect(made).to_have_count(5)  # nothing that was made is lost
    made.first.click()
    by(page, "map-edit").click()
    expect(by(page, "code-grid")).to_be_visible()
    expect(page.locator(".editor h2")).to_contain_text("50 % from")
