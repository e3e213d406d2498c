"""The pages of the book: notebooks, each executed with one set of parameters.

Most notebooks ``notebooks/name.md`` give one page, of their own name; ``notebooks/pages.yaml`` lists those that give
several, and those that are executed alone.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field, RootModel

from meirl.config import Model, load_yaml, validated


class Page(NamedTuple):
    """One page: a notebook and the parameters it is executed with."""

    name: str  # file name without suffix
    notebook: Path  # notebooks/name.md
    parameters: dict[str, Any] = {}  # noqa: RUF012  # beside profile, seed and device; never modified
    title: str | None = None  # replaces the notebook's first heading
    alone: bool = False  # at the full profile, while nothing else runs


class Listed(Model):
    """A page in ``pages.yaml``: what differs from its notebook."""

    page: str | None = None
    parameters: dict[str, Any] = Field(default_factory=dict)
    title: str | None = None
    alone: bool = False


class Listing(RootModel):
    """``pages.yaml``: by notebook, its pages."""

    root: dict[str, list[Listed]]


def pages(root: Path, only: Iterable[str] = ()) -> list[Page]:
    """List the pages of the book.

    Args:
        root: the project's folder.
        only: beginnings of names, for example ``03``; empty for all.

    Returns:
        The pages in order.

    Raises:
        ValueError: if this is not the project's folder, nothing matches, or ``pages.yaml`` is wrong.
    """
    folder = root / "notebooks"
    if not (root / "_config.yml").exists() or not folder.is_dir():
        raise ValueError(f"{root} has no _config.yml and notebooks/: run this in the project's folder")
    file = folder / "pages.yaml"
    several = validated(Listing, load_yaml(file) if file.exists() else {}, "notebooks/pages.yaml").root
    notebooks = {path.stem: path for path in sorted(folder.glob("*.md"))}
    if unknown := set(several) - set(notebooks):
        expected = f"expected one of {', '.join(notebooks)}"
        raise ValueError(f"notebooks/pages.yaml: no notebook {sorted(unknown)[0]}.md: {expected}")
    found = [
        Page(given.page or name, path, given.parameters, given.title, given.alone)
        for name, path in notebooks.items()
        for given in several.get(name, [Listed()])
    ]
    chosen = [page for page in found if not only or page.name.startswith(tuple(only))]
    if not chosen:
        raise ValueError(f"no page begins with {', '.join(only)}; pages: {', '.join(page.name for page in found)}")
    return chosen
