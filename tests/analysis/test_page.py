"""The report's page: what it is told, and what it does in a real browser."""

import json
import re
import shutil

import numpy as np
import pytest

from sb3_gogepo.analysis.films import Film
from sb3_gogepo.analysis.page import fill_page, slider_data
from sb3_gogepo.analysis.policy_map import GeneratorPath, PolicyMap
from sb3_gogepo.base.command_sweep import CommandSweep

COMMANDS = np.array([0.0, 10.0, 20.0, 30.0, 40.0])


def make_page(tmp_path, with_films=True, with_map=True, body="<p>below</p>"):
    """Two films, of 0 and 40, dark red and blue; policies on a line."""
    sweep = CommandSweep(COMMANDS, COMMANDS + 1, std_returns=np.full(5, 0.5), mean_lengths=np.full(5, 1200.0))
    films = []
    for command, color in ((0.0, (200, 0, 0)), (40.0, (0, 0, 200))):
        frames = np.broadcast_to(np.array(color, np.uint8), (10, 30, 40, 3))
        films.append(Film(command, episode_return=command + 2, length=9, every=1, frames=frames, fps=30.0))
    path = GeneratorPath(5, COMMANDS, np.stack([COMMANDS, np.zeros(5)], axis=1))
    policy_map = PolicyMap(path.points + 1, COMMANDS, [path], (0.6, 0.3), "learned")
    data = slider_data(
        sweep,
        n_eval_episodes=3,
        predicted=COMMANDS,
        films=films if with_films else [],
        no_films="" if with_films else "No films: <b>nothing</b> draws",
        policy_map=policy_map if with_map else None,
        map_text="the map" if with_map else "Needs the replay buffer.",
    )
    page = tmp_path / "index.html"
    page.write_bytes(fill_page("A & B", body, data))
    return page


def test_page_holds_all_it_shows(tmp_path):
    page = make_page(tmp_path, with_films=False, body="[[data]]").read_text()
    assert page.count("A &amp; B") == 2
    assert "\n[[data]]\n" in page  # what fills a gap is no gap
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)
    data = json.loads(text)
    assert data["no_films"] == "No films: <b>nothing</b> draws"
    assert "<b>" not in page
    assert data["commands"] == COMMANDS.tolist()
    assert data["map"]["path"][1] == [10, 0]
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    assert "http" not in page


@pytest.fixture(scope="module")
def browser():
    """Chromium without a screen: Playwright's own, or the one on the path."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="the extra `test` has Playwright, which drives a browser")
    installed = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_api.sync_playwright() as playwright:
        try:
            chromium = playwright.chromium.launch(executable_path=installed, args=["--no-sandbox"])
        except sync_api.Error as error:
            pytest.skip(f"there is no Chromium on this machine: {str(error).splitlines()[0]}")
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser):
    """``open_page(path, **context)``: the page, on which errors of scripts and requests to the network are failures."""
    contexts = []

    def open_(path, **kwargs):
        context = browser.new_context(**kwargs)
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "request", lambda request: None if request.url.startswith(("file:", "data:")) else problems.append(request.url)
        )
        page.goto(path.as_uri())
        contexts.append(context)
        return page

    problems = []
    yield open_
    for context in contexts:
        context.close()
    assert not problems


def pixel(page):
    """Red, green, blue in the middle of the film."""
    page.wait_for_function("sheets.every(sheet => sheet.complete)")
    return page.evaluate("paint(), [...pen.getImageData(canvas.width / 2, canvas.height / 2, 1, 1).data].slice(0, 3)")


def test_keys_move_everything(tmp_path, open_page):
    page = open_page(make_page(tmp_path), reduced_motion="reduce")
    assert page.inner_text("#asked") == "40.0"
    assert page.inner_text("#got") == "41.0 ± 0.50"
    assert pixel(page) == pytest.approx([0, 0, 200], abs=5)
    before = page.evaluate("['here', 'there'].map(id => get(id).getAttribute('cx'))")
    page.keyboard.press("ArrowLeft")  # the slider has the focus
    assert page.inner_text("#asked") == "30.0"
    assert "policy for 40.0, which earned 42.0" in page.inner_text("#film-text")
    assert "nearest of 2 that were filmed" in page.inner_text("#film-text")
    after = page.evaluate("['here', 'there'].map(id => get(id).getAttribute('cx'))")
    assert all(float(new) < float(old) for new, old in zip(after, before, strict=True))
    page.keyboard.press("Home")
    assert page.inner_text("#asked") == "0.00"
    assert pixel(page) == pytest.approx([200, 0, 0], abs=5)
    assert page.get_attribute("#command", "aria-valuetext") == "commanded 0.00, achieved 1.00"
    assert "1,200 steps" in page.inner_text("#facts")


def test_clicks_and_films(tmp_path, open_page):
    page = open_page(make_page(tmp_path))
    box = page.locator("#curve").bounding_box()
    page.mouse.click(box["x"] + 0.15 * box["width"], box["y"] + 0.8 * box["height"])
    assert page.inner_text("#asked") == "0.00"
    page.wait_for_function("k > 1")  # the film goes on
    page.click("#pause")
    stopped = page.evaluate("k")
    page.wait_for_timeout(150)
    assert page.evaluate("k") == stopped
    assert page.inner_text("#pause") == "Play"


def test_small_screen(tmp_path, open_page):
    page = open_page(make_page(tmp_path), viewport={"width": 320, "height": 600})
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    page.evaluate("scrollTo(0, 500)")
    assert page.locator("#command").bounding_box()["y"] < 200  # the slider stays in sight
    films, curve = (page.locator(name).bounding_box() for name in ("#film-box", "#curve"))
    assert curve["y"] > films["y"] + films["height"] - 1


def test_what_is_missing_is_said(tmp_path, open_page):
    page = open_page(make_page(tmp_path, with_films=False, with_map=False))
    assert page.inner_text("#film-box") == "No films: <b>nothing</b> draws"
    assert page.inner_text("#map-box") == "Needs the replay buffer."
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#asked") == "30.0"
