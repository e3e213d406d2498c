"""Sphinx extension of the book: what the API reference shows of a class, links to it, launch buttons, link previews."""

import inspect
import os
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

from docutils import nodes
from pydantic import BaseModel
from sphinx.addnodes import desc_annotation, pending_xref
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.ext.autosummary import Autosummary
from sphinx.ext.napoleon import GoogleDocstring
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.typing import restify

from meirl_book.pages import pages

SIGNS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}


class Summary(Autosummary):
    """Tables, a line an entry: ``.. summary:: page`` of a page's modules, without a page of what this page's define."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Hand the names to autosummary, in the order of page and source."""
        self.options["nosignatures"] = True
        page = Path(self.env.doc2path(self.env.docname))
        text = (page.with_stem(self.arguments[0]) if self.arguments else page).read_text(encoding="utf-8")
        self.content = [  # type: ignore[assignment]
            name
            for module, closed in re.findall(r"automodule:: (\S+)(\s+:no-members:)?", text)
            for name in [module, *([] if self.arguments or closed else defined(module))]
        ]
        return super().run()


def defined(module: str) -> list[str]:
    """Public functions and classes that a module defines, as autosummary wants them to be shown without the module."""
    members = vars(import_module(module)).items()
    names = (name for name, value in members if getattr(value, "__module__", None) == module)
    return [f"~{module}.{name}" for name in names if not name.startswith("_")]


class FullNames(SphinxPostTransform):
    """A name links to what Python finds under it: ``Env`` in `meirl.rollout`, or ``meirl.make`` anywhere."""

    default_priority = 5  # before Sphinx resolves references

    def run(self, **_: Any) -> None:
        """Give references the name under which the API reference has their target."""
        for node in self.document.findall(pending_xref):
            if node["refdomain"] == "py" and node["reftype"] != "mod":
                node["reftarget"] = full_name(node.get("py:module"), node["reftarget"])


class Values(SphinxPostTransform):
    """The value of a constant is shown if it reads like Python: no folder of this machine, no ``<function ...>``."""

    default_priority = 5

    def run(self, **_: Any) -> None:
        """Drop the others."""
        for node in list(self.document.findall(desc_annotation)):
            if re.match(r"\s*= .*(Path\(|<)", node.astext(), re.DOTALL):
                node.parent.remove(node)


class Percent(SphinxPostTransform):
    """No line ends between a number, typed or glued, and its percent sign."""

    default_priority = 900  # after glue

    def run(self, **_: Any) -> None:
        """Put a no-break space there."""
        for text in list(self.document.findall(nodes.Text)):
            if " %" in text and not isinstance(text.parent, nodes.literal | nodes.FixedTextElement | nodes.math):
                text.parent.replace(text, nodes.Text(re.sub(r"(^|(?<=\d)) %", "\u00a0%", text)))


def full_name(module: str | None, name: str) -> str:
    """Name of a function, class or member where it is defined; any other name as it is."""
    first, *rest = name.split(".")
    for start, path in ((module or "", [first, *rest]), (first, rest)):
        owner: Any = None
        value: Any = sys.modules.get(start)
        for part in path:
            owner, value = value, getattr(value, part, None)
        if hasattr(value, "__qualname__"):
            return f"{value.__module__}.{value.__qualname__}"
        if value is not None and inspect.isclass(owner):
            return f"{owner.__module__}.{owner.__qualname__}.{path[-1]}"
    return name


def parameters(model: type[BaseModel]) -> Iterator[list[str]]:
    """Rows of the table of a model's parameters."""
    types = get_type_hints(model)
    if model.model_fields:
        yield ["parameter", "type", "default", "bounds", "meaning"]
    for name, field in model.model_fields.items():
        value = field.get_default(call_default_factory=True)
        default = "all its defaults" if isinstance(value, BaseModel) else f"``{value!r}``"
        limits = ((sign, getattr(limit, key, None)) for limit in field.metadata for key, sign in SIGNS.items())
        bounds = ", ".join(f"{sign}\u00a0{value:g}" for sign, value in limits if value is not None)
        yield [
            f"``{name}``", restify(types[name], "smart"), "" if field.is_required() else default, bounds,
            field.description or "",
        ]  # fmt: skip


def fields(kind: type) -> Iterator[list[str]]:
    """Rows of the table of a named tuple's fields, with the comments of its source; none without comments."""
    comment = r"^    (\w+): [^#\n]*  # (?:noqa: \w+  # )?(.*)$"
    meanings = dict(re.findall(comment, inspect.getsource(kind), re.MULTILINE)) if hasattr(kind, "_fields") else {}
    if meanings:
        types = get_type_hints(kind)
        yield ["field", "type", "meaning"]
        yield from ([f"``{name}``", restify(types[name], "smart"), meanings.get(name, "")] for name in kind._fields)  # type: ignore[attr-defined]


def add_table(app: Sphinx, _what: str, name: str, value: Any, _options: Any, lines: list[str]) -> None:
    """Describe the parameters of a model and the fields of a named tuple by a table, not by their types alone."""
    if not inspect.isclass(value):
        return
    if rows := list(parameters(value) if issubclass(value, BaseModel) else fields(value)):
        app.env.temp_data.get("annotations", {}).pop(name, None)
        lines += ["", ".. list-table::", "   :header-rows: 1", ""]
        lines += [f"   {' ' if i else '*'} - {cell}" for row in rows for i, cell in enumerate(row)]


def signature(_app: Sphinx, _what: str, _name: str, value: Any, *_: Any) -> tuple[str, None] | None:
    """Leave the signature of a model to its table."""
    return ("", None) if inspect.isclass(value) and issubclass(value, BaseModel) else None


def plain_types(_app: Sphinx, value: Any, _bound: bool) -> None:
    """Leave out of a command's types what typer keeps there: objects, shown with their address in memory."""
    if any("Annotated[" in str(kind) for kind in getattr(value, "__annotations__", {}).values()):
        value.__annotations__ = get_type_hints(value)


def prose(self: GoogleDocstring, preprocess_types: bool = False) -> list[tuple[str, str, list[str]]]:
    """What is returned, as a section of napoleon's: annotations have the type, so a colon in a sentence ends none."""
    lines = self._dedent(self._consume_to_next_section())
    return [("", "", self.__class__(lines, self._config).lines())] if lines else []


def prose_of_attribute(self: GoogleDocstring) -> tuple[str, list[str]]:
    """The same for what stands below a constant."""
    lines = [self._lines.next(), *self._dedent(self._consume_to_end())]
    return "", self.__class__(lines, self._config).lines()


GoogleDocstring._consume_returns_section = prose  # type: ignore[method-assign]
GoogleDocstring._consume_inline_attribute = prose_of_attribute  # type: ignore[method-assign]


def skip(_app: Sphinx, _what: str, _name: str, member: Any, *_: Any) -> bool | None:
    """Leave out "Alias for field number 3"."""
    return type(member).__name__ == "_tuplegetter" or None


def lists_in_items(_app: Sphinx, page: str, _template: str, context: dict[str, Any], _tree: Any) -> None:
    """Put a list in a list into the item that it belongs to: Sphinx's index of sources leaves it between items."""
    if page == "_modules/index":
        context["body"] = re.sub(r"</li>\n<ul>(.*?)</ul>", r"<ul>\1</ul></li>\n", context["body"], flags=re.DOTALL)


def without_thebe(_app: Sphinx, _page: str, _template: str, context: dict[str, Any], _tree: Any) -> None:
    """Drop the scripts of Thebe: Jupyter Book loads it, unasked and twice, which is an error on every page."""
    scripts = context.get("script_files", [])
    context["script_files"] = [s for s in scripts if "thebe" not in f"{s.filename} {s.attributes}".lower()]


def repository(root: Path) -> str:
    """The project on GitHub, ``owner/name``; empty if it has no address.

    The address stands in one place, ``Repository`` of ``[project.urls]`` in ``pyproject.toml``. A fork that builds the
    book on GitHub Actions has another one, which Actions knows.

    Args:
        root: the project's folder.

    Raises:
        ValueError: if the address is not one on GitHub.
    """
    if told := os.environ.get("GITHUB_REPOSITORY"):
        return told
    file = root / "pyproject.toml"
    stated = tomllib.loads(file.read_text(encoding="utf-8"))["project"].get("urls", {}) if file.exists() else {}
    if not (address := stated.get("Repository")):
        return ""
    if not (found := re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?", address)):
        raise ValueError(f"{file}: project.urls.Repository must be https://github.com/OWNER/NAME, got {address!r}")
    return found[1]


def launch(_app: Sphinx, page: str, _template: str, context: dict[str, Any], _tree: Any) -> None:
    """Add a link to the repository, and to a chapter a menu that opens its notebook, at profile quick."""
    if home := repository(Path.cwd()):
        context["header_buttons"].append(
            {
                "type": "link", "text": "Repository", "tooltip": "Source code and issues", "icon": "fab fa-github",
                "url": f"https://github.com/{home}", "label": "repository-button",
            }
        )  # fmt: skip
        notebooks = {f"book/{p.name}": p.notebook.stem for p in pages(Path.cwd())}
        if page in notebooks:
            context["header_buttons"].append(launch_buttons(home, f"notebooks/{notebooks[page]}.ipynb"))


def launch_buttons(repository: str, path: str) -> dict[str, Any]:
    """The theme's description of a menu that opens a notebook of a GitHub repository on Binder or Colab."""
    binder = f"https://mybinder.org/v2/gh/{repository}/main?urlpath=lab/tree/{path}"
    colab = f"https://colab.research.google.com/github/{repository}/blob/main/{path}"
    # The theme puts the text between double quotes as it is.
    install = f"Colab; first run: %pip install 'meirl[book] @ git+https://github.com/{repository}'"
    links = [("Binder", "Run on Binder", binder), ("Colab", install, colab)]
    buttons = [
        {"type": "link", "text": text, "tooltip": tooltip, "icon": "fas fa-play", "url": url}
        for text, tooltip, url in links
    ]
    return {
        "type": "group", "buttons": buttons, "icon": "fas fa-rocket", "tooltip": "Run this notebook",
        "label": "launch-buttons",
    }  # fmt: skip


def published_at(_app: Sphinx, config: Config) -> None:
    """Tell `sphinxext.opengraph` where GitHub Pages puts the book."""
    if (home := repository(Path.cwd())) and not config.ogp_site_url:
        owner, name = home.split("/")
        host = f"{owner.lower()}.github.io"
        config.ogp_site_url = f"https://{host}/" if name.lower() == host else f"https://{host}/{name}/"


def front_door(app: Sphinx, error: Exception | None) -> None:
    """Give ``index.html``, which only sends on to the first page, that page's title and preview."""
    first = Path(app.outdir, app.builder.get_target_uri(app.config.root_doc))
    if error or app.builder.name != "html" or not first.exists():
        return
    head = first.read_text(encoding="utf-8").split("</head>")[0]
    shown = re.findall(r'<title>.*?</title>|<meta (?:property="og:|name="description")[^>]*>', head, re.DOTALL)
    link = first.relative_to(app.outdir).as_posix()
    send = f'<meta http-equiv="refresh" content="0; url={link}">'
    head = "\n".join(['<meta charset="utf-8">', *shown, send])
    body = f'<a href="{link}">{app.config.html_title}</a>'
    text = (
        f'<!DOCTYPE html>\n<html lang="{app.config.language}">\n<head>\n{head}\n</head>\n<body>{body}</body>\n</html>\n'
    )
    Path(app.outdir, "index.html").write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register all of it."""
    app.add_directive("summary", Summary)
    app.add_post_transform(FullNames)
    app.add_post_transform(Values)
    app.add_post_transform(Percent)
    app.connect("autodoc-process-docstring", add_table, priority=600)  # after napoleon
    app.connect("autodoc-before-process-signature", plain_types)
    app.connect("autodoc-process-signature", signature)
    app.connect("autodoc-skip-member", skip)
    app.connect("html-page-context", without_thebe)
    app.connect("html-page-context", lists_in_items)
    app.connect("html-page-context", launch, priority=502)  # after the theme has made its buttons
    app.connect("config-inited", published_at)
    app.connect("build-finished", front_door, priority=900)  # after the table of contents has written its own
    return {"parallel_read_safe": True}
