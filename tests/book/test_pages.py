"""The built book: what pages ask for, what the API reference shows. First build it: ``python -m meirl book --html``."""

import importlib
import inspect
import os
import pkgutil
import re
import runpy
from functools import cache
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import pytest
from bs4 import BeautifulSoup, SoupStrainer
from pydantic import BaseModel

import meirl
import meirl_book
import meirl_study
from meirl_study import exhibits

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"
EXTENSION = runpy.run_path(str(ROOT / "book" / "_ext" / "meirl_pages.py"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.md"))
MODULES = [
    name
    for package in (meirl, meirl_study, meirl_book)
    for walk in [pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    for name in [package.__name__, *(module.name for module in walk)]
    if not name.endswith("__main__")
]
built = pytest.mark.skipif(not HTML.exists(), reason="run `make html` first")


def room(module: str) -> str:
    """The page of the API reference that documents a module, or what it defines; boxes of code link there."""
    return max((name, page) for name, page in exhibits.reference().items() if f"{module}.".startswith(f"{name}."))[1]


@cache
def api(page: str) -> BeautifulSoup:
    return BeautifulSoup((HTML / "book" / f"{page}.html").read_text(encoding="utf-8"), "html.parser")


def entry(name: str):
    """Heading of an entry of the API reference, for example of ``meirl.learn.ppo.Config``."""
    return api(room(name)).find(id=name)


def table(name: str) -> list[list[str]]:
    """Rows of the table in an entry."""
    rows = entry(name).find_next_sibling("dd").find("table").select("tbody tr")
    return [[plain(cell.text) for cell in row.find_all("td")] for row in rows]


def plain(text: str) -> str:
    return re.sub(r"[`\s]+", " ", text.replace("\u2019", "'").replace("\u2026", "...")).strip()


def classes(wanted) -> dict[str, type]:
    """Public classes of all modules by full name."""
    return {
        f"{module}.{name}": value
        for module in MODULES
        for name, value in vars(importlib.import_module(module)).items()
        if inspect.isclass(value) and value.__module__ == module and name[0] != "_" and wanted(value)
    }


MODELS = classes(lambda c: issubclass(c, BaseModel) and c.model_fields)


def complaints(html: Path) -> list[str]:
    """Requests to other hosts and images without alt text in a built book; links a reader may click are fine."""
    found = []
    for path in sorted(html.rglob("*.html")):
        tags = SoupStrainer(["script", "link", "img", "iframe"])
        for tag in BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser", parse_only=tags).find_all(True):
            address = str(tag.get("src") or (tag.get("href") if tag.get("rel") != ["canonical"] else "") or "")
            if address.startswith(("http:", "https:", "//")):
                found.append(f"{path.name}: {address}")
            if tag.name == "img" and not tag.get("alt"):
                found.append(f"{path.name}: no alt text: {address}")
    return found


def test_remote_requests_and_images_without_alt_text_are_found(tmp_path):
    (tmp_path / "page.html").write_text(
        '<script src="https://example.org/x.js"></script><img src="a.png"><img src="b.png" alt="b">'
        '<a href="https://example.org">a link is fine</a><link rel="stylesheet" href="local.css">',
        encoding="utf-8",
    )
    assert complaints(tmp_path) == ["page.html: https://example.org/x.js", "page.html: no alt text: a.png"]


@built
def test_the_book_asks_no_other_host_for_anything_and_every_image_has_alt_text():
    assert complaints(HTML) == []


@built
def test_every_link_within_the_book_leads_to_a_place_that_is_there():
    texts = {path: path.read_text(encoding="utf-8") for path in HTML.rglob("*.html") if "_static" not in path.parts}
    places = {path: set(re.findall(r'\s(?:id|name)="([^"]+)"', text)) for path, text in texts.items()}
    links = [
        (path, unescape(address))
        for path, text in texts.items()
        for address in re.findall(r'<(?:a|link|img|script)\s[^>]*?\b(?:href|src)="([^"]*)"', text)
    ]
    assert len(links) > 10_000
    lost = set()
    for path, address in links:
        file, _, place = address.partition("#")
        if re.match("[a-z]+:", file):
            continue
        target = HTML / os.path.normpath(path.parent.relative_to(HTML) / file.partition("?")[0]) if file else path
        if not target.is_file() or (place and target in places and unquote(place) not in places[target]):
            lost.add(f"{path.relative_to(HTML)}: {address}")
    assert sorted(lost) == []


def test_the_api_reference_has_every_module_once_and_those_of_a_package_together():
    documented = [
        (module, path.stem)
        for path in sorted((ROOT / "book").glob("api*.md"))
        for module in re.findall(r"automodule:: (\S+)", path.read_text(encoding="utf-8"))
    ]
    assert sorted(documented) == sorted((module, room(module)) for module in MODULES)
    packages = ("meirl.envs", "meirl.heuristics", "meirl.learn", "meirl_study.figures", "meirl_book")
    for package in packages:
        assert len({page for module, page in documented if f"{module}.".startswith(f"{package}.")}) == 1, package


def test_the_summary_has_every_room():
    rooms = re.findall(r"summary:: (\S+)", (ROOT / "book" / "api.md").read_text(encoding="utf-8"))
    assert sorted(rooms) == sorted({room(module) for module in MODULES})


@built
@pytest.mark.parametrize("name", MODELS)
def test_the_api_reference_has_every_parameter_with_its_meaning(name):
    expected = {field: plain(info.description or "") for field, info in MODELS[name].model_fields.items()}
    assert {row[0]: row[4] for row in table(name)} == expected
    assert "FieldInfo" not in entry(name).parent.text


@built
def test_the_api_reference_has_default_bounds_and_type_of_a_parameter():
    rows = {row[0]: row[1:4] for row in table("meirl.learn.ppo.Config")}
    assert rows["clip"] == ["float", "0.2", "≥ 1e-09, ≤ 1e+09"]
    assert rows["discount"] == ["float", "0.99", "≥ 0, ≤ 1"]


@built
def test_the_api_reference_has_the_comments_of_a_named_tuple():
    assert ["lead_time", "Tensor", "(batch, period, N)"] in table("meirl.envs.scenario.Scenario")


@built
def test_names_and_equations_in_docstrings_are_links():
    gae = entry("meirl.learn.experience.gae").parent
    assert gae.find("a", href="04-ppo.html#equation-eq-gae")
    make = entry("meirl.envs.make").parent
    assert make.find("a", href="#meirl.envs.base.Observation.vector")


@pytest.mark.parametrize(
    ("module", "name", "expected"),
    [
        ("meirl.rollout", "Env", "meirl.envs.base.Env"),
        ("meirl.learn.ppo", "Run.validate", "meirl.learn.run.Run.validate"),
        (None, "meirl.make", "meirl.envs.make"),
        (None, "meirl.rollout", "meirl.rollout.rollout"),  # not the module, as in Python
        (None, "meirl.Env.observation_space", "meirl.envs.base.Env.observation_space"),
        ("meirl.learn.ppo", "gradient", "gradient"),
        (None, "meirl.heuristics", "meirl.heuristics"),
        (None, "torch.Tensor.nothing", "torch.Tensor.nothing"),
    ],
    ids=str,
)
def test_a_name_links_to_what_python_finds_under_it(module, name, expected):
    importlib.import_module("meirl.learn.ppo")
    assert EXTENSION["full_name"](module, name) == expected


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_launch_buttons_open_a_notebook_that_exists(path):
    twin = f"notebooks/{path.stem}.ipynb"
    assert (ROOT / twin).exists()
    buttons = EXTENSION["launch_buttons"]("owner/name", twin)["buttons"]
    binder, colab = (button["url"] for button in buttons)
    assert "%pip install 'meirl[book] @ git+https://github.com/owner/name'" in buttons[1]["tooltip"]  # as chapters need
    assert binder == f"https://mybinder.org/v2/gh/owner/name/main?urlpath=lab/tree/{twin}"
    assert colab == f"https://colab.research.google.com/github/owner/name/blob/main/{twin}"


@built
@pytest.mark.parametrize("page", sorted(set(exhibits.reference().values())))
def test_the_api_reference_shows_types_and_defaults_as_in_the_source(page):
    text = api(page).find("main").text
    assert " object at 0x" not in text
    assert not re.search(r"(Posix|Windows)Path\(| = <", text)


@built
def test_the_type_of_a_result_is_its_annotation_not_the_beginning_of_a_sentence():
    fields = entry("meirl.evaluation.compare").find_next_sibling("dd")
    named = {term.text.rstrip(":"): term.find_next_sibling("dd").text.strip() for term in fields.find_all("dt")}
    assert named["Return type"] == "DataFrame"
    assert named["Returns"].startswith("One row a policy: mean cost")
