"""The project's own files agree with each other: versions, verbs, workflow, floors and sizes of the code."""

import ast
import io
import re
import tokenize
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def pins(lines: list[str]) -> dict[str, str]:
    found = (line.split("#")[0].strip().split("==") for line in lines if "==" in line)
    return {canonicalize_name(name): version for name, version in found}


CONSTRAINTS = pins((ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines())
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
PIP = next(entry["pip"] for entry in CONDA["dependencies"] if isinstance(entry, dict))
EXTRAS = PROJECT["optional-dependencies"]


def required(lines: list[str]) -> list[Requirement]:
    """Requirements, with the project's own extras resolved."""
    found = []
    for requirement in map(Requirement, lines):
        own = [line for extra in requirement.extras for line in EXTRAS[extra]]
        found += required(own) if requirement.name == PROJECT["name"] else [requirement]
    return found


REQUIREMENTS = required([*PROJECT["dependencies"], *EXTRAS["book"], *EXTRAS["test"]])


def test_conda_environment_has_the_versions_of_the_constraints():
    versions = pins(PIP)
    assert versions.items() <= CONSTRAINTS.items()
    assert set(versions) == {canonicalize_name(r.name) for r in REQUIREMENTS}
    assert "-e .[book,test]" in PIP


def test_conda_python_is_one_the_project_supports():
    python = next(d for d in CONDA["dependencies"] if str(d).startswith("python="))
    assert python.removeprefix("python=") in PROJECT["requires-python"]


@pytest.mark.parametrize("requirement", sorted(REQUIREMENTS, key=str), ids=lambda r: r.name)
def test_constraints_satisfy_the_project(requirement):
    assert requirement.specifier.contains(CONSTRAINTS[canonicalize_name(requirement.name)], prereleases=True)


def test_every_version_of_the_constraints_runs_on_the_oldest_python_that_is_promised():
    oldest = PROJECT["requires-python"].removeprefix(">=") + ".0"
    needed = {canonicalize_name(d.name): d.metadata["Requires-Python"] or "" for d in distributions()}
    there = {canonicalize_name(d.name): d.version for d in distributions()}
    pinned = [name for name, version in there.items() if CONSTRAINTS.get(name) == version]
    assert len(pinned) > 100
    assert {name: needed[name] for name in pinned if not SpecifierSet(needed[name]).contains(oldest)} == {}


def test_the_extra_book_has_what_chapters_import():
    assert {"joblib", "matplotlib", "stable-baselines3"} <= {r.name for r in required(EXTRAS["book"])}


def test_every_make_verb_is_listed_by_help_and_in_the_readme():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    for verb in phony.split():
        assert re.search(rf"^{verb}:.*## ", makefile, re.MULTILINE), verb
        assert f"make {verb}" in readme, verb


def test_ci_runs_what_the_readme_says():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make test" in readme
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "book.yml").read_text(encoding="utf-8"))
    assert {"run": "make test"} in workflow["jobs"]["test"]["steps"]
    assert {"run": "make book"} in workflow["jobs"]["quick"]["steps"]
    assert set(workflow["jobs"]["deploy"]["needs"]) == set(workflow["jobs"]) - {"deploy"}


# --- the floors ------------------------------------------------------------------------------------------------------
# Imports only go down this list. A file belongs to the first line that its module's name begins with.
FLOORS = (
    "meirl_book", "meirl_study", "meirl.__main__", "meirl.learn", "meirl.heuristics.tuning", "meirl.heuristics",
    "meirl.evaluation", "meirl.rollout", "meirl.envs", "meirl.config", "meirl.files", "meirl.device",
)  # fmt: skip
OPTIONAL = ("stable_baselines3", "dask", "distributed", "ray", "myst_nb", "IPython")
PACKAGES = {"meirl": ROOT / "meirl", "meirl_study": ROOT / "notebooks" / "meirl_study", "meirl_book": ROOT / "book"}


def modules() -> dict[str, tuple[Path, bool]]:
    """Every module of the three packages: its file, and whether it is a package's own."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            if parts[0] != "_ext":
                name = ".".join([package, *parts]).removesuffix(".__init__")
                found[name] = (path, path.stem == "__init__")
    return found


MODULES = modules()


def imported(name: str) -> list[tuple[str, int, bool]]:
    """What a module imports: the module's name, the line, and whether it stands inside a function."""
    path, is_package = MODULES[name]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        id(node) for function in ast.walk(tree) if isinstance(function, (ast.FunctionDef, ast.Lambda))
        for node in ast.walk(function)
    }  # fmt: skip
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            home = name.split(".")[: len(name.split(".")) - node.level + is_package] if node.level else []
            base = ".".join([*home, *([node.module] if node.module else [])])
            full = [f"{base}.{alias.name}" for alias in node.names]
            targets = [one if one in MODULES else base for one in full]
        else:
            continue
        found += [(target, node.lineno, id(node) in inside) for target in targets]
    return found


def floor(name: str) -> int:
    """Position in `FLOORS`, 0 at the top."""
    return next(i for i, start in enumerate(FLOORS) if name == start or name.startswith(f"{start}."))


@pytest.mark.parametrize("name", [n for n in MODULES if n != "meirl"])
def test_imports_only_go_down(name):
    for target, line, _ in imported(name):
        if target in MODULES and target != "meirl":
            assert floor(target) >= floor(name), f"{name}, line {line}: {target} is above it"


def test_no_ring_of_imports():
    graph = {name: {target for target, _, _ in imported(name) if target in MODULES} - {name} for name in MODULES}
    while leaves := [name for name, targets in graph.items() if not targets & graph.keys()]:
        for name in leaves:
            del graph[name]
    assert not graph, f"these import each other: {', '.join(graph)}"


def test_no_import_inside_a_function_except_of_optional_extras():
    hidden = [(name, *rest) for name in MODULES for *rest, inside in imported(name) if inside]
    hidden = [entry for entry in hidden if entry[1].split(".")[0] not in OPTIONAL]
    assert not [entry for entry in hidden if not entry[1].endswith("sb3")], "only optional extras may be imported so"


def test_the_library_is_thin():
    """So many lines at most, without docstrings, comments and blanks and with; raise it only for what users need."""
    code, total = 0, 0
    for name, (path, _) in MODULES.items():
        if name.split(".")[0] == "meirl":
            text = path.read_text(encoding="utf-8")
            code, total = code + code_lines(text), total + text.count("\n")
    assert code <= 2_915
    assert total <= 4_525


def code_lines(text: str) -> int:
    """Lines that hold code: no docstrings, comments or blanks."""
    documented: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            documented |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in silent:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return len(lines - documented)


@pytest.mark.parametrize("name", MODULES)
def test_a_file_is_read_from_top_to_bottom_and_a_function_fits_a_screen(name):
    text = MODULES[name][0].read_text(encoding="utf-8")
    assert text.count("\n") <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            length = node.end_lineno - body[0].lineno + 1 if body else 0
            assert length <= 45, f"{name}: {node.name} has {length} lines"


def test_which_chain_an_environment_is_is_asked_in_envs_only():
    asked = re.compile(r"\.chain\s*(==|!=|in)\s|startswith\(\"(divergent|meis)")
    for name, (path, _) in MODULES.items():
        if not name.startswith("meirl.envs"):
            found = asked.search(path.read_text(encoding="utf-8"))
            assert not found, f"{name}: {found.group() if found else ''}"
