"""What chapters show beside figures: tables for reading, the code that runs, and the settings of a learner."""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Mapping
from functools import cache, partial
from itertools import takewhile
from pathlib import Path
from typing import Any

import pandas as pd

from meirl.learn.config import LearnerConfig

from .chapter import PROJECT, number

FOLDERS = {"meirl": "meirl", "meirl_study": "notebooks/meirl_study", "meirl_book": "book"}
"""Folder of every package in the checkout."""


def table(values: pd.DataFrame, formats: Mapping[Any, str]) -> pd.DataFrame:
    """A table for reading: every column named in ``formats`` as text, by its format (for example ``",.0f"``).

    The index loses its names, which pandas would give a row of their own; nothing rounds to ``-0.0``.
    """
    shown = {c: values[c].map(partial(number, form=formats[c])) if c in formats else values[c] for c in values}
    return pd.DataFrame(shown, index=values.index.set_names([None] * values.index.nlevels))


@cache
def reference() -> dict[str, str]:
    """Page of the API reference, ``book/api*.md``, by module that it documents."""
    pages = {path.stem: path.read_text(encoding="utf-8") for path in sorted((PROJECT / "book").glob("api*.md"))}
    return {name: page for page, text in pages.items() for name in re.findall(r"automodule:: (\S+)", text)}


def api_link(thing: Any) -> str:
    """Address of a function, class or method in the API reference, relative to any page of the book.

    A private one has no entry: its class is linked to, or its module.

    Raises:
        ValueError: if no page documents its module.
    """
    module = thing.__module__
    public = list(takewhile(lambda name: not name.startswith("_"), thing.__qualname__.split(".")))
    anchor = ".".join([module, *public]) if public else f"module-{module}"
    if module not in reference():
        known = ", ".join(FOLDERS)
        raise ValueError(f"{module}.{thing.__qualname__} is not in the API reference: expected one of {known}")
    return f"{reference()[module]}.html#{anchor}"


def source(thing: Callable[..., object]) -> Any:
    """Show the code of a function or class as it runs, without its docstring, and above it the file and the line.

    The line links to the API reference, which has the docstring, where there is one: a copy without ``book/`` has not.
    The output is Markdown, the same bytes every time.
    """
    from IPython.display import Markdown  # a notebook has it

    package = thing.__module__.split(".")[0]
    home = Path(str(sys.modules[package].__file__)).parent
    file = Path(FOLDERS[package], Path(inspect.getfile(inspect.unwrap(thing))).relative_to(home)).as_posix()
    lines, first = inspect.getsourcelines(thing)
    code = re.sub(r'\n +"""(?s:.*?)"""', "", textwrap.dedent("".join(lines)), count=1).strip()
    where = f"`{file}`, line {first}"
    head = f"[{where}]({api_link(thing)})" if reference() else where
    return Markdown(f"{head}\n\n```python\n{code}\n```")


def settings(config: LearnerConfig) -> Any:
    """Show a learner's hyperparameters, value and meaning of each; defects that are off are left out."""
    from IPython.display import Markdown  # a notebook has it

    rows = ["| hyperparameter | value | meaning |", "|---|---|---|"]
    for prefix, model in (("", config), ("network: ", config.network)):
        for name, field in type(model).model_fields.items():
            value = getattr(model, name)
            if name != "network" and not (name.startswith("defect") and not value):
                rows.append(f"| {prefix}`{name}` | {value} | {field.description or ''} |")
    return Markdown("\n".join(rows))
