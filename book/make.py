"""Make the book: execute the notebooks with papermill, then build the pages with Jupyter Book.

A notebook is source, and gives pages, see `meirl_book.pages`. Profile ``quick`` writes its pages and its build under
``_build/quick``, ``full`` writes the published pages to ``book/`` and builds ``_build/html``. So neither ever touches
what the other made.

Executing is reproducible: cell ids come from the position, times and machine details are dropped, and figures and
numbers depend on the seed. Two runs of the same commit give the same bytes.
"""

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
from typing import Any, Literal

import jupytext
import nbformat
import pandas as pd
import papermill
from joblib import Parallel, delayed, parallel_config
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError
from tqdm import tqdm

from meirl import files
from meirl_study import forecast
from meirl_study.chapter import setup
from meirl_study.processes import attended
from meirl_study.study import Profile, every_run

from .pages import Page, pages

PROFILES = ("quick", "full")
FIRST_PAGE = "00-abstract"
EVIDENCE_BEGINS = "<!-- evidence: the answer of the book's first page, compared by a test -->"
EVIDENCE_ENDS = "<!-- end of evidence -->"
LANGUAGE = {"name": "python", "pygments_lexer": "ipython3"}


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
        ValueError: if a page that is not to be executed is missing, a cell fails (the message has its traceback) or the
            pages have warnings.
    """
    if profile not in PROFILES:
        raise ValueError(f"profile must be one of {', '.join(PROFILES)}, got {profile!r}")
    source = root if profile == "full" else stage(root)
    chosen = pages(root, only)
    for page in pages(root):  # those that stay must be there: else the build fails, after hours of executing
        if page not in chosen and not (source / "book" / f"{page.name}.ipynb").exists():
            made = f"make the book of profile {profile} once without --only"
            raise ValueError(f"{source / 'book'} has no {page.name}.ipynb, which the book needs: {made}")
    if profile == "full" and not only:
        chapter = setup(profile, seed, device)
        print(forecast.sentence(chapter), flush=True)
        forecast.train(chapter)  # here, with a bar, and not in whichever page comes first
    execute(chosen, {"profile": profile, "seed": seed, "device": device}, source / "book", jobs)
    if profile == "full":
        copy_runs(root, whole=not only)
        if FIRST_PAGE in {page.name for page in chosen}:
            copy_evidence(root)
    return build(source, root / "_build" / ("html" if profile == "full" else "quick/html"))


def evidence(root: Path) -> tuple[str, bytes, str]:
    """The table (Markdown), the figure (PNG) and the result of every run (CSV) of the published first page.

    They are the outputs of its cells with the tag ``evidence``.
    """
    page = nbformat.read(root / "book" / f"{FIRST_PAGE}.ipynb", as_version=4)
    tagged = [cell for cell in page.cells if "evidence" in cell.metadata.get("tags", ())]
    shown = [output.data for cell in tagged for output in cell.get("outputs", ()) if "data" in output]
    (table,), (figure,), (runs,) = (
        [data[kind] for data in shown if kind in data] for kind in ("text/markdown", "image/png", "text/csv")
    )
    return table, b64decode(figure), runs


def answer(root: Path) -> str:
    """The answer in three rows (Markdown) of the published first page, the output of its cell tagged ``answer``."""
    page = nbformat.read(root / "book" / f"{FIRST_PAGE}.ipynb", as_version=4)
    (cell,) = (cell for cell in page.cells if "answer" in cell.metadata.get("tags", ()))
    (shown,) = (output.data["text/markdown"] for output in cell.outputs if "data" in output)
    return shown


def copy_evidence(root: Path) -> None:
    """Give README the answer and the figure of the first page, and readers its results, so that all are of one run."""
    _, figure, runs = evidence(root)
    files.write(root / "book" / "_static" / "evidence.png", figure)
    files.write(root / "book" / "_static" / "results.csv", runs)
    readme = root / "README.md"
    text = readme.read_text(encoding="utf-8")
    before, rest = text.split(EVIDENCE_BEGINS, 1)
    after = rest.split(EVIDENCE_ENDS, 1)[1]
    files.write(readme, f"{before}{EVIDENCE_BEGINS}\n\n{answer(root)}\n\n{EVIDENCE_ENDS}{after}")


def copy_runs(root: Path, whole: bool) -> None:
    """Give readers a table of every run of the full study and of the experiments beside it.

    Args:
        root: the project's folder.
        whole: all pages were executed; else published runs that are not here stay: other pages rest on them.
    """
    runs, path = every_run(root / "runs" / "full"), root / "book" / "_static" / "runs.csv"
    if not whole and path.exists():
        runs = pd.concat([pd.read_csv(path), runs]).drop_duplicates("run", keep="last").sort_values("run")
    files.write(path, runs.to_csv(index=False))


def stage(root: Path) -> Path:
    """Copy all that a build needs but the published chapters to ``_build/quick/source``; keep quick pages there."""
    source = root / "_build" / "quick" / "source"
    leave = shutil.ignore_patterns("*.ipynb", "__pycache__")
    shutil.copytree(root / "book", source / "book", ignore=leave, dirs_exist_ok=True)
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
            tasks = (delayed(attended(execute_page))(page, parameters, folder) for page in group)
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
    files.write(folder / f"{page.name}.ipynb", nbformat.writes(notebook) + "\n")
    return page.name, time.perf_counter() - start


def clean(notebook: NotebookNode) -> None:
    """Drop what differs from run to run, and name cells by their position."""
    kept = {key: notebook.metadata[key] for key in ("jupytext", "kernelspec") if key in notebook.metadata}
    notebook.metadata = nbformat.from_dict({**kept, "language_info": LANGUAGE})
    for i, cell in enumerate(notebook.cells):
        cell.id = f"cell-{i:02}"
        cell.metadata = nbformat.from_dict({k: v for k, v in cell.metadata.items() if k in ("tags", "mystnb") and v})


def describe(notebook: NotebookNode, page: Page, given: dict[str, Any]) -> None:
    """Give the page its title, hide the cells with parameters, and say at its foot how it was made."""
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if {"parameters", "injected-parameters"} & set(tags):
            cell.metadata["tags"] = [*tags, "remove-cell"]
        if page.name != page.notebook.stem and (figure := cell.metadata.get("mystnb", {}).get("figure")):
            figure["name"] += f"-{page.name}"  # one notebook gives several pages: the book wants each name once
    if page.title:
        _, *rest = notebook.cells[0].source.split("\n", 1)
        notebook.cells[0].source = "\n".join([f"# {page.title}", *rest])
    notebook.cells.append(nbformat.v4.new_markdown_cell(note(page, given), metadata={"tags": ["provenance"]}))


def note(page: Page, given: dict[str, Any]) -> str:
    """A sentence on the page's profile, parameters, commit and machine, as a MyST admonition."""
    parameters = ", ".join(f"{key} `{value}`" for key, value in given.items())
    versions = ", ".join(f"{name} {version(package)}" for name, package in VERSIONS.items())
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    made = f"{parameters}; commit `{files.commit(page.notebook.parent)}`; {machine}, {versions}"
    return f":::{{admonition}} How this page was made\n:class: note\nFrom `{page.notebook.name}` with {made}.\n:::"


VERSIONS = {"PyTorch": "torch", "NumPy": "numpy", "SciPy": "scipy"}


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
    if built != html:
        shutil.rmtree(html, ignore_errors=True)
        shutil.move(built, html)
    return html / "index.html"


def render(source: Path, builder: Literal["html", "singlehtml"]) -> Path:
    """Run Jupyter Book on a folder, every warning an error; return where it put the pages."""
    # A clean start and --all: an incremental build keeps old glued numbers and old source listings without a word.
    options = ["--builder", builder, "--all", "-W", "-n", "--keep-going", "-q"]
    program = "from jupyter_book.cli.main import main; main()"
    command = [sys.executable, "-c", program, "build", str(source), *options]
    with files.only_writer(source / "_build" / ".doctrees", wait=True):  # all builders share it
        shutil.rmtree(source / "_build" / builder, ignore_errors=True)
        done = subprocess.run(
            command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace",
            env={**os.environ, "PYTHONUTF8": "1"},  # a page may have letters that a terminal's code page has not
        )  # fmt: skip
    if done.returncode:
        raise ValueError(f"the book has warnings or errors:\n{done.stdout}")
    return source / "_build" / builder
