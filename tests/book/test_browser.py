"""The built book in a real browser, at desk and phone width. Build it first: ``python -m meirl book --html``."""

import json
from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.support.ui import WebDriverWait

HTML = Path(__file__).resolve().parents[2] / "_build" / "html"
AXE = (Path(__file__).parent / "axe-core" / "axe.min.js").read_text(encoding="utf-8")  # Deque's, under MPL 2.0
BUILT = [path.relative_to(HTML).as_posix() for path in sorted(HTML.rglob("*.html"))]
# Not the theme's templates, nor the address of the book, which only sends on to the first page.
PAGES = [page for page in BUILT if not page.startswith("_static/") and page != "index.html"]
# Sphinx makes ninety source listings from one template: for axe-core, which takes seconds, the longest stand for all.
LISTINGS = sorted(
    (page for page in PAGES if page.startswith("_modules/")), key=lambda page: (HTML / page).stat().st_size
)
READ = [page for page in PAGES if page not in LISTINGS[:-3]]
WATCH = "book/07-watch-an-episode.html"
DESK, PHONE = 1300, 390
READY = "return !document.querySelector('.w-wait:not([hidden])')"  # the player, where there is one, has its data
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
# What keeps people from reading or using a page, serious or critical, as axe-core knows it. The first argument is the
# theme; the dark one differs in colours only.
BARRIERS = """
const [theme, done] = arguments, style = document.createElement('style');
style.textContent = '* { transition: none !important; animation: none !important; }';
document.head.append(style);
document.documentElement.dataset.theme = theme;
const dark = { runOnly: { type: 'rule', values: ['color-contrast'] } };
axe.run(document, { resultTypes: ['violations'], ...(theme === 'dark' ? dark : {}) }).then(({ violations }) => done(
  violations.filter(({ impact }) => ['serious', 'critical'].includes(impact)).flatMap(({ id, nodes }) =>
    nodes.map(({ html, any, all, none }) => `${id}: ${[...any, ...all, ...none][0]?.message} ${html.slice(0, 200)}`))))
  .catch((error) => done([String(error)]));
"""
BAD_MATH = """
return [...document.querySelectorAll('[data-mjx-error], mjx-container [fill="red"], mjx-container [stroke="red"]')]
  .map(e => e.getAttribute('data-mjx-error') || e.closest('mjx-container').outerHTML.slice(0, 200));
"""


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


ACT = {"button", "link", "slider", "combobox", "listbox", "radio", "checkbox", "textbox", "searchbox", "spinbutton"}


def spoken(chrome: Chrome) -> list[tuple[str, str, bool]]:
    """What a screen reader meets: role, name, and whether changes are announced, as the browser sees it.

    Axe-core takes every label around an input for its name; a browser takes the first element that it may belong to.
    """
    nodes = chrome.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    return [
        (node["role"]["value"], node.get("name", {}).get("value", "").strip(),
         any(p["name"] == "live" and p["value"]["value"] != "off" for p in node.get("properties", ())))
        for node in nodes if not node["ignored"]
    ]  # fmt: skip


def barriers(chrome: Chrome, theme: str) -> list[str]:
    """Barriers on the page that is open, `BARRIERS`."""
    chrome.execute_script(AXE)
    return chrome.execute_async_script(BARRIERS, theme)


@pytest.mark.parametrize("page", PAGES or [pytest.param("", marks=pytest.mark.skip("run `make html` first"))])
def test_page_is_whole_in_a_browser_and_keeps_nobody_out(page, chrome, host):
    chrome.get(host + page)
    chrome.execute_async_script(TYPESET)
    WebDriverWait(chrome, 60).until(lambda _: chrome.execute_script(READY))
    assert [role for role, name, _ in spoken(chrome) if role in ACT and not name] == [], "nobody hears what these do"
    assert chrome.execute_script(BAD_MATH) == []
    assert chrome.execute_script(NO_ALT) == []
    for width in (PHONE, DESK):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        assert chrome.execute_script(OVERFLOW) == [], f"sticks out at {width} pixels"
        if page.startswith("book/"):
            cut = chrome.execute_async_script(CUT, width == PHONE)
            assert cut == [], f"cut at {width} pixels" + ", and nothing says so" * (width == PHONE)
    for theme in ("light", "dark") if page in READ else ():
        assert barriers(chrome, theme) == [], f"in the {theme} theme"
    assert requests(chrome, host) == []
    assert [entry["message"] for entry in chrome.get_log("browser") if entry["level"] == "SEVERE"] == []


@pytest.mark.skipif(WATCH not in PAGES, reason="run `make html` first")
def test_a_player_that_plays_is_silent(chrome, host):
    """Of all numbers that change, 25 times a second, none is announced; two sentences are, when it stands still."""
    chrome.get(host + WATCH)
    WebDriverWait(chrome, 60).until(lambda _: chrome.execute_script(READY))
    assert [role for role, _, live in spoken(chrome) if live] == ["status"] * 2
    sliders = [name for role, name, _ in spoken(chrome) if role == "slider"]
    assert sliders == ["Time", "level, warehouse", *(f"level, retailer {shop}" for shop in (1, 2, 3))]


def test_barriers_are_found(chrome, tmp_path):
    page = tmp_path / "page.html"
    text = '<!doctype html><html lang="en"><title>Page</title><main><h1>Page</h1>{}</main>'
    for body, wrong in (
        ("<p>fine</p>", None),
        ("<button></button>", "button-name"),
        ("<img src='a.png'>", "image-alt"),
    ):
        page.write_text(text.format(body), encoding="utf-8")
        chrome.get(page.as_uri())
        assert [found.split(":")[0] for found in barriers(chrome, "light")] == [wrong] * (wrong is not None)
    page.write_text(text.format('<p style="color: #999; background: #aaa">pale</p>'), encoding="utf-8")
    chrome.get(page.as_uri())
    assert barriers(chrome, "dark")[0].startswith("color-contrast: ")


def test_a_phone_shows_a_figure_whole_and_enlarges_it_on_demand(chrome, tmp_path):
    static = Path(__file__).resolve().parents[2] / "book" / "_static"
    picture = (static / "evidence.png").as_uri()
    css, js = ((static / name).as_uri() for name in ("custom.css", "scrolls.js"))
    files = f'<link rel="stylesheet" href="{css}"><script src="{js}"></script>'
    head = '<!doctype html><html lang="en"><meta name="viewport" content="width=device-width"><title>Page</title>'
    style = "<style>img { max-width: 100% }</style>"
    page = tmp_path / "page.html"
    page.write_text(f'{head}{style}{files}<figure><img src="{picture}" alt="a"></figure>', encoding="utf-8")
    size = {"width": PHONE, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    chrome.get(page.as_uri())
    width = "return document.querySelector('img').getBoundingClientRect().width"
    assert chrome.execute_script(width) <= PHONE
    chrome.execute_script("document.querySelector('button').click()")
    assert chrome.execute_script(width) == 900
    assert chrome.execute_script(OVERFLOW) == []
    chrome.execute_script("document.querySelector('img').click()")
    assert chrome.execute_script(width) <= PHONE
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size | {"width": DESK, "mobile": False})
    assert chrome.execute_script("return getComputedStyle(document.querySelector('button')).display") == "none"
