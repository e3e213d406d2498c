"""The verb ``book`` of the command line, added to ``python -m meirl``."""

import os
from pathlib import Path
from typing import Annotated

import typer

from meirl_study.study import Profile

from . import make
from .pages import pages
from .pdf import make_pdf


def book(
    profile: Annotated[
        Profile, typer.Option(help="quick (into _build/quick) or full (into book/: what is published)")
    ] = "quick",
    seed: Annotated[int, typer.Option(help="of all training and tuning")] = 0,
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu")] = "cpu",
    only: Annotated[list[str] | None, typer.Option(help="execute only pages whose names begin so, e.g. 03")] = None,
    jobs: Annotated[int, typer.Option(help="notebooks executed at once; 0: one a core")] = 0,
    html: Annotated[bool, typer.Option("--html", help="execute nothing, build what is committed under book/")] = False,
    pairs: Annotated[
        bool, typer.Option("--pairs", help="execute notebooks/*.md into their .ipynb, build nothing")
    ] = False,
    pdf: Annotated[bool, typer.Option("--pdf", help="execute nothing, print what is committed as one PDF")] = False,
) -> None:
    """Execute the notebooks and build the book."""
    root, jobs = Path.cwd(), jobs or os.cpu_count() or 1
    pages(root)  # a wrong folder is refused before anything is made in it
    if pairs:
        make.make_pairs(root, only or (), jobs)
    elif pdf:
        typer.echo(f"open {make_pdf(root)}")
    elif html:
        typer.echo(f"open {make.build(root, root / '_build' / 'html')}")
    else:
        typer.echo(f"open {make.make_book(root, profile, seed, device, only or (), jobs)}")
