"""An HTML report in a headless Chromium, without a network: what a page must do for everybody who reads it."""

from pathlib import Path
from typing import Any

import pytest

from tests.comfyui.browser import CHROMIUM

PHONE = {"width": 400, "height": 800}
LIGHTNESS = """name => {
    const [red, green, blue] = getComputedStyle(document.body)[name].match(/[\\d.]+/g).map(Number)
    return (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255
}"""
UNNAMED = """() => [...document.querySelectorAll("img, video, meter")]
    .filter(shown => !(shown.alt || shown.ariaLabel)).map(shown => shown.outerHTML.slice(0, 80))"""
# All that a mouse could scroll or press: videos, boxes that are wider than the page, what opens and closes.
REACHABLE = """() => [...document.querySelectorAll("video, .wide, summary, a, button, input, select")].length"""


def check_page(path: Path) -> None:
    """Opens offline, is dark where the reader wants it, names all it shows, and is used by keyboard; on a phone too."""
    play = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("install Chromium to open the page")
    with play.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--headless=new"])
        context = browser.new_context(color_scheme="dark", offline=True, viewport=PHONE)
        page = context.new_page()
        wanted, errors = [], []
        page.on("request", lambda request: wanted.append(request.url))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.goto(path.as_uri())
        page.wait_for_function("() => [...document.images].every(image => image.complete && image.naturalWidth)")
        page.wait_for_function("() => [...document.querySelectorAll('video')].every(video => video.readyState >= 2)")
        assert errors == [] and [url for url in wanted if not url.startswith(("file:", "data:"))] == []
        assert page.evaluate(UNNAMED) == []
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), "only boxes scroll sideways"
        assert page.evaluate(LIGHTNESS, "color") > 0.6, "light text"
        scheme = page.evaluate("() => getComputedStyle(document.documentElement).colorScheme")
        assert "dark" in scheme, "the browser's own parts are dark too"
        _use_the_keyboard(page)
        page.emulate_media(color_scheme="light")
        assert page.evaluate(LIGHTNESS, "color") < 0.4, "dark text"
        browser.close()


def _use_the_keyboard(page: Any) -> None:
    """Tab reaches all there is, and the space bar stops a clip."""
    reached = set()
    for _ in range(40 * page.evaluate(REACHABLE)):  # the buttons of a video take a Tab each
        page.keyboard.press("Tab")
        name = page.evaluate(
            "() => [...document.querySelectorAll('video, .wide, summary, a, button, input, select')]"
            ".indexOf(document.activeElement)"
        )
        reached |= {name} - {-1}
        if len(reached) == page.evaluate(REACHABLE):
            break
    assert len(reached) == page.evaluate(REACHABLE)
    if not page.locator("video").count():
        return
    page.locator("video").first.focus()
    page.wait_for_function("() => !document.querySelector('video').paused")
    page.keyboard.press("Space")
    page.wait_for_function("() => document.querySelector('video').paused")
