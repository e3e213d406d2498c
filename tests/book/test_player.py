"""The player of the built page *Watch an episode*: links into its page, marks, chains that come late."""

from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.support.ui import WebDriverWait

PAGE = "book/07-watch-an-episode.html"
BUILT = (Path(__file__).resolve().parents[2] / "_build" / "html" / PAGE).exists()
pytestmark = pytest.mark.skipif(not BUILT, reason="run `make html` first")
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}


def opened(chrome: Chrome, address: str) -> None:
    """Open the page anew, and wait until the player is there."""
    chrome.get("about:blank")
    chrome.get(address)
    WebDriverWait(chrome, 60).until(
        lambda _: not chrome.execute_script("return document.querySelector('#watch').hidden")
    )


@pytest.fixture
def style(chrome, host):
    """A property of the style of the first element that a selector finds."""
    opened(chrome, host + PAGE)
    script = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
    yield lambda selector, name: chrome.execute_script(script, selector, name)
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


@pytest.mark.parametrize("place", ["beat-the-rule", "how-it-works-and-how-exact-it-is"])
def test_a_link_to_a_section_shows_it_on_a_phone(place, chrome, host):
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    opened(chrome, f"{host}{PAGE}#{place}")
    top = "return document.querySelector(':target').getBoundingClientRect().top"
    try:
        WebDriverWait(chrome, 10).until(lambda _: 0 <= chrome.execute_script(top) < 200)
    finally:
        chrome.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_who_orders_is_marked(style):
    assert style(".w-race label:has(:checked)", "boxShadow") != "none"
    assert style(".w-board .w-on", "boxShadow") != "none"


def test_bars_and_key_keep_their_colours_where_the_system_has_its_own(chrome, style):
    """High contrast, on Windows: without its colours a bar has no length."""
    before = [style(selector, "backgroundColor") for selector in (".w-race u", ".w-key .w-owed")]
    features = [{"name": "forced-colors", "value": "active"}]
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    assert [style(selector, "backgroundColor") for selector in (".w-race u", ".w-key .w-owed")] == before


def test_a_player_stops_at_the_end_of_a_shorter_chain_that_came_while_it_played(chrome, host):
    opened(chrome, host + PAGE)
    chrome.execute_script(
        "document.querySelector('.w-speed').value = 75; const select = document.querySelector('.w-env');"
        "select.value = 2; select.dispatchEvent(new Event('change')); document.querySelector('.w-play').click();"
    )
    state = "return ['.w-clock', '.w-play'].map((name) => document.querySelector(name).textContent)"
    WebDriverWait(chrome, 60).until(lambda _: chrome.execute_script(state) == ["day 365 of 365", "Play"])
