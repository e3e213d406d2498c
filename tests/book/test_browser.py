"""The built book in a real browser, at desk and phone width. Build it first: ``python -m meirl book --html``."""

import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from selenium.common.exceptions import WebDriverException
from selenium.webdriver import Chrome, ChromeOptions

from meirl_book import pdf

HTML = Path(__file__).resolve().parents[2] / "_build" / "html"
BUILT = [path.relative_to(HTML).as_posix() for path in sorted(HTML.rglob("*.html"))]
# Not the theme's templates, nor the address of the book, which only sends on to the first page.
PAGES = [page for page in BUILT if not page.startswith("_static/") and page != "index.html"]
DESK, PHONE = 1300, 390
TYPESET = "const done = arguments[0]; window.MathJax?.startup ? MathJax.startup.promise.then(() => done()) : done()"
# What sticks out of the page to the right, unless a box around it scrolls or clips.
OVERFLOW = """
const inside = e => { for (let p = e; p && p !== document.body; p = p.parentElement)
                        if (getComputedStyle(p).overflowX !== 'visible') return true; return false; };
return document.documentElement.scrollWidth <= innerWidth ? [] : [...document.body.querySelectorAll('*')]
  .filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !inside(e)).map(e => e.outerHTML.slice(0, 200));
"""
# Code, tables and pictures wider than their column, folded ones too; with an argument: tables and pictures that scroll
# and do not say so.
CUT = """
const [unsaid, done] = arguments;
document.querySelectorAll('details').forEach(details => details.open = true);
const open = e => e !== document.body && getComputedStyle(e).overflowX === 'visible';
const box = e => { while (open(e)) e = e.parentElement; return e; };
const says = e => getComputedStyle(e, '::before').content.includes('scroll');
requestAnimationFrame(() => setTimeout(() => done(
  [...document.querySelectorAll(unsaid ? 'main table, main img' : 'main pre, main table, main img')]
    .filter(e => { const p = box(e); return p.scrollWidth > p.clientWidth + 1 && !(unsaid && says(p)); })
    .map(e => (e.innerText || e.alt).slice(0, 200)))));
"""
NO_ALT = "return [...document.images].filter(i => !i.alt || !i.naturalWidth).map(i => i.outerHTML.slice(0, 200))"
BAD_MATH = """
return [...document.querySelectorAll('[data-mjx-error], mjx-container [fill="red"], mjx-container [stroke="red"]')]
  .map(e => e.getAttribute('data-mjx-error') || e.closest('mjx-container').outerHTML.slice(0, 200));
"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    """Address of a local server of the built book."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=HTML)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def chrome() -> Iterator[Chrome]:
    options = ChromeOptions()
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    for option in pdf.OPTIONS:
        options.add_argument(option)
    try:
        options.binary_location = pdf.browser()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SE_OFFLINE", "true")  # use the chromedriver that is installed, fetch none
            driver = Chrome(options)
    except (ValueError, WebDriverException) as error:
        pytest.skip(f"no Chromium-based browser with its chromedriver: {str(error).splitlines()[0]}")
    yield driver
    driver.quit()


def requests(chrome: Chrome, host: str) -> list[str]:
    """Requests to other hosts and failed ones, since the last call."""
    found, asked = [], {}
    for entry in chrome.get_log("performance"):
        event = json.loads(entry["message"])["message"]
        parameters = event["params"]
        if event["method"] == "Network.requestWillBeSent":
            url = asked[parameters["requestId"]] = parameters["request"]["url"]
            if not url.startswith((host, "data:", "blob:")):
                found.append(f"another host: {url}")
        elif event["method"] == "Network.loadingFailed":
            found.append(f"{parameters['errorText']}: {asked.get(parameters['requestId'])}")
        elif event["method"] == "Network.responseReceived" and parameters["response"]["status"] >= 400:
            found.append(f"{parameters['response']['status']}: {parameters['response']['url']}")
    return found


@pytest.mark.parametrize("page", PAGES or [pytest.param("", marks=pytest.mark.skip("run `make html` first"))])
def test_page_is_whole_in_a_browser(page, chrome, host):
    chrome.get(host + page)
    chrome.execute_async_script(TYPESET)
    assert chrome.execute_script(BAD_MATH) == []
    assert chrome.execute_script(NO_ALT) == []
    for width in (DESK, PHONE):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        assert chrome.execute_script(OVERFLOW) == [], f"sticks out at {width} pixels"
        if page.startswith("book/"):
            cut = chrome.execute_async_script(CUT, width == PHONE)
            assert cut == [], f"cut at {width} pixels" + ", and nothing says so" * (width == PHONE)
    assert requests(chrome, host) == []
    assert [entry["message"] for entry in chrome.get_log("browser") if entry["level"] == "SEVERE"] == []
