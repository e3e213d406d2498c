"""The book: pairs in sync, pages made reproducibly, published chapters made from the committed notebooks."""

import re
import runpy
import shutil
import subprocess
import sys
from io import StringIO
from pathlib import Path

import jupytext
import nbformat
import pandas as pd
import pytest
import yaml
from pybtex.database import parse_file

import meirl
from meirl.__main__ import main
from meirl_book import make as book
from meirl_book import pdf
from meirl_study import study
from meirl_study.evidence import ROWS

ROOT = Path(__file__).resolve().parents[2]
sources = runpy.run_path(str(ROOT / "notebooks" / "check_pairs.py"))["sources"]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.md"))
EXERCISED = [p for p in NOTEBOOKS if re.match(r"(0[1-5]|10)-|07-eval|08-threats|09-", p.stem)]
PAGES = book.pages(ROOT)
COLUMN = 80  # characters of code that the column of a page shows without scrolling
NOTEBOOK = """\
---
kernelspec: {name: python3, display_name: Python 3, language: python}
---

# A title

A question.

```{code-cell} ipython3
:tags: [parameters]

profile = "quick"
seed = 0
device = "cpu"
cell = "default"
```

```{code-cell} ipython3
print(profile, seed, cell)
object()
```
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A small project with one notebook and one published page."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "book" / "_static").mkdir(parents=True)
    (tmp_path / "notebooks" / "01-toy.md").write_text(NOTEBOOK, encoding="utf-8")
    (tmp_path / "book" / "01-toy.ipynb").write_text("published", encoding="utf-8")
    (tmp_path / "book" / "prose.md").write_text("# Prose\n", encoding="utf-8")
    (tmp_path / "_config.yml").write_text(
        "only_build_toc_files: true\nexecute: {execute_notebooks: 'off'}\n", encoding="utf-8"
    )
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: book/prose\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_pair_is_in_sync_and_executed(path):
    source = jupytext.read(path)
    pair = nbformat.read(path.with_suffix(".ipynb"), as_version=4)
    assert sources(pair) == sources(source), "run `make pairs`"
    code = [cell for cell in pair.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), "run `make pairs`"
    said = [output.text for cell in code for output in cell.outputs if output.get("name") == "stderr"]
    assert said == [], "warnings, and paths of one machine"
    assert [cell.id for cell in pair.cells] == [f"cell-{i:02}" for i in range(len(pair.cells))]
    assert set(pair.metadata) <= {"jupytext", "kernelspec", "language_info"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_code_fits_its_column(path):
    hidden = {"remove-cell", "remove-input"}
    cells = [cell for cell in jupytext.read(path).cells if not hidden & set(cell.metadata.get("tags", ()))]
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    shell = re.findall(r"^```bash\n(.*?)^```", prose, re.MULTILINE | re.DOTALL)
    assert [line for block in code + shell for line in block.splitlines() if len(line) > COLUMN] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_has_the_parameters_and_opens_and_closes_as_agreed(path):
    notebook = jupytext.read(path)
    (parameters,) = (c.source for c in notebook.cells if "parameters" in c.metadata.get("tags", ()))
    values: dict = {}
    exec(parameters, values)
    assert values["profile"] == "quick"
    assert {"seed", "device"} <= set(values)
    assert re.search(r"^\*\*.*\?\*\*$", notebook.cells[0].source, re.MULTILINE), "the question in bold"
    for cell in notebook.cells:
        if figure := cell.metadata.get("mystnb", {}).get("figure"):
            assert figure["caption"]
            assert figure["name"].startswith("fig-")
            assert cell.metadata["mystnb"]["image"]["alt"]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_published_page_comes_from_the_committed_notebook(page):
    published = nbformat.read(ROOT / "book" / f"{page.name}.ipynb", as_version=4)
    source = jupytext.read(page.notebook)
    if page.title:
        source.cells[0].source = re.sub(r"^# .*", f"# {page.title}", source.cells[0].source)
    assert sources(published) == sources(source), "run `make book PROFILE=full`"
    assert published.cells[-1].metadata["tags"] == ["provenance"], "how the page was made stands at its foot"
    assert "profile `full`" in published.cells[-1].source


def test_the_quick_book_is_built_from_what_the_pairs_show(tmp_path):
    """`make book` without executing it: pairs hold what a quick run shows, and nbval compares them with one.

    Every number fits its format and every figure its references, or there is a warning, and warnings are errors. The
    published book has the same API and source listings, with links into them: here they are left out.
    """
    leave = shutil.ignore_patterns("*.ipynb", "__pycache__", "api-*.md")
    shutil.copytree(ROOT / "book", tmp_path / "book", ignore=leave)
    (tmp_path / "book" / "api.md").write_text("# API reference\n", encoding="utf-8")
    config, toc = (yaml.safe_load((ROOT / name).read_text(encoding="utf-8")) for name in ("_config.yml", "_toc.yml"))
    config["sphinx"]["extra_extensions"].remove("sphinx.ext.viewcode")
    del config["sphinx"]["config"]["viewcode_follow_imported_members"]  # unknown without its extension: a warning
    config["sphinx"]["config"]["nitpick_ignore_regex"] = [["py:.*", ".*"]]
    (api,) = (chapter for part in toc["parts"] for chapter in part["chapters"] if chapter["file"] == "book/api")
    del api["sections"]
    for name, content in {"_config.yml": config, "_toc.yml": toc}.items():
        (tmp_path / name).write_text(yaml.safe_dump(content), encoding="utf-8")
    for page in PAGES:
        notebook = nbformat.read(page.notebook.with_suffix(".ipynb"), as_version=4)
        book.describe(notebook, page, {"profile": "quick", **page.parameters})
        nbformat.write(notebook, tmp_path / "book" / f"{page.name}.ipynb")
    first = book.build(tmp_path, tmp_path / "html")
    text = (first.parent / "book" / "02-scenarios.html").read_text(encoding="utf-8")
    assert "profile <code" in text


def test_the_readme_has_the_answer_and_the_figure_of_the_first_page():
    _, figure, _ = book.evidence(ROOT)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"{book.EVIDENCE_BEGINS}\n\n{book.answer(ROOT)}\n\n{book.EVIDENCE_ENDS}" in readme
    assert "](book/_static/evidence.png)" in readme
    assert (ROOT / "book" / "_static" / "evidence.png").read_bytes() == figure


def test_publishing_gives_the_readme_the_answer_of_the_page(tmp_path):
    (tmp_path / "book" / "_static").mkdir(parents=True)
    shown = {"evidence": [("text/markdown", "| all |"), ("image/png", "cG5n"), ("text/csv", "a,b")]}
    shown["answer"] = [("text/markdown", "| three rows |")]
    cells = [
        nbformat.v4.new_code_cell("", metadata={"tags": [tag]}, outputs=[nbformat.v4.new_output("display_data", data)])
        for tag, outputs in shown.items()
        for data in ({kind: content} for kind, content in outputs)
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "book" / f"{book.FIRST_PAGE}.ipynb")
    before, after = f"Before\n\n{book.EVIDENCE_BEGINS}\n", f"{book.EVIDENCE_ENDS}\nAfter\n"
    (tmp_path / "README.md").write_text(f"{before}old\n{after}", encoding="utf-8")
    book.copy_evidence(tmp_path)
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == f"{before}\n| three rows |\n\n{after}"
    assert (tmp_path / "book" / "_static" / "evidence.png").read_bytes() == b"png"


def test_every_run_of_the_published_results_is_among_the_published_runs():
    static = ROOT / "book" / "_static"
    results, runs = pd.read_csv(static / "results.csv"), pd.read_csv(static / "runs.csv").set_index("run")
    presets = {"1×": "tuned", "10×": "long"}
    found = results[results["policy"].str.fullmatch("(PPO|A3C) 10?×")]
    assert len(found) == 2 * 4 * (study.SEEDS["full"] + study.LONG_SEEDS["full"])
    for row in found.itertuples():
        algo, times = row.policy.lower().split()
        run = runs.loc[f"{row.env}/{algo}/{presets[times]}/seed-{row.seed}"]
        assert run["cost"] == pytest.approx(row.cost)
        assert (run["env"], run["algo"], run["seed"], run["test_episodes"]) == (row.env, algo, row.seed, 1_000)
    assert runs.index.is_unique
    assert {run.split("/")[0] for run in runs.index} >= {*meirl.NAMES, *meirl.CONTROLS, "variants", "threats"}


def test_the_published_results_are_those_of_the_table_on_the_first_page():
    table, _, csv = book.evidence(ROOT)
    assert (ROOT / "book" / "_static" / "results.csv").read_text(encoding="utf-8") == csv
    runs = pd.read_csv(StringIO(csv))
    header, _, *lines = (line.strip("| ").split(" | ") for line in table.splitlines())
    shown = {label: dict(zip(header[1:], costs, strict=True)) for label, *costs in lines}
    names = {policy: row for row, (policy, kind) in ROWS.items() if kind == "measured"}
    seeds = {"1×": study.SEEDS["full"], "10×": study.LONG_SEEDS["full"]}
    for (env, policy), cell in runs.groupby(["env", "policy"]):
        assert len(cell) == seeds.get(policy.rpartition(" ")[2], 1)
        digits = 0 if cell["cost"].mean() > 10_000 else 1
        assert shown[names[policy]][env].split()[0] == f"{cell['cost'].mean():,.{digits}f}"


def test_runs_that_other_pages_rest_on_stay_in_the_published_table(monkeypatch, tmp_path):
    """A page may be executed where only its own runs are kept, or none; the whole book begins anew."""
    path = tmp_path / "book" / "_static" / "runs.csv"
    path.parent.mkdir(parents=True)
    pd.DataFrame({"run": ["a", "c"], "cost": [1.1, 3.3]}).to_csv(path, index=False)
    monkeypatch.setattr(book, "every_run", lambda root: pd.DataFrame())
    book.copy_runs(tmp_path, whole=False)
    assert path.read_text(encoding="utf-8").split() == ["run,cost", "a,1.1", "c,3.3"]
    monkeypatch.setattr(book, "every_run", lambda root: pd.DataFrame({"run": ["b", "c"], "cost": [2.2, 4.4]}))
    book.copy_runs(tmp_path, whole=False)
    assert path.read_text(encoding="utf-8").split() == ["run,cost", "a,1.1", "b,2.2", "c,4.4"]
    book.copy_runs(tmp_path, whole=True)
    assert path.read_text(encoding="utf-8").split() == ["run,cost", "b,2.2", "c,4.4"]


def test_every_page_is_in_the_table_of_contents():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    chapters = [chapter for part in toc["parts"] for chapter in part["chapters"]]
    sections = [section for chapter in chapters for section in chapter.get("sections", ())]
    listed = {toc["root"], *(entry["file"] for entry in chapters + sections)}
    assert {f"book/{page.name}" for page in PAGES} <= listed


def test_every_source_of_the_bibliography_is_cited_and_every_citation_has_one():
    keys = set(re.findall(r"^@\w+{([^,]+),", (ROOT / "book" / "references.bib").read_text(encoding="utf-8"), re.M))
    texts = [path.read_text(encoding="utf-8") for path in [*NOTEBOOKS, *(ROOT / "book").glob("*.md")]]
    cited = {
        key.strip() for text in texts for keys in re.findall(r"{cite[\w:]*}`([^`]+)`", text) for key in keys.split(",")
    }
    assert cited == keys


UNLINKED = {"scarf1960optimality", "eppen1981"}  # chapters of old collections: no DOI, and nobody keeps a page of them


def test_every_source_says_where_it_is_and_what_it_found():
    """By DOI, or by address where it has none."""
    sources = parse_file(str(ROOT / "book" / "references.bib")).entries
    assert {key for key, entry in sources.items() if not {"doi", "url", "howpublished"} & set(entry.fields)} == UNLINKED
    assert all(len(entry.fields.get("note", "")) > 20 for entry in sources.values())
    titles = [entry.fields["title"].lower() for entry in sources.values()]
    again = {title for title in titles if titles.count(title) > 1}
    assert again == {"multi-echelon inventory optimization using deep reinforcement learning"}  # two works of one title


def test_the_glossary_is_in_order_and_has_no_term_twice():
    text = (ROOT / "book" / "glossary.md").read_text(encoding="utf-8").split("```{glossary}\n")[1].split("```")[0]
    terms = [re.findall(r"^\S.*$", entry, re.MULTILINE) for entry in text.strip().split("\n\n")]
    named = [term for entry in terms for term in entry]
    assert len(named) == len(set(named)) > 120
    firsts = [entry[0].lower().lstrip("(") for entry in terms]
    assert firsts == sorted(firsts)


@pytest.mark.parametrize("path", EXERCISED, ids=lambda p: p.stem)
def test_a_chapter_has_exercises_with_folded_answers_that_run(path):
    """Two or three questions at the end, each followed by one short cell that is folded and asserts its answer."""
    cells = jupytext.read(path).cells
    start = next(i for i, cell in enumerate(cells) if re.search("^## Exercises$", cell.source, re.MULTILINE))
    questions, answers = cells[start::2], cells[start + 1 :: 2]
    assert len(questions) == len(answers) in (2, 3)
    for number, (question, answer) in enumerate(zip(questions, answers, strict=True), 1):
        assert re.search(rf"^\*\*{number}\. .+[.?]\*\* ", question.source, re.MULTILINE)
        assert "?" in question.source or "Bound" in question.source
        assert answer.cell_type == "code"
        assert "hide-cell" in answer.metadata["tags"]
        assert answer.metadata["mystnb"]["code_prompt_show"] == "Show the answer"
        assert len(answer.source.splitlines()) <= 25
        assert "assert " in answer.source


def test_quick_and_full_never_touch_each_other(project, monkeypatch):
    built = []
    monkeypatch.setattr(book, "build", lambda source, html: built.append((source, html)) or html)
    trained = []
    monkeypatch.setattr(book.forecast, "train", lambda chapter: trained.append(chapter.profile))
    published = project / "book" / "01-toy.ipynb"
    book.make_book(project, "quick", 0, "cpu", (), 1)
    quick = project / "_build" / "quick" / "source" / "book" / "01-toy.ipynb"
    assert published.read_text(encoding="utf-8") == "published"
    before = quick.read_bytes()
    book.make_book(project, "full", 0, "cpu", (), 1)
    assert "full 0 default" in published.read_text(encoding="utf-8")
    assert quick.read_bytes() == before
    assert built == [
        (project / "_build" / "quick" / "source", project / "_build" / "quick" / "html"),
        (project, project / "_build" / "html"),
    ]
    assert trained == ["full"]  # before the pages, which all read the same runs


def test_executing_twice_gives_the_same_bytes(project):
    (project / "notebooks" / "01-toy.md").write_text(NOTEBOOK.replace("object()", "1 + 1"), encoding="utf-8")
    (page,) = book.pages(project)
    files = []
    for folder in ("one", "two"):
        book.execute_page(page, {"profile": "quick", "seed": 3}, project / folder)
        files.append((project / folder / "01-toy.ipynb").read_bytes())
    assert files[0] == files[1]


def test_page_opens_with_its_question_and_says_at_its_foot_what_was_used(project):
    page = book.Page("02-own", project / "notebooks" / "01-toy.md", {"cell": "own"}, "A title of its own")
    book.execute_page(page, {"profile": "quick", "seed": 7, "device": "cpu"}, project)
    made = nbformat.read(project / "02-own.ipynb", as_version=4)
    title, defaults, injected, code, note = made.cells
    assert title.source == "# A title of its own\n\nA question."
    assert "quick 7 own" in code.outputs[0].text
    assert 'cell = "own"' in injected.source
    assert all("remove-cell" in cell.metadata["tags"] for cell in (defaults, injected))
    assert note.metadata["tags"] == ["provenance"]
    assert "profile `quick`, seed `7`, device `cpu`, cell `own`" in note.source
    assert "commit `unknown`" in note.source  # a folder that is no checkout


def test_pages_of_one_notebook_have_figures_of_their_own(project):
    figure = "```{code-cell} ipython3\n---\nmystnb: {figure: {caption: Dots., name: fig-dots}}\n---\nprint("
    text = NOTEBOOK.replace("```{code-cell} ipython3\nprint(", figure)
    (project / "notebooks" / "01-toy.md").write_text(text, encoding="utf-8")
    for name, expected in (("01-toy", "fig-dots"), ("01-other", "fig-dots-01-other")):
        page = book.Page(name, project / "notebooks" / "01-toy.md", {}, None)
        book.execute_page(page, {"profile": "quick"}, project)
        cells = nbformat.read(project / f"{name}.ipynb", as_version=4).cells
        assert [c.metadata["mystnb"]["figure"]["name"] for c in cells if "mystnb" in c.metadata] == [expected]


def test_a_failing_cell_leaves_the_old_page_and_says_where(project):
    (project / "notebooks" / "01-toy.md").write_text(NOTEBOOK.replace("object()", "1 / 0"), encoding="utf-8")
    with pytest.raises(ValueError, match=r"(?s)01-toy\.md.*ZeroDivisionError"):
        book.execute(book.pages(project), {"profile": "full"}, project / "book", 1)
    assert [path.name for path in sorted((project / "book").iterdir())] == ["01-toy.ipynb", "_static", "prose.md"]
    assert (project / "book" / "01-toy.ipynb").read_text(encoding="utf-8") == "published"


def test_one_notebook_gives_several_pages(project):
    listed = {"01-toy": [{"page": f"01-toy-{c}", "title": c, "parameters": {"cell": c}} for c in ("a", "b")]}
    (project / "notebooks" / "pages.yaml").write_text(yaml.safe_dump(listed), encoding="utf-8")
    assert [(p.name, p.title, p.parameters) for p in book.pages(project)] == [
        ("01-toy-a", "a", {"cell": "a"}),
        ("01-toy-b", "b", {"cell": "b"}),
    ]
    assert [p.name for p in book.pages(project, ["01-toy-b"])] == ["01-toy-b"]
    book.make_pairs(project, (), 1)
    assert "quick 0 default" in (project / "notebooks" / "01-toy.ipynb").read_text(encoding="utf-8")


def test_a_page_that_measures_speed_is_executed_alone_at_the_full_profile(project):
    busy = "import time\nfrom pathlib import Path\nbegan = time.time()\ntime.sleep(0.5)\n"
    text = NOTEBOOK.replace("print(", busy + 'Path(f"{cell}.txt").write_text(f"{began} {time.time()}")\nprint(')
    (project / "notebooks" / "01-toy.md").write_text(text, encoding="utf-8")
    listed = [{"page": c, "parameters": {"cell": c}, **({"alone": True} if c == "a" else {})} for c in "abc"]
    (project / "notebooks" / "pages.yaml").write_text(yaml.safe_dump({"01-toy": listed}), encoding="utf-8")
    book.execute(book.pages(project), {"profile": "full"}, project / "book", 3)
    (a, _), (_, b), (_, c) = (
        map(float, (project / "notebooks" / f"{name}.txt").read_text(encoding="utf-8").split()) for name in "abc"
    )
    assert a > max(b, c)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "_config.yml").unlink(), "run this in the project's folder"),
        (
            lambda root: (root / "notebooks" / "pages.yaml").write_text("09-none: []"),
            r"pages\.yaml: no notebook 09-none\.md: expected one of 01-toy",
        ),
        (
            lambda root: (root / "notebooks" / "pages.yaml").write_text("01-toy: [{alon: true}]"),
            r"pages\.yaml: 01-toy\.0\.alon: unknown key, got True",
        ),
        (
            lambda root: (root / "notebooks" / "pages.yaml").write_text("01-toy: {title: A}"),
            r"pages\.yaml: 01-toy: Input should be a valid list, got \{'title': 'A'\}",
        ),
        (lambda root: shutil.rmtree(root / "notebooks"), "run this in the project's folder"),
    ],
    ids=["no config", "unknown notebook", "unknown key", "wrong type", "no notebooks"],
)
def test_a_wrong_folder_is_refused(project, change, message):
    change(project)
    with pytest.raises(ValueError, match=message):
        book.pages(project)


@pytest.mark.parametrize("options", [[], ["--only", "01"], ["--html"], ["--pdf"], ["--pairs"]], ids=" ".join)
def test_a_wrong_folder_is_one_line_and_stays_as_it_was(options, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["meirl", "book", *options])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    expected = f"meirl: {tmp_path} has no _config.yml and notebooks/: run this in the project's folder\n"
    assert capsys.readouterr().err == expected
    assert not list(tmp_path.iterdir())


def test_unknown_pages_and_profiles_are_refused(project):
    with pytest.raises(ValueError, match="no page begins with 99; pages: 01-toy"):
        book.pages(project, ["99"])
    with pytest.raises(ValueError, match="profile must be one of quick, full, got 'fast'"):
        book.make_book(project, "fast", 0, "cpu", (), 1)


def test_some_pages_are_executed_only_where_the_others_are(project, monkeypatch):
    monkeypatch.setattr(book, "build", lambda source, html: html)
    listed = {"01-toy": [{"page": f"01-toy-{c}", "parameters": {"cell": c}} for c in ("a", "b")]}
    (project / "notebooks" / "pages.yaml").write_text(yaml.safe_dump(listed), encoding="utf-8")
    source = project / "_build" / "quick" / "source" / "book"
    with pytest.raises(ValueError, match=r"has no 01-toy-b\.ipynb, which the book needs: make"):
        book.make_book(project, "quick", 0, "cpu", ["01-toy-a"], 1)
    assert not list(source.glob("*.ipynb")), "refused before anything is executed"
    (source / "01-toy-b.ipynb").write_text("made before", encoding="utf-8")
    book.make_book(project, "quick", 0, "cpu", ["01-toy-a"], 1)
    assert "quick 0 a" in (source / "01-toy-a.ipynb").read_text(encoding="utf-8")
    assert (source / "01-toy-b.ipynb").read_text(encoding="utf-8") == "made before"


def test_a_page_with_a_broken_reference_is_refused(project):
    (project / "book" / "prose.md").write_text("# Prose\n\n{doc}`nowhere`\n", encoding="utf-8")
    with pytest.raises(ValueError, match="nowhere"):
        book.build(project, project / "_build" / "html")


@pytest.mark.parametrize("builder", ["html", "singlehtml"])
def test_a_second_build_waits_for_the_first_and_leaves_its_pages_alone(builder, project):
    made = project / "_build" / builder / "book" / "first.html"
    made.parent.mkdir(parents=True)
    made.touch()
    first = f"""
import sys, time
from pathlib import Path
from meirl import files
with files.only_writer(Path("_build/.doctrees")):
    print("at it", flush=True)
    time.sleep(2)
    print(Path({str(made)!r}).exists())
"""
    command = [sys.executable, "-c", first]
    with subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, text=True) as other:
        other.stdout.readline()
        second = book.render(project, builder)
        assert other.communicate()[0].strip() == "True"
    assert not made.exists()
    assert (second / "book" / "prose.html").exists()


def test_without_a_browser_the_pdf_says_what_to_install(project, monkeypatch):
    monkeypatch.setattr(pdf, "BROWSERS", (str(project / "no-browser-here"), "${NOWHERE(X86)}/no-browser-here"))
    monkeypatch.delenv("CHROME_PATH", raising=False)
    with pytest.raises(ValueError, match="Install Chromium"):
        pdf.make_pdf(project)
    monkeypatch.setenv("CHROME_PATH", "nowhere")  # it is not looked for elsewhere
    with pytest.raises(ValueError, match="CHROME_PATH must be the file of a Chromium-based browser, got 'nowhere'"):
        pdf.make_pdf(project)


def test_the_pdf_has_every_page_and_links_to_no_file(project):
    try:
        pdf.browser()
    except ValueError as error:
        pytest.skip(str(error))
    (project / "_toc.yml").write_text(
        "format: jb-book\nroot: book/prose\nchapters: [{file: book/two}]\n", encoding="utf-8"
    )
    (project / "book" / "prose.md").write_text("# Prose\n\nA {term}`word`.\n", encoding="utf-8")
    (project / "book" / "two.md").write_text("# Two\n\n```{glossary}\nword\n  What is said.\n```\n", encoding="utf-8")
    printed = pdf.make_pdf(project).read_bytes()
    assert printed.startswith(b"%PDF")
    assert b"/Title (Two)" in printed  # a bookmark
    assert b"file://" not in printed
