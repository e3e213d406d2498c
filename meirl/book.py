"""Make the book: execute the notebooks with papermill, then build the pages with Jupyter Book.

A notebook ``notebooks/NN-name.md`` is source. A *page* is a notebook executed with one set of parameters. Most give one
page of their own name; ``notebooks/pages.yaml`` lists those that give several. Profile ``quick`` writes its
pages and its build under ``_build/quick``, ``full`` writes the published pages to ``book/`` and builds ``_build/html``.
So neither ever touches what the other made.

Executing is reproducible: cell ids come from the position, times and machine details are dropped, and figures and
numbers depend on the seed. Two runs of the same commit give the same bytes.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import time
from base64 import b64decode
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jupytext
import nbformat
import papermill
from bs4 import BeautifulSoup
from joblib import Parallel, delayed, parallel_config
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError
from tqdm import tqdm

from .envs import load_yaml

Profile = Literal["quick", "full"]
PROFILES = ("quick", "full")
FIRST_PAGE = "00-abstract"
EVIDENCE_BEGINS = "<!-- evidence: the table of the book's first page, compared by a test -->"
EVIDENCE_ENDS = "<!-- end of evidence -->"
LANGUAGE = {"name": "python", "pygments_lexer": "ipython3"}


class Page(NamedTuple):
    """One page: a notebook and the parameters it is executed with."""

    name: str  # file name without suffix
    notebook: Path  # notebooks/NN-name.md
    parameters: dict[str, Any] = {}  # noqa: RUF012  # beside profile, seed and device; never modified
    title: str | None = None  # replaces the notebook's first heading
    alone: bool = False  # at the full profile, while nothing else runs


def pages(root: Path, only: Iterable[str] = ()) -> list[Page]:
    """List the pages of the book.

    Args:
        root: the project's folder.
        only: beginnings of names, for example ``03``; empty for all.

    Returns:
        The pages in order.

    Raises:
        ValueError: if this is not the project's folder, nothing matches, or ``pages.yaml`` has a wrong notebook or key.
    """
    folder = root / "notebooks"
    if not (root / "_config.yml").exists() or not folder.is_dir():
        raise ValueError(f"{root} has no _config.yml and notebooks/: run this in the project's folder")
    several = load_yaml(folder / "pages.yaml") if (folder / "pages.yaml").exists() else {}
    notebooks = {path.stem: path for path in sorted(folder.glob("*.md"))}
    if unknown := set(several) - set(notebooks):
        raise ValueError(f"notebooks/pages.yaml: no notebook {sorted(unknown)[0]}.md")
    found = []
    for name, path in notebooks.items():
        for given in several.get(name, [{}]):
            if wrong := set(given) - {"page", "parameters", "title", "alone"}:
                raise ValueError(f"notebooks/pages.yaml: {name}: unknown key {sorted(wrong)[0]!r}")
            own = dict(given)
            found.append(Page(own.pop("page", name), path, **own))
    chosen = [page for page in found if not only or page.name.startswith(tuple(only))]
    if not chosen:
        raise ValueError(f"no page begins with {', '.join(only)}; pages: {', '.join(page.name for page in found)}")
    return chosen


def make_book(root: Path, profile: Profile, seed: int, device: str, only: Iterable[str], jobs: int) -> Path:
    """Execute the pages of a profile and build the book.

    Args:
        root: the project's folder.
        profile: ``quick`` or ``full``.
        seed: of all training and tuning.
        device: see `meirl.pick_device`.
        only: execute only pages whose names begin so; the others stay as they were made before.
        jobs: notebooks executed at once.

    Returns:
        The first page of the built book.

    Raises:
        ValueError: if a cell fails (the message has its traceback) or the pages have warnings.
    """
    if profile not in PROFILES:
        raise ValueError(f"profile must be one of {', '.join(PROFILES)}, got {profile!r}")
    source = root if profile == "full" else stage(root)
    chosen = pages(root, only)
    execute(chosen, {"profile": profile, "seed": seed, "device": device}, source / "book", jobs)
    if profile == "full" and FIRST_PAGE in {page.name for page in chosen}:
        copy_evidence(root)
    return build(source, root / "_build" / ("html" if profile == "full" else "quick/html"))


def evidence(root: Path) -> tuple[str, bytes, str]:
    """The table (Markdown), the figure (PNG) and the result of every run (CSV) of the published first page."""
    page = nbformat.read(root / "book" / f"{FIRST_PAGE}.ipynb", as_version=4)
    shown = [output.data for cell in page.cells for output in cell.get("outputs", ()) if "data" in output]
    (table,), (figure,), (runs,) = (
        [data[kind] for data in shown if kind in data] for kind in ("text/markdown", "image/png", "text/csv")
    )
    return table, b64decode(figure), runs


def copy_evidence(root: Path) -> None:
    """Give README the table and the figure of the first page, and readers its results, so that all are of one run."""
    table, figure, runs = evidence(root)
    (root / "book" / "_static" / "evidence.png").write_bytes(figure)
    (root / "book" / "_static" / "results.csv").write_text(runs, encoding="utf-8", newline="\n")
    readme = root / "README.md"
    text = readme.read_text(encoding="utf-8")
    before, rest = text.split(EVIDENCE_BEGINS, 1)
    after = rest.split(EVIDENCE_ENDS, 1)[1]
    readme.write_text(f"{before}{EVIDENCE_BEGINS}\n\n{table}\n\n{EVIDENCE_ENDS}{after}", encoding="utf-8", newline="\n")


def stage(root: Path) -> Path:
    """Copy all that a build needs but the published chapters to ``_build/quick/source``; keep quick pages there."""
    source = root / "_build" / "quick" / "source"
    shutil.copytree(root / "book", source / "book", ignore=shutil.ignore_patterns("*.ipynb"), dirs_exist_ok=True)
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(root / name, source / name)
    return source


def make_pairs(root: Path, only: Iterable[str], jobs: int) -> None:
    """Execute every notebook as it stands (profile quick) into its pair ``notebooks/NN-name.ipynb``."""
    # The pair is the notebook with its own defaults, whatever pages are made of it.
    pairs = {page.notebook: Page(page.notebook.stem, page.notebook) for page in pages(root, only)}
    execute(list(pairs.values()), {}, root / "notebooks", jobs)


def execute(chosen: list[Page], parameters: dict[str, Any], folder: Path, jobs: int) -> None:
    """Execute pages into a folder, several at once, with a progress bar."""
    alone = [page for page in chosen if page.alone and parameters.get("profile") == "full"]
    together = [page for page in chosen if page not in alone]
    with tqdm(total=len(chosen), desc=f"executing into {folder.name}/", unit="page") as bar:
        for group, count in ((together, min(jobs, len(together))), (alone, 1)):
            tasks = (delayed(execute_page)(page, parameters, folder) for page in group)
            # One thread a kernel: faster side by side, and sums do not depend on how many cores there are.
            with parallel_config("loky", n_jobs=max(1, count), inner_max_num_threads=1):
                for name, seconds in Parallel(return_as="generator_unordered")(tasks):
                    tqdm.write(f"  {name}: {seconds:.0f} s", file=sys.stderr)
                    bar.update()


def execute_page(page: Page, parameters: dict[str, Any], folder: Path) -> tuple[str, float]:
    """Execute one page in memory and write it only if every cell succeeded.

    Args:
        page: the page.
        parameters: of the whole book; with none, the notebook's defaults hold and no note of its making is added.
        folder: where the page goes.

    Returns:
        Its name and the seconds it took.

    Raises:
        ValueError: if a cell fails; the message names the notebook and has the traceback.
    """
    start = time.perf_counter()
    notebook = jupytext.read(page.notebook)
    clean(notebook)
    given = parameters | page.parameters
    try:
        notebook = papermill.execute_notebook(
            notebook, None, given, kernel_name="python3", cwd=str(page.notebook.parent), progress_bar=False,
            coalesce_streams=True, extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
        )  # fmt: skip
    except PapermillExecutionError as error:
        raise ValueError(f"{page.notebook.name} (page {page.name}) failed: {error}") from None
    if given:
        describe(notebook, page, given)
    clean(notebook)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{page.name}.ipynb"
    partial = path.with_suffix(".partial")
    nbformat.write(notebook, partial)
    partial.replace(path)
    return page.name, time.perf_counter() - start


def clean(notebook: NotebookNode) -> None:
    """Drop what differs from run to run, and name cells by their position."""
    kept = {key: notebook.metadata[key] for key in ("jupytext", "kernelspec") if key in notebook.metadata}
    notebook.metadata = nbformat.from_dict({**kept, "language_info": LANGUAGE})
    for i, cell in enumerate(notebook.cells):
        cell.id = f"cell-{i:02}"
        cell.metadata = nbformat.from_dict({k: v for k, v in cell.metadata.items() if k in ("tags", "mystnb") and v})


def describe(notebook: NotebookNode, page: Page, given: dict[str, Any]) -> None:
    """Show the parameters that were used, hide the defaults, and say at the top of the page how it was made."""
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if "parameters" in tags:
            cell.metadata["tags"] = [*tags, "remove-cell"]
        if "injected-parameters" in tags:
            cell.source = cell.source.replace("# Parameters", "# The parameters of this page")
        if page.name != page.notebook.stem and (figure := cell.metadata.get("mystnb", {}).get("figure")):
            figure["name"] += f"-{page.name}"  # one notebook gives several pages: the book wants each name once
    title, *rest = notebook.cells[0].source.split("\n", 1)
    if page.title:
        title = f"# {page.title}"
    body = "".join(rest).lstrip("\n")
    cells = [nbformat.v4.new_markdown_cell(title), nbformat.v4.new_markdown_cell(note(page, given))]
    cells[1].metadata["tags"] = ["provenance"]
    if body:
        cells.append(nbformat.v4.new_markdown_cell(body))
    notebook.cells[:1] = cells


def note(page: Page, given: dict[str, Any]) -> str:
    """A sentence on the page's profile, parameters, commit and machine, as a MyST admonition."""
    parameters = ", ".join(f"{key} `{value}`" for key, value in given.items())
    versions = ", ".join(f"{name} {version(package)}" for name, package in VERSIONS.items())
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    made = f"{parameters}; commit `{commit(page.notebook.parent)}`; {machine}, {versions}"
    return f":::{{admonition}} How this page was made\n:class: note\nFrom `{page.notebook.name}` with {made}.\n:::"


VERSIONS = {"PyTorch": "torch", "NumPy": "numpy", "SciPy": "scipy"}


def commit(folder: Path) -> str:
    """Commit of the checkout, with ``+ changes`` if code or notebooks differ from it; ``unknown`` without git."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout

    try:
        changed = git("status", "--porcelain", "--", ":/meirl", ":/notebooks/*.md").strip()
        return git("rev-parse", "--short", "HEAD").strip() + (" + changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def build(source: Path, html: Path) -> Path:
    """Build the pages of a folder, every warning an error.

    Args:
        source: a folder with ``_config.yml``, ``_toc.yml`` and ``book/``.
        html: where the pages go, replacing what is there.

    Returns:
        The first page.

    Raises:
        ValueError: if the build has a warning or an error; the message has them.
    """
    print(f"building {html}", flush=True)
    built = render(source, "html")
    if found := complaints(built):
        raise ValueError("\n".join(["pages ask other hosts for something, or show an image without alt text:", *found]))
    if built != html:
        shutil.rmtree(html, ignore_errors=True)
        shutil.move(built, html)
    return html / "index.html"


def render(source: Path, builder: Literal["html", "singlehtml"]) -> Path:
    """Run Jupyter Book on a folder, every warning an error; return where it put the pages."""
    # A clean start and --all: an incremental build keeps old glued numbers and old source listings without a word.
    shutil.rmtree(source / "_build" / builder, ignore_errors=True)
    options = ["--builder", builder, "--all", "-W", "-n", "--keep-going", "-q"]
    program = "from jupyter_book.cli.main import main; main()"
    command = [sys.executable, "-c", program, "build", str(source), *options]
    done = subprocess.run(command, check=False, text=True, stderr=subprocess.STDOUT, stdout=subprocess.PIPE)
    if done.returncode:
        raise ValueError(f"the book has warnings or errors:\n{done.stdout}")
    return source / "_build" / builder


def complaints(html: Path) -> list[str]:
    """Requests to other hosts and images without alt text in a built book; links a reader may click are fine."""
    found = []
    for path in sorted(html.rglob("*.html")):
        page = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        for tag in page.find_all(["script", "link", "img", "iframe"]):
            address = str(tag.get("src") or (tag.get("href") if tag.get("rel") != ["canonical"] else "") or "")
            if address.startswith(("http:", "https:", "//")):
                found.append(f"{path.name}: {address}")
            if tag.name == "img" and not tag.get("alt"):
                found.append(f"{path.name}: no alt text: {address}")
    return found


def launch_buttons(repository: str, path: str) -> dict[str, Any]:
    """The theme's description of a menu that opens a notebook of a GitHub repository on Binder or Colab."""
    binder = f"https://mybinder.org/v2/gh/{repository}/main?urlpath=lab/tree/{path}"
    colab = f"https://colab.research.google.com/github/{repository}/blob/main/{path}"
    install = f"Colab; first run: %pip install git+https://github.com/{repository}"
    links = [("Binder", "Run on Binder", binder), ("Colab", install, colab)]
    buttons = [
        {"type": "link", "text": text, "tooltip": tooltip, "icon": "fas fa-play", "url": url}
        for text, tooltip, url in links
    ]
    return {
        "type": "group", "buttons": buttons, "icon": "fas fa-rocket", "tooltip": "Run this notebook",
        "label": "launch-buttons",
    }  # fmt: skip


def setup(app: Any) -> dict[str, bool]:
    """Sphinx extension: leave what nobody needs out of the API reference and the pages."""

    def without_thebe(_app: Any, _page: str, _template: str, context: dict[str, Any], _tree: Any) -> None:
        # Jupyter Book loads Thebe, unasked and twice, which is a script error on every page.
        scripts = context.get("script_files", [])
        context["script_files"] = [s for s in scripts if "thebe" not in f"{s.filename} {s.attributes}".lower()]

    def launch(_app: Any, page: str, _template: str, context: dict[str, Any], _tree: Any) -> None:
        # On GitHub Actions the repository's name is known. The buttons open the chapter's notebook at profile quick.
        if repository := os.environ.get("GITHUB_REPOSITORY"):
            notebooks = {f"book/{p.name}": p.notebook.stem for p in pages(Path.cwd())}
            if page in notebooks:
                button = launch_buttons(repository, f"notebooks/{notebooks[page]}.ipynb")
                context["header_buttons"].append(button)

    # "Alias for field number 3": signatures name the fields of a named tuple.
    app.connect(
        "autodoc-skip-member", lambda _, __, ___, member, *____: type(member).__name__ == "_tuplegetter" or None
    )
    app.connect("html-page-context", without_thebe)
    app.connect("html-page-context", launch, priority=502)  # after the theme has made its buttons
    return {"parallel_read_safe": True}
