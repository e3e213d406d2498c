"""A notebook as one page of HTML that needs nothing else: no code, figures inside, no other host, any width."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import papermill
from markdown_it import MarkdownIt
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError

from meirl import files

HIDDEN = {"remove-cell", "remove-output", "parameters", "injected-parameters"}
"""Tags of cells whose outputs are not shown."""
STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 46rem; padding: 1rem; color: #222; background: #fff;
       font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1, h2, h3 { line-height: 1.2; margin: 2rem 0 .6rem; }
h1 { margin-top: .5rem; }
img { max-width: 100%; height: auto; }
p, li { overflow-wrap: break-word; }
.scrolls { overflow-x: auto; margin: 1rem 0; }
table { border: 0; border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; border: 0; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap; }
thead th { border-bottom: 2px solid #888; vertical-align: bottom; white-space: normal; }
th:first-child { text-align: left; }
code { background: #f3f3f3; padding: 0 .25em; border-radius: 3px; overflow-wrap: anywhere; }
blockquote { margin: 1rem 0; padding: .2rem 1rem; border-left: 4px solid #d55e00; background: #fdf3ee; }
@media print { body { max-width: none; } p, li { overflow-wrap: break-word; }
.scrolls { overflow: visible; } }
"""


def run(source: Path, parameters: dict[str, Any], out: Path) -> NotebookNode:
    """Execute a notebook with papermill.

    Args:
        source: its Markdown.
        parameters: of the notebook.
        out: where the executed notebook goes.

    Raises:
        ValueError: if a cell fails; if it refused its input, the message is what it said.
    """
    if not source.exists():
        raise ValueError(f"{source} is not there: this command needs a checkout, installed by pip install -e '.[book]'")
    draft = out.with_name(f".{out.stem}.draft.ipynb")
    try:
        jupytext.write(jupytext.read(source), draft)
        papermill.execute_notebook(str(draft), str(draft), parameters, progress_bar=False, kernel_name="python3")
        draft.replace(out)
    except PapermillExecutionError as error:
        refused = error.ename == "ValueError"
        raise ValueError(error.evalue if refused else f"{source.name}: {error.ename}: {error.evalue}") from None
    finally:
        draft.unlink(missing_ok=True)
    return nbformat.read(out, as_version=4)


def render(notebook: NotebookNode, title: str) -> str:
    """Render an executed notebook: its text and its outputs, one page."""
    markdown = MarkdownIt("commonmark").enable("table")
    body = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            body.append(markdown.render(cell.source))
        elif not HIDDEN & set(cell.metadata.get("tags", ())):
            words = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "figure")
            body += [_shown(output.data, words, markdown) for output in cell.get("outputs", ()) if "data" in output]
    head = (
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style>"
    )
    return f'<!doctype html>\n<html lang="en">\n<head>{head}</head>\n<body>\n{"".join(body)}</body>\n</html>\n'


def _shown(data: dict[str, Any], words: str, markdown: MarkdownIt) -> str:
    """An output in the richest form that a page can hold; words stand for a picture."""
    if "text/markdown" in data:
        return markdown.render(data["text/markdown"])
    if "text/html" in data:
        return f'<div class="scrolls" tabindex="0">{data["text/html"]}</div>\n'
    if "image/png" in data:
        picture = data["image/png"].replace("\n", "")
        return f'<p><img src="data:image/png;base64,{picture}" alt="{html.escape(words)}"></p>\n'
    return f"<pre>{html.escape(data.get('text/plain', ''))}</pre>\n"


def write(source: Path, parameters: dict[str, Any], folder: Path) -> Path:
    """Execute a notebook and write ``report.ipynb`` and ``report.html`` to a folder; gives the latter's path."""
    folder.mkdir(parents=True, exist_ok=True)
    notebook = run(source, parameters, folder / "report.ipynb")
    title = next(line[2:] for cell in notebook.cells for line in cell.source.splitlines() if line.startswith("# "))
    files.write(folder / "report.html", render(notebook, title))
    return folder / "report.html"
