"""Fail where a notebook's source and its executed pair differ: ``python notebooks/check_pairs.py FILE ...``.

A file may be either half, ``name.md`` or ``name.ipynb``. Outputs are not compared: only executing can check them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import jupytext
import nbformat


def sources(notebook: nbformat.NotebookNode) -> list[tuple[str, str, tuple[str, ...]]]:
    """Type, source and tags of every cell, without what making a page adds."""
    cells = []
    for cell in notebook.cells:
        tags = tuple(cell.metadata.get("tags", ()))
        if "parameters" in tags:
            tags = ("parameters",)
        if not set(tags) & {"injected-parameters", "provenance"}:
            cells.append((cell.cell_type, cell.source, tags))
    return cells


def in_sync(source: Path) -> bool:
    """Whether ``name.md`` and the ``.ipynb`` beside it are both there and have the same cells."""
    pair = source.with_suffix(".ipynb")
    both = source.exists() and pair.exists()
    return both and sources(jupytext.read(source)) == sources(nbformat.read(pair, as_version=4))


def main(files: Iterable[str]) -> int:
    """Name every pair that is not in sync; give the exit code, 1 if there is one."""
    stale = [path for path in sorted({Path(file).with_suffix(".md") for file in files}) if not in_sync(path)]
    for path in stale:
        print(f"run make pairs: {path.stem}")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
