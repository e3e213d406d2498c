"""What a shared link shows: title, description and picture on every page of the built book."""

import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
from bs4 import BeautifulSoup

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"
EXTENSION = runpy.run_path(str(ROOT / "book" / "_ext" / "meirl_pages.py"))
CHAPTERS = sorted((HTML / "book").glob("*.html"))
FIRST = HTML / "book" / "00-abstract.html"
built = pytest.mark.skipif(not HTML.exists(), reason="run `make html` first")


def preview(path: Path) -> dict[str, str]:
    """Open Graph tags and the description of a page."""
    tags = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser").find_all("meta")
    return {str(tag.get("property") or tag.get("name")): str(tag.get("content")) for tag in tags}


@built
@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_every_page_has_a_preview(path):
    found = preview(path)
    assert found["og:title"].strip()
    assert found["og:image:alt"]
    assert (HTML / re.sub(r"^https://[^/]+/[^/]+/", "", found["og:image"])).exists()
    assert len(found["og:description"]) > 20 or path.stem.startswith("api")
    assert "description" in found or path.stem.startswith("api")


@built
def test_the_address_of_the_book_has_the_preview_of_its_first_page_and_sends_on():
    text = (HTML / "index.html").read_text(encoding="utf-8")
    ours, theirs = preview(HTML / "index.html"), preview(FIRST)
    tags = [tag for tag in theirs if tag.startswith("og:") or tag == "description"]
    assert len(tags) >= 5
    assert {tag: ours[tag] for tag in tags} == {tag: theirs[tag] for tag in tags}
    assert 'http-equiv="refresh" content="0; url=book/00-abstract.html"' in text
    assert (
        BeautifulSoup(text, "html.parser").title.text
        == BeautifulSoup(FIRST.read_text("utf-8"), "html.parser").title.text
    )


@pytest.mark.parametrize(
    ("repository", "before", "after"),
    [("Owner/book", "", "https://owner.github.io/book/"), ("o/b", "https://own.example/", "https://own.example/"),
     ("Owner/owner.github.io", "", "https://owner.github.io/"), ("o/b.git", "", "https://o.github.io/b/"),
     (None, "", "")],
)  # fmt: skip
def test_the_address_of_the_repository_says_where_the_book_is(repository, before, after, monkeypatch, tmp_path):
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    monkeypatch.chdir(tmp_path)
    urls = f'[project.urls]\nRepository = "https://github.com/{repository}"\n' if repository else "[project]\n"
    (tmp_path / "pyproject.toml").write_text(urls, encoding="utf-8")
    config = SimpleNamespace(ogp_site_url=before)
    EXTENSION["published_at"](None, config)
    assert config.ogp_site_url == after


def test_a_fork_on_github_has_its_own_address_and_no_project_has_none(monkeypatch, tmp_path):
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    assert EXTENSION["repository"](tmp_path) == ""
    (tmp_path / "pyproject.toml").write_text(
        '[project.urls]\nRepository = "https://github.com/o/b"\n', encoding="utf-8"
    )
    assert EXTENSION["repository"](tmp_path) == "o/b"
    monkeypatch.setenv("GITHUB_REPOSITORY", "fork/b")
    assert EXTENSION["repository"](tmp_path) == "fork/b"


def test_an_address_that_is_none_is_refused(monkeypatch, tmp_path):
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    (tmp_path / "pyproject.toml").write_text('[project.urls]\nRepository = "gh:o/b"\n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"pyproject\.toml: project\.urls\.Repository must be .*, got 'gh:o/b'"):
        EXTENSION["repository"](tmp_path)


def test_every_page_links_to_the_repository_and_a_chapter_to_its_notebook(monkeypatch):
    monkeypatch.setenv("GITHUB_REPOSITORY", "o/b")
    monkeypatch.chdir(ROOT)
    for page, count in {"book/glossary": 1, "book/03-heuristics": 2}.items():
        context = {"header_buttons": []}
        EXTENSION["launch"](None, page, "", context, None)
        assert len(context["header_buttons"]) == count
        assert context["header_buttons"][0]["url"] == "https://github.com/o/b"


def test_the_front_door_takes_over_title_and_tags_only(tmp_path):
    (tmp_path / "book").mkdir()
    head = '<title>T</title>\n<meta property="og:title" content="T &quot;q&quot;" />\n<meta name="theme" content="x" />'
    (tmp_path / "book" / "first.html").write_text(f"<head>{head}</head><body>b</body>", encoding="utf-8")
    app = SimpleNamespace(
        outdir=str(tmp_path), config=SimpleNamespace(root_doc="book/first", language="en", html_title="P"),
        builder=SimpleNamespace(name="html", get_target_uri=lambda name: f"{name}.html"),
    )  # fmt: skip
    EXTENSION["front_door"](app, None)
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert head.splitlines()[0] in text
    assert head.splitlines()[1] in text
    assert "theme" not in text
    assert "url=book/first.html" in text
