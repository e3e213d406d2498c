"""A real browser, and a server of the built book, for the tests of what readers see."""

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
SLOWEST = 120  # seconds that a script in the page may take: axe-core on the longest page, beside other work


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture(scope="session")
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
    driver.set_script_timeout(SLOWEST)
    yield driver
    driver.quit()
